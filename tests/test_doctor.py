"""What `s2ca doctor` says about good and bad surroundings."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from nnunetv2_s2ca import cli, devices, doctor, startup


@pytest.fixture
def healthy(tmp_path, monkeypatch):
    """nnU-Net's folders are there, and the trainers are known."""
    startup.register()
    for name in doctor.PATHS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    # a trial takes half a second, and has tests of its own
    monkeypatch.setattr(devices, "try_device", lambda device: devices.Trial(device, True, True))
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
    monkeypatch.setenv("nnUNet_raw", str(healthy / "none" / "raw"))
    finding = _finding("nnUNet_raw")
    assert finding.fatal
    assert finding.remedy == f"create the folder {healthy / 'none' / 'raw'}"


@pytest.mark.parametrize("below", ["", "raw", "raw/deeper"])
def test_path_through_a_file_is_fatal_and_names_the_file(healthy, monkeypatch, below):
    (healthy / "file").touch()
    monkeypatch.setenv("nnUNet_raw", str(healthy / "file" / below))
    finding = _finding("nnUNet_raw")
    assert finding.fatal
    assert finding.text == f"{healthy / 'file'} is a file"
    assert finding.remedy == "set nnUNet_raw to a folder"


def test_home_folder_in_quotes_is_fatal_and_the_remedy_says_why(healthy, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "~/raw")
    finding = _finding("nnUNet_raw")
    assert finding.fatal
    assert "does not expand the ~" in finding.text
    assert "quotes" in finding.remedy


def test_overlong_name_is_fatal_and_ends_nothing(healthy, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(healthy / ("x" * 300)))
    assert cli.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "File name too long" in output
    assert "memory" in output


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_folder_that_takes_no_file_is_fatal_and_the_reason_is_told(healthy, monkeypatch, code):
    def refuse(*, dir):
        raise OSError(code, os.strerror(code), dir)

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    finding = _finding("nnUNet_results")
    assert finding.fatal
    assert os.strerror(code) in finding.text
    assert finding.remedy == "set nnUNet_results to a folder that you may write to"


def test_folder_is_left_as_it_was(healthy):
    assert not _finding("nnUNet_raw").fatal
    assert list((healthy / "nnUNet_raw").iterdir()) == []


def test_relative_folder_warns_and_the_remedy_is_the_whole_path(healthy, monkeypatch):
    monkeypatch.chdir(healthy)
    monkeypatch.setenv("nnUNet_raw", "nnUNet_raw")
    finding = _finding("nnUNet_raw")
    assert not finding.fatal
    assert str(healthy / "nnUNet_raw") in finding.remedy


def test_full_disk_is_fatal_and_the_remedy_is_space_or_another_disk(healthy, monkeypatch):
    monkeypatch.setattr(
        doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=200_000_000)
    )
    finding = _finding("nnUNet_results")
    assert finding.fatal
    assert "0.2 GB free" in finding.text
    assert "free space on this disk, or set nnUNet_results" in finding.remedy


@pytest.mark.parametrize(
    ("module", "topic"),
    [("packaging.requirements", "packages"), ("torch", "device"), ("psutil", "memory")],
)
def test_package_that_cannot_be_imported_is_fatal_and_the_other_checks_go_on(
    healthy, monkeypatch, capsys, module, topic
):
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["doctor"]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1
    assert topic in failed[0]
    assert module in failed[0]


def test_own_package_without_metadata_is_fatal_and_the_remedy_installs_it(healthy, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distribution", _not_installed)
    finding = _finding("nnunetv2-s2ca")
    assert finding.fatal
    assert finding.remedy.startswith("pip install .")


def test_missing_package_is_fatal_and_the_remedy_installs_it(healthy, monkeypatch):
    real = doctor.version
    monkeypatch.setattr(
        doctor, "version", lambda name: _not_installed(name) if name == "isal" else real(name)
    )
    finding = _finding("isal")
    assert finding.fatal
    assert finding.text == "is not installed"
    assert finding.remedy == 'pip install "isal>=1.6"'


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


def test_trainer_that_cannot_be_imported_is_fatal_and_the_reason_is_told(healthy, monkeypatch):
    monkeypatch.setitem(sys.modules, "nnunetv2_s2ca.training", None)
    finding = _finding("nnUNetTrainerS2CA")
    assert finding.fatal
    assert "nnunetv2_s2ca.training" in finding.text
    assert "reinstall" in finding.remedy


@pytest.mark.parametrize(
    ("cuda", "mps", "text", "remedy"),
    [
        (True, False, "cuda: Card (80 GB), Card (80 GB)", ""),
        (False, True, "mps; add `-device mps` to nnU-Net's commands", ""),
        (False, False, "no GPU that PyTorch can use", "-device cpu"),
    ],
)
def test_device_is_the_best_that_pytorch_can_use(healthy, monkeypatch, cuda, mps, text, remedy):
    card = SimpleNamespace(name="Card", total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    finding = _finding("device")
    assert text in finding.text
    assert remedy in finding.remedy
    assert bool(finding.remedy) == bool(remedy)
    assert not finding.fatal


def test_little_disk_and_memory_warn_but_do_not_forbid(healthy, monkeypatch):
    monkeypatch.setattr(doctor, "LOW_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "LOW_MEMORY_GB", 1e9)
    for topic in ("nnUNet_raw", "memory"):
        finding = _finding(topic)
        assert finding.remedy
        assert not finding.fatal


def _not_installed(name):
    raise importlib.metadata.PackageNotFoundError(name)


def _fake_cards(monkeypatch, *cards):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda card: cards[int(str(card).split(":")[-1])]
    )


def test_each_device_is_tried_and_each_kind_of_card_gets_a_plan(healthy, monkeypatch):
    small, large = (SimpleNamespace(name=f"Card {gb}", total_memory=gb * 10**9) for gb in (8, 80))
    _fake_cards(monkeypatch, small, large, small)
    findings = {finding.topic: finding for finding in doctor.examine()}
    tried = [topic for topic in findings if topic.startswith("S2CA-Net on")]
    assert tried == [f"S2CA-Net on {name}" for name in ("cuda:0", "cuda:1", "cuda:2", "cpu")]
    assert "-gpu_memory_target 8.0" in findings["plan for Card 8"].remedy
    assert not findings["plan for Card 8"].fatal
    assert "128×128×128" in findings["plan for Card 80"].text
    assert not findings["plan for Card 80"].remedy


@pytest.mark.parametrize(
    ("device", "predicts", "fatal", "text"),
    [
        ("cuda:0", False, True, "does not run: broken"),
        ("mps", True, False, "predicts, but does not train: broken"),
        ("cpu", False, True, "does not run: broken"),
    ],
)
def test_a_device_that_fails_is_fatal_unless_nnunet_has_to_be_told_to_use_it(
    healthy, monkeypatch, capsys, device, predicts, fatal, text
):
    monkeypatch.setattr(devices, "present_devices", lambda: [device])
    monkeypatch.setattr(
        devices,
        "try_device",
        lambda name: devices.Trial(name, predicts, False, "broken", "mend it"),
    )
    monkeypatch.setattr(doctor, "_plans", lambda cards: iter(()))
    assert cli.main(["doctor"]) == int(fatal)
    printed = capsys.readouterr().out
    assert text in printed
    assert "→ mend it" in printed


def test_devices_that_cannot_be_listed_are_a_finding(healthy, monkeypatch, capsys):
    def fail():
        raise RuntimeError("driver is gone")

    monkeypatch.setattr(devices, "present_devices", fail)
    assert cli.main(["doctor"]) == 1
    assert "cannot be examined: RuntimeError: driver is gone" in capsys.readouterr().out
