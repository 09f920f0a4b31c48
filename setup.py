"""Package metadata of nnunetv2-s2ca."""

from pathlib import Path

from setuptools import find_packages, setup

# Two folders of the checkout are installed under other names.
# - `dataset_conversion` stands at the top of the checkout, but no package of so general a name
#   may land in site-packages.
# - `nnunetv2_s2ca/nnunet_variant` holds the module by which nnU-Net finds the trainers; nnU-Net
#   looks below its own `variants` folder only. See the module's docstring for the why.
RELOCATED = {
    "nnunetv2_s2ca.dataset_conversion": "dataset_conversion",
    "nnunetv2.training.nnUNetTrainer.variants.s2ca": "nnunetv2_s2ca/nnunet_variant",
}

setup(
    name="nnunetv2-s2ca",
    version="0.1.0",
    description="S2CA-Net, a brain tumour segmentation network, as a plug-in for nnU-Net v2",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["nnunetv2_s2ca*"], exclude=["nnunetv2_s2ca.nnunet_variant"]),
        *RELOCATED,
    ],
    package_dir=RELOCATED,
    install_requires=[
        "torch>=2.3",
        "nnunetv2>=2.8",
        "batchgenerators>=0.25.1",
        "dynamic-network-architectures>=0.4.4",
        "acvl-utils>=0.2.3",
        "SimpleITK>=2.2.1",
        "timm>=1.0",
        "numpy>=1.24",
        "nibabel>=5.0",
        "nilearn>=0.10",
        "scipy>=1.10",
        "matplotlib>=3.7",
        "tqdm>=4.64",
        "psutil>=5.9",
    ],
    extras_require={
        "dev": [
            "hypothesis>=6.100",
            "mypy>=1.10",
            "pytest>=8",
            "ruff>=0.9",
        ],
    },
    entry_points={"console_scripts": ["s2ca = nnunetv2_s2ca.cli:main"]},
)
