"""Installing, linking and removing the package, in environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

FIND = """
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
import sys
for name in sys.argv[1:]:
    try:
        print(name, sys.modules[find(name).__module__].__file__)
    except RuntimeError:
        print(name, "missing")
"""


class Environment:
    """A virtual environment that sees the packages of this one, but not ours."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=False)
        self.scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.python = self.scripts / ("python.exe" if sys.platform == "win32" else "python")
        self.site_packages = Path(
            self.run("-c", "import sysconfig as s; print(s.get_path('purelib'))")
        )
        # .pth files of a folder that is added like this are not read, so ours there are not, either
        (self.site_packages / "outer.pth").write_text(sysconfig.get_path("purelib"))

    def run(self, *arguments: str | Path) -> str:
        result = subprocess.run(
            [self.python, *arguments], cwd=self.scripts, capture_output=True, text=True, check=True
        )
        assert "Error processing line" not in result.stderr
        return result.stdout.strip()

    def s2ca(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.scripts / "s2ca", *arguments], capture_output=True, text=True)

    def pip(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.python, *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

    def trainers(self) -> dict[str, str]:
        """Trainer → file from which nnU-Net takes it."""
        names = ("nnUNetTrainerS2CA", "nnUNetTrainer_5epochs")
        lines = self.run("-c", FIND, *names).splitlines()
        return dict(line.split(" ", 1) for line in lines if line.startswith(names))


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "environment")


@pytest.fixture
def checkout(tmp_path):
    """A copy, since building writes into the checkout."""
    hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "demo", "results")
    return shutil.copytree(CHECKOUT, tmp_path / "checkout", ignore=hidden)


def test_normal_install_is_found_and_removed_cleanly(environment, checkout):
    assert environment.trainers()["nnUNetTrainerS2CA"] == "missing"
    environment.pip("install", "--no-deps", "--no-build-isolation", checkout)
    shutil.rmtree(checkout)
    found = environment.trainers()
    assert Path(found["nnUNetTrainerS2CA"]).is_relative_to(environment.site_packages)
    assert environment.run("-c", "from nnunetv2_s2ca import S2CANet; print(S2CANet.__name__)")
    assert environment.run("-c", "import nnunetv2_s2ca.dataset_conversion as d; print(d.__name__)")
    # nothing of a general name, and nothing in nnU-Net's folder
    assert not (environment.site_packages / "nnunetv2").exists()
    assert not (environment.site_packages / "dataset_conversion").exists()

    environment.pip("uninstall", "-y", "nnunetv2-s2ca")
    gone = environment.trainers()
    assert gone["nnUNetTrainerS2CA"] == "missing"
    assert gone["nnUNetTrainer_5epochs"] == found["nnUNetTrainer_5epochs"]
    assert not list(environment.site_packages.glob("nnunetv2*"))


def test_editable_install_is_found_after_one_command_that_the_doctor_names(environment, checkout):
    environment.pip("install", "--no-deps", "--no-build-isolation", "-e", checkout)
    assert environment.trainers()["nnUNetTrainerS2CA"] == "missing"
    doctor = environment.s2ca("doctor")
    assert doctor.returncode == 1
    assert "s2ca link" in doctor.stdout
    environment.s2ca("link").check_returncode()
    assert Path(environment.trainers()["nnUNetTrainerS2CA"]).is_relative_to(checkout)

    environment.pip("uninstall", "-y", "nnunetv2-s2ca")
    gone = environment.trainers()
    assert gone["nnUNetTrainerS2CA"] == "missing"
    assert gone["nnUNetTrainer_5epochs"] != "missing"


def test_half_removed_install_leaves_nnunet_alone(environment, checkout):
    environment.pip("install", "--no-deps", "--no-build-isolation", checkout)
    for path in (environment.site_packages / "nnunetv2_s2ca").rglob("*.py"):
        path.unlink()
    trainers = environment.trainers()
    assert trainers["nnUNetTrainerS2CA"] == "missing"
    assert trainers["nnUNetTrainer_5epochs"] != "missing"
