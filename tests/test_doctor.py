"""What `s2ca doctor` says about good and bad surroundings."""

from __future__ import annotations

import pytest

from nnunetv2_s2ca import cli, doctor, startup


@pytest.fixture
def healthy(tmp_path, monkeypatch):
    """nnU-Net's folders are there, and the trainers are known."""
    startup.register()
    for name in doctor.PATHS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def _finding(topic):
    return next(finding for finding in doctor.examine() if finding.topic == topic)


def test_training_can_start_in_a_healthy_environment(healthy, capsys):
    assert cli.main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "Training can start." in output
    assert "trainer.py" in output


@pytest.mark.parametrize("name", doctor.PATHS)
def test_unset_path_is_fatal_and_named(healthy, monkeypatch, capsys, name):
    monkeypatch.delenv(name)
    assert cli.main(["doctor"]) == 1
    assert f"set the environment variable {name}" in capsys.readouterr().out


def test_missing_folder_is_fatal_and_the_remedy_makes_it(healthy, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(healthy / "none"))
    finding = _finding("nnUNet_raw")
    assert finding.fatal
    assert finding.remedy == f'mkdir -p "{healthy / "none"}"'


def test_folder_that_is_a_file_is_fatal(healthy, monkeypatch):
    (healthy / "file").touch()
    monkeypatch.setenv("nnUNet_results", str(healthy / "file"))
    assert _finding("nnUNet_results").fatal


def test_old_package_is_fatal_and_the_remedy_installs_a_newer_one(healthy, monkeypatch):
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "2.5" if name == "nnunetv2" else real(name))
    finding = _finding("nnunetv2")
    assert finding.fatal
    assert finding.remedy == 'pip install "nnunetv2>=2.8"'


def test_unseen_trainer_is_fatal_and_the_remedy_is_link(healthy, monkeypatch):
    monkeypatch.setattr(doctor, "TRAINER", "nnUNetTrainerUnseen")
    finding = _finding("nnUNetTrainerUnseen")
    assert finding.fatal
    assert "s2ca link" in finding.remedy


def test_little_disk_and_memory_warn_but_do_not_forbid(healthy, monkeypatch):
    monkeypatch.setattr(doctor, "LOW_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "LOW_MEMORY_GB", 1e9)
    for topic in ("nnUNet_raw", "memory"):
        finding = _finding(topic)
        assert finding.remedy
        assert not finding.fatal
