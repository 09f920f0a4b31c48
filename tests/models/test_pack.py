"""Packing, installing and showing models."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

import nnunetv2_s2ca
from nnunetv2_s2ca import UserError
from nnunetv2_s2ca.checkpoints.manifest import checksum
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.models.archive import opened, seal
from nnunetv2_s2ca.models.checkpoint import read_checkpoint
from nnunetv2_s2ca.segmentation.model import PredictorSettings, load_model
from tests.segmentation.images import labels
from tests.segmentation.tiny_model import write_model

RULES = {
    "smallest_component_voxels": {"WT": 10, "TC": 10, "ET": 10},
    "smallest_enhancing_voxels": 40,
    "fill_holes": False,
    "fitted_on": {"model": "/home/somebody/secret", "cases": 12, "missing_folds": []},
}


def test_packed_installed_and_elsewhere_it_gives_the_same_voxels(
    tmp_path, packed, scans, straight, model, monkeypatch
):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    installed = nnunetv2_s2ca.install_model(packed).folder
    assert installed == tmp_path / "results" / model.parent.name / model.name
    for number, place in enumerate((packed, installed)):
        output = tmp_path / f"{number}.nii.gz"
        done = nnunetv2_s2ca.segment(scans, output, model=place, device="cpu")
        assert np.array_equal(labels(output), labels(straight))
        assert done.report["model"]["orientation_known_from"] == "the model card"
    trained = load_model(model, PredictorSettings(device="cpu"))
    assert done.report["model"]["sha256"] == trained.sha256


def test_nnunets_installer_takes_a_packed_file(tmp_path, packed, monkeypatch):
    from nnunetv2.model_sharing.model_import import install_model_from_zip_file

    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    install_model_from_zip_file(str(packed))
    (folder,) = tmp_path.glob("Dataset778_TinyBraTS/*")
    ours = nnunetv2_s2ca.install_model(packed, output=tmp_path / "ours").folder
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {
        path.relative_to(ours) for path in ours.rglob("*")
    }


def test_nnunets_zip_is_taken_as_it_is(tmp_path, model, scans, straight):
    from nnunetv2.model_sharing.model_export import export_pretrained_model

    trainer, plans, configuration = model.name.split("__")
    (model / "dataset_fingerprint.json").write_text("{}")
    try:
        export_pretrained_model(
            model.parent.name,
            str(tmp_path / "export.zip"),
            (configuration,),
            trainer,
            plans,
            folds=(0, 1),
        )
    finally:
        (model / "dataset_fingerprint.json").unlink()
    output = tmp_path / "seg.nii.gz"
    nnunetv2_s2ca.segment(scans, output, model=tmp_path / "export.zip", device="cpu")
    assert np.array_equal(labels(output), labels(straight))
    with pytest.raises(UserError, match="nnUNetv2_install_pretrained_model_from_zip"):
        nnunetv2_s2ca.install_model(tmp_path / "export.zip", output=tmp_path / "out")


def test_the_optimiser_stays_behind(tmp_path, packed, model):
    installed = nnunetv2_s2ca.install_model(packed, output=tmp_path / "model").folder
    for fold in ("fold_0", "fold_1"):
        file = f"{fold}/checkpoint_final.pth"
        ours, theirs = read_checkpoint(installed / file), read_checkpoint(model / file)
        assert "optimizer_state" not in ours
        assert "plans" not in ours["init_args"]
        for name, value in theirs["network_weights"].items():
            assert torch.equal(ours["network_weights"][name], value)


def test_a_packed_file_has_half_the_size_or_less(tmp_path, place):
    model = write_model(tmp_path / "results", folds=1)
    file = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    weights = torch.randn(10**5)
    content["network_weights"] = {"weight": weights[:50000]}  # a view of a larger one
    moments = {"exp_avg": weights.clone(), "exp_avg_sq": weights.clone()}
    content["optimizer_state"] = {"state": {0: moments}}
    torch.save(content, file)
    packed = nnunetv2_s2ca.pack_model(model, tmp_path / "packed.zip").path
    assert 200_000 < packed.stat().st_size < 220_000 < file.stat().st_size / 2


def test_the_card_says_what_the_model_is(tmp_path, packed, model, capsys):
    card = nnunetv2_s2ca.describe_model(packed).content
    assert card["edition"] == "brats2019"
    assert card["orientation"] == "LPS"
    assert card["training_cases"] == 12
    assert card["licence"] == "CC BY 4.0"
    assert card["folds"] == ["0", "1"]
    assert card["validation_dice"]["0"] == {"mean": 0.5}
    installed = nnunetv2_s2ca.install_model(packed, output=tmp_path / "model").folder
    assert card["parts"] == {name: checksum(installed / name) for name in card["parts"]}
    assert set(card["parts"]) == {
        "plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth"
    }  # fmt: skip
    assert main(["model", "show", str(packed)]) == 0
    shown = capsys.readouterr().out
    assert "T1, T1ce, T2, FLAIR" in shown
    assert (installed / "MODEL_CARD.md").read_text().strip() == shown.strip()
    assert "brats2019" in str(nnunetv2_s2ca.describe_model(installed))
    assert "parts" not in nnunetv2_s2ca.describe_model(model).content


def test_postprocessing_travels_without_paths(tmp_path, model, scans):
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    packed = tmp_path / "packed.zip"
    nnunetv2_s2ca.pack_model(model, packed, folds=(1,), postprocessing=tmp_path / "rules.json")
    assert b"secret" not in packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("postprocessing.json")]
        assert json.loads(archive.read(name))["fitted_on"] == {"cases": 12, "missing_folds": []}
    common = {"device": "cpu", "mirroring": False}
    by_model = nnunetv2_s2ca.segment(
        scans, tmp_path / "a.nii.gz", model=packed, postprocessing=True, **common
    )
    by_file = nnunetv2_s2ca.segment(
        scans, tmp_path / "b.nii.gz", model=packed, postprocessing=tmp_path / "rules.json", **common
    )
    plain = nnunetv2_s2ca.segment(scans, tmp_path / "c.nii.gz", model=packed, **common)
    assert np.array_equal(labels(by_model.path), labels(by_file.path))
    assert by_model.report["postprocessing"]["smallest_enhancing"] == 40
    assert plain.report["postprocessing"] is None
    assert plain.lesions["WT"] > by_model.lesions["WT"] > 0


def test_training_files_are_not_named_in_the_file(tmp_path, place):
    model = write_model(tmp_path / "results", folds=1)
    described = json.loads((model / "dataset.json").read_text())
    described["dataset"] = {"Jane_Doe": {"images": ["/data/Jane_Doe_t1.nii.gz"]}}
    (model / "dataset.json").write_text(json.dumps(described))
    nnunetv2_s2ca.pack_model(model, tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as archive:
        assert not any(b"Jane" in archive.read(name) for name in archive.namelist())


def test_equal_models_make_equal_files(tmp_path, model, packed):
    nnunetv2_s2ca.pack_model(model, tmp_path / "again.zip", edition="brats2019")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")
def test_interrupted_while_it_opens_an_entry_it_leaves_no_file(tmp_path, model, monkeypatch):
    start = zipfile._get_compressor

    def interrupted(*args):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        return start(*args)

    monkeypatch.setattr(zipfile, "_get_compressor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nnunetv2_s2ca.pack_model(model, tmp_path / "model.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_byte_anywhere_is_refused(tmp_path, packed):
    content = bytearray(packed.read_bytes())
    file = tmp_path / "flipped.zip"
    ends = 1500  # headers of the first entries; central directory, its end, and the seal
    places = {*range(ends), *range(len(content) - ends, len(content)), *range(0, len(content), 41)}
    for place in places:
        for bit in (1, 32) if place > len(content) - 200 else (1 << place % 8,):
            content[place] ^= bit
            file.write_bytes(content)
            with pytest.raises(UserError), opened(file):
                pass
            content[place] ^= bit
    file.write_bytes(content)
    with opened(file):
        pass


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:-1],
        lambda b: b + b"\0",
        lambda b: b[: len(b) // 2],
        lambda b: b"\0" + b,
        lambda b: b[:-76],
        lambda b: b"",
    ],
)
def test_a_longer_or_shorter_file_is_refused(tmp_path, packed, change, monkeypatch):
    (tmp_path / "bad.zip").write_bytes(change(packed.read_bytes()))
    with pytest.raises(UserError, match=r"bad\.zip"):
        nnunetv2_s2ca.install_model(tmp_path / "bad.zip", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


EVIL = Path(tempfile.gettempdir(), "s2ca_evil_was_here")


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(EVIL),)


def _evil(folder):
    torch.save({"network_weights": Evil(), "trainer_name": "x", "init_args": {}}, folder / "e.pth")
    return (folder / "e.pth").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../outside.txt", b"x", "outside the model's folder"),
        ("/tmp/s2ca_outside.txt", b"x", "outside the model's folder"),
        ("a\\..\\b.txt", b"x", "outside the model's folder"),
        ("C:/b.txt", b"x", "outside the model's folder"),
        ("{top}/more.py", b"x", "not both in the file and on its card"),
        ("{top}/plans.json", b"{}", "not what the card says"),
        ("{top}/bomb.json", b"\0" * 10**8, "would grow"),
        ("{top}/s2ca_model.json", b"[]", "lists no parts"),
        ("{top}/s2ca_model.json", b"{", "no JSON"),
        ("{top}/s2ca_model.json", b'{"parts": {}, "format": 9}', "format 9"),
        ("Dataset001_B/t__p__c/plans.json", b"{}", "not both in the file and on its card"),
    ],
)
def test_files_that_somebody_made_are_refused(tmp_path, packed, name, content, message):
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(packed) as source:
        top = str(PurePosixPath(source.namelist()[0]).parent)
        entries = {entry: source.read(entry) for entry in source.namelist()}
    entries[name.replace("{top}", top)] = content
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    seal(bad)
    with pytest.raises(UserError, match=message):
        nnunetv2_s2ca.install_model(bad, output=tmp_path / "out" / "model")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("kind", "message"), [(stat.S_IFLNK, "a link"), (stat.S_IFREG, "two")])
def test_links_and_entries_that_are_there_twice_are_refused(tmp_path, packed, kind, message):
    bad = tmp_path / "bad.zip"
    shutil.copy(packed, bad)
    with zipfile.ZipFile(bad, "a") as archive:
        info = zipfile.ZipInfo("link" if kind == stat.S_IFLNK else archive.namelist()[0])
        info.external_attr = kind << 16
        archive.writestr(info, "/etc/passwd")
    seal(bad)
    with pytest.raises(UserError, match=message):
        nnunetv2_s2ca.install_model(bad, output=tmp_path / "out")


@pytest.mark.parametrize("packed_by_us", [True, False])
def test_code_in_a_checkpoint_never_runs(tmp_path, packed, scans, packed_by_us):
    """Even if all checksums are right."""
    bad = tmp_path / "bad.zip"
    evil = _evil(tmp_path)
    with zipfile.ZipFile(packed) as source:
        entries = {entry: source.read(entry) for entry in source.namelist()}
    part = "fold_0/checkpoint_final.pth"
    (place,) = [entry for entry in entries if entry.endswith(part)]
    entries[place] = evil
    (card,) = [entry for entry in entries if entry.endswith("s2ca_model.json")]
    content = json.loads(entries[card])
    content["parts"][part] = hashlib.sha256(evil).hexdigest()
    entries[card] = json.dumps(content).encode()
    if not packed_by_us:
        del entries[card]
    with zipfile.ZipFile(bad, "w") as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    if packed_by_us:
        seal(bad)
        with pytest.raises(UserError, match="more than weights"):
            nnunetv2_s2ca.install_model(bad, output=tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="more than weights"):
        nnunetv2_s2ca.segment(scans, tmp_path / "seg.nii", model=bad, device="cpu")
    assert not EVIL.exists()


def test_replacing_keeps_what_is_not_an_unchanged_model(tmp_path, packed):
    target = tmp_path / "model"
    nnunetv2_s2ca.install_model(packed, output=target)
    with pytest.raises(UserError, match="`overwrite=True`"):
        nnunetv2_s2ca.install_model(packed, output=target)
    nnunetv2_s2ca.install_model(packed, output=target, overwrite=True)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt was added or changed"):
        nnunetv2_s2ca.install_model(packed, output=target, overwrite=True)
    assert (target / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="something other than an installed model"):
        nnunetv2_s2ca.install_model(packed, output=other, overwrite=True)


def test_folds_of_two_trainings_are_not_packed_together(tmp_path, place):
    model = write_model(tmp_path / "results")
    file = model / "fold_1" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    content["trainer_name"] = "nnUNetTrainer"
    torch.save(content, file)
    with pytest.raises(UserError, match="of another training than fold 0"):
        nnunetv2_s2ca.pack_model(model, tmp_path / "a.zip")
    nnunetv2_s2ca.pack_model(model, tmp_path / "a.zip", folds=("0",))
    with pytest.raises(UserError, match="`overwrite=True`"):
        nnunetv2_s2ca.pack_model(model, tmp_path / "a.zip", folds=("0",))
    with pytest.raises(UserError, match=r"ends in \.zip"):
        nnunetv2_s2ca.pack_model(model, tmp_path / "a.tar", folds=("0",))


def test_the_command_packs_and_installs(tmp_path, model, capsys):
    packed = tmp_path / "m.zip"
    assert main(["model", "pack", "-m", str(model), "-o", str(packed), "-f", "0"]) == 0
    assert "folds 0" in capsys.readouterr().out
    assert main(["model", "install", str(packed), "-o", str(tmp_path / "out")]) == 0
    assert "nnUNetv2_predict_from_modelfolder" in capsys.readouterr().out
    assert main(["model", "install", str(packed), "-o", str(tmp_path / "out")]) == 1
    assert "--overwrite" in capsys.readouterr().err
