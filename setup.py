"""Package metadata of nnunetv2-s2ca."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# `dataset_conversion` is at the top of the checkout, but must not install a package of so general
# a name.
RELOCATED = {"nnunetv2_s2ca.dataset_conversion": "dataset_conversion"}

# Python reads this file at startup if it is at the top of site-packages, so that nnU-Net finds the
# trainers; see `nnunetv2_s2ca.startup`.
PTH_FILE = Path("nnunetv2_s2ca", "nnunetv2-s2ca.pth")

# for `s2ca export-network --format onnx`; GridSample in 3D came with onnxruntime 1.18
ONNX = ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.3"]


class BuildWithPthFile(build_py):
    """Put the `.pth` file at the top of the wheel; an editable install needs `s2ca link`."""

    def run(self):
        super().run()
        if not self.editable_mode:
            self.mkpath(self.build_lib)
            shutil.copyfile(Path(__file__).parent / PTH_FILE, self._pth_output())

    def get_outputs(self, include_bytecode=True):
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(self._pth_output())]

    def _pth_output(self):
        return Path(self.build_lib, PTH_FILE.name)


setup(
    name="nnunetv2-s2ca",
    version="0.1.0",
    description="S2CA-Net, a brain tumour segmentation network, as a plug-in for nnU-Net v2",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    url="https://doi.org/10.1109/TMI.2024.3368531",
    project_urls={
        "Paper": "https://doi.org/10.1109/TMI.2024.3368531",
        "nnU-Net": "https://github.com/MIC-DKFZ/nnUNet",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[*find_packages(include=["nnunetv2_s2ca*"]), *RELOCATED],
    package_dir=RELOCATED,
    package_data={
        "nnunetv2_s2ca": [PTH_FILE.name, "py.typed", "reporting/templates/*", "viewer/templates/*"]
    },
    cmdclass={"build_py": BuildWithPthFile},
    install_requires=[
        # nnU-Net's own bound is lower, but compiled networks call `torch.compiler.is_exporting`
        "torch>=2.7",
        "nnunetv2>=2.8",
        # nnU-Net requires these; stated for the versions that we test with
        "batchgenerators>=0.25.1",
        "batchgeneratorsv2>=0.3.2",
        "dynamic-network-architectures>=0.4.4",
        "acvl-utils>=0.2.3",
        "SimpleITK>=2.2.1",
        "numpy>=1.24",
        "nibabel>=5.0",
        "isal>=1.6",
        "nilearn>=0.14",
        "scikit-learn>=1.3",
        "scipy>=1.15",
        "connected-components-3d>=3.20",
        "surface-distance>=0.1",
        "submitit>=1.5",
        "matplotlib>=3.7",
        "contourpy>=1.0.7",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "pillow>=10",
        "tqdm>=4.64",
        "packaging>=22",
        "psutil>=5.9",
    ],
    extras_require={
        # the challenge's own program, under the AGPL: optional
        "official": ["brats-evaluation>=0.0.10"],
        "notebook": ["ipyniivue>=2.0"],
        "onnx": ONNX,
        # finds the brain for `s2ca prepare`
        "hd-bet": ["hd-bet>=2.0"],
        "dev": [
            *ONNX,
            "monai>=1.5",
            "hypothesis>=6.100",
            "import-linter>=2.3",
            "mkdocs-material>=9.6",
            "mkdocstrings[python]>=1.0",
            # mypy and ruff change what they accept with minor versions
            "mypy>=2.4,<2.5",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.17,<0.18",
            # the pages in headless Chromium, where that is installed
            "selenium>=4.20",
            "axe-selenium-python>=2.1.6",
            "setuptools>=77",
        ],
    },
    entry_points={"console_scripts": ["s2ca = nnunetv2_s2ca.cli:main"]},
)
