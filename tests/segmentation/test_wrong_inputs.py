"""What wrong inputs get: an error that names them, exit code 1, and nothing written."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.segmentation.outputs import write_together
from tests.imaging.dicom_files import write_series
from tests.segmentation.tiny_model import write_model


def image_like(path, voxels, affine=None) -> nib.Nifti1Image:
    return nib.Nifti1Image(voxels, nib.load(path).affine if affine is None else affine)


def changed(folder, scans, name, change) -> dict:
    """The scans, one of them saved anew from `change(voxels)`."""
    voxels = np.asarray(nib.load(scans[name]).dataobj).astype(np.float32)
    nib.save(image_like(scans[name], change(voxels)), folder / f"{name}.nii")
    return {**scans, name: folder / f"{name}.nii"}


def moved(folder, scans, name, mm) -> dict:
    image = nib.load(scans[name])
    affine = image.affine.copy()
    affine[:3, 3] += mm
    nib.save(nib.Nifti1Image(image.dataobj, affine), folder / f"{name}.nii")
    return {**scans, name: folder / f"{name}.nii"}


def cut(folder, scans, name, size) -> dict:
    content = scans[name].read_bytes()
    (folder / f"{name}.nii.gz").write_bytes(content[: int(len(content) * size)])
    return {**scans, name: folder / f"{name}.nii.gz"}


def with_nan(voxels):
    voxels[3, 3, 3] = np.nan
    return voxels


def sheared(folder, scans, name) -> dict:
    affine = nib.load(scans[name]).affine.copy()
    affine[0, 1] = 2.0
    image = image_like(scans[name], np.asarray(nib.load(scans[name]).dataobj), affine)
    image.set_qform(None, code=0)
    nib.save(image, folder / f"{name}.nii")
    return {**scans, name: folder / f"{name}.nii"}


def two_series(folder, scans, name) -> dict:
    image = sitk.ReadImage(str(scans[name]))[:, :, :4]
    write_series(image, folder / name, uid="1.2.3", number=1, description="pre")
    write_series(image, folder / name, uid="1.2.4", number=2, description="post")
    return {**scans, name: folder / name}


def slice_missing(folder, scans, name) -> dict:
    image = sitk.ReadImage(str(scans[name]))[:, :, :6]
    write_series(image, folder / name, leave_out=(2,))
    return {**scans, name: folder / name}


def empty_folder(folder, scans, name) -> dict:
    (folder / name).mkdir()
    return {**scans, name: folder / name}


def text_file(folder, scans, name) -> dict:
    (folder / "notes.nii.gz").write_text("no image")
    return {**scans, name: folder / "notes.nii.gz"}


# what is done to the scans, and what the message must hold
SCANS = {
    "missing sequence": (lambda f, s: {k: s[k] for k in ("t1", "t1ce", "t2")}, "FLAIR is missing"),
    "missing file": (lambda f, s: {**s, "t2": f / "none.nii.gz"}, "none.nii.gz does not exist"),
    "text": (lambda f, s: text_file(f, s, "t1"), "notes.nii.gz"),
    "truncated": (lambda f, s: cut(f, s, "t1", 0.9), "t1.nii.gz is truncated"),
    "header only": (lambda f, s: cut(f, s, "t1", 0.001), "t1.nii.gz"),
    "4D": (lambda f, s: changed(f, s, "t1", lambda v: np.stack([v, v], -1)), "expected a 3D image"),
    "2D": (lambda f, s: changed(f, s, "t1", lambda v: v[..., 9]), "expected a 3D image"),
    "empty": (lambda f, s: changed(f, s, "flair", lambda v: v * 0), "flair.nii is empty"),
    "constant": (lambda f, s: changed(f, s, "flair", lambda v: v * 0 + 7), "all voxels are 7"),
    "NaN": (lambda f, s: changed(f, s, "t2", with_nan), "t2.nii holds NaN or infinity"),
    "infinity": (lambda f, s: changed(f, s, "t2", lambda v: v + np.inf), "NaN or infinity"),
    "complex": (lambda f, s: changed(f, s, "t2", lambda v: v.astype("c8")), "complex64"),
    "sheared": (lambda f, s: sheared(f, s, "t1"), "sheared"),
    "same file": (lambda f, s: {**s, "t2": s["t1"]}, "T1 and T2 are the same image"),
    "same voxels": (
        lambda f, s: {**s, "t2": shutil.copy(s["flair"], f / "c.nii.gz")},
        "T2 and FLAIR are the same image",
    ),
    "elsewhere": (lambda f, s: moved(f, s, "t2", 5000), "covers 0% of the T1ce"),
    "hardly overlapping": (lambda f, s: moved(f, s, "t2", (120, 0, 0)), "or hardly"),
    "two DICOM series": (lambda f, s: two_series(f, s, "t1"), "series 2, post: 4 files"),
    "DICOM slice missing": (lambda f, s: slice_missing(f, s, "t1"), "expected equal distances"),
    "folder without DICOM": (lambda f, s: empty_folder(f, s, "t1"), "holds no DICOM series"),
}  # fmt: skip


def command(scans, model, output, *more) -> list[str]:
    named = [word for name, path in scans.items() for word in (f"--{name}", str(path))]
    return ["segment", "-m", str(model), *named, "-o", str(output), "-device", "cpu", *more]


@pytest.mark.parametrize("case", SCANS)
def test_wrong_scans(tmp_path, scans, model, capsys, monkeypatch, case):
    from nnunetv2_s2ca.segmentation import predictor

    def never(*_):
        raise AssertionError("the network must not run")

    monkeypatch.setattr(predictor.MemberPredictor, "predict_logits_from_preprocessed_data", never)
    change, message = SCANS[case]
    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    wrong = change(inputs, scans)
    assert main(command(wrong, model, output / "seg.nii.gz")) == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.startswith("s2ca segment: error: ")
    assert not output.exists()


def no_dataset_json(model):
    (model / "dataset.json").unlink()


def unknown_channel(model):
    described = json.loads((model / "dataset.json").read_text())
    described["channel_names"]["2"] = "CT"
    (model / "dataset.json").write_text(json.dumps(described))


def damaged_weights(model):
    file = model / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:900])


def other_network(model):
    file = model / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    content["network_weights"]["weight"] = torch.zeros(3, 2, 3, 3, 3)
    torch.save(content, file)


def unknown_trainer(model):
    for fold in (0, 1):
        file = model / f"fold_{fold}" / "checkpoint_final.pth"
        content = torch.load(file, weights_only=False)
        content["trainer_name"] = "nnUNetTrainerOfSomebody"
        torch.save(content, file)


MODELS = {
    "no dataset.json": (no_dataset_json, "holds no trained model"),
    "a channel of CT": (unknown_channel, "channel 2 is 'CT'"),
    "damaged weights": (damaged_weights, "cannot be loaded by nnU-Net"),
    "another network": (other_network, "cannot be loaded by nnU-Net"),
    "unknown trainer": (unknown_trainer, "nnUNetTrainerOfSomebody"),
}


@pytest.mark.parametrize("case", MODELS)
def test_wrong_models(tmp_path, scans, place, capsys, case):
    model = write_model(tmp_path / "results")
    change, message = MODELS[case]
    change(model)
    output = tmp_path / "seg.nii.gz"
    assert main(command(scans, model, output)) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-f", "7"), "has no checkpoint_final.pth of fold 7; there are 0, 1 (-f)"),
        (("-f", "x"), "-f names 'x'"),
        (("-f", "0", "0"), "-f names one fold twice"),
        (("-chk", "checkpoint_best.pth"), "has no fold with checkpoint_best.pth"),
        (("-step_size", "0"), "-step_size is 0"),
        (("-step_size", "nan"), "-step_size is nan"),
        (("--edition", "brats1999"), "unknown edition"),
        (("--edition", "brats2024-ped"), "(--edition)"),
        (("--postprocess",), "no post-processing of its own"),
        (("--report", "r.txt"), "ends in .json"),
        (("--preview", "p.jpg"), "ends in .png"),
    ],
)
def test_wrong_options(tmp_path, scans, model, capsys, options, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command(scans, model, "seg.nii.gz", *options)) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be(tmp_path, scans, model, capsys):
    shutil.copy(scans["t1"], tmp_path / "t1.nii.gz")
    own = {**scans, "t1": tmp_path / "t1.nii.gz"}
    before = (tmp_path / "t1.nii.gz").read_bytes()
    for output, more, message in (
        (tmp_path / "seg.mha", (), "ends in .nii.gz or .nii"),
        (tmp_path, (), "ends in .nii.gz"),
        (tmp_path / "t1.nii.gz", ("--overwrite",), "overlap"),
        (tmp_path / "t1.nii.gz" / "seg.nii.gz", (), "overlap"),
    ):
        assert main(command(own, model, output, *more)) == 1
        assert message in capsys.readouterr().err
    assert (tmp_path / "t1.nii.gz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t1.nii.gz"]


def test_files_of_a_patient_appear_together_or_not_at_all(tmp_path):
    files = {tmp_path / name: b"content" for name in ("a.json", "b.png", "c.json")}
    (tmp_path / "c.json").mkdir()
    (tmp_path / "c.json" / "theirs.txt").touch()
    with pytest.raises((UserError, OSError)):
        write_together(files)
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]
    (tmp_path / "c.json" / "theirs.txt").unlink()
    (tmp_path / "c.json").rmdir()
    write_together(files)
    assert all(path.read_bytes() == b"content" for path in files)
