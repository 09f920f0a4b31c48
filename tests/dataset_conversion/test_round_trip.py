"""Every edition in and out again, and into nnU-Net."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_s2ca import cli, export
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion import as_module
from nnunetv2_s2ca.dataset_conversion.convert import Options, convert
from tests.dataset_conversion.synthetic_cases import (
    AFFINE,
    SHAPE,
    identifiers,
    save,
    write_case,
    write_download,
)

LINKABLE = [name for name, edition in EDITIONS.items() if not edition.four_dimensional]


@pytest.fixture
def source(tmp_path):
    return tmp_path / "download of BraTS, größer"  # spaces and letters beyond ASCII


def _convert(name, source, **options):
    return convert(EDITIONS[name], source, Options(**options), processes=1).folder


@pytest.mark.parametrize("name", EDITIONS)
def test_labels_come_back_bit_for_bit(name, source, nnunet_folders, tmp_path):
    segmentations = write_download(source, EDITIONS[name])
    dataset = _convert(name, source)
    written = export(dataset, dataset / "labelsTr", tmp_path / "out", processes=1).files
    assert [path.name for path in written] == sorted(f"{case}.nii.gz" for case in segmentations)
    for path in written:
        original = nib.load(segmentations[path.name.removesuffix(".nii.gz")])
        again = nib.load(path)
        assert np.array_equal(again.dataobj, original.dataobj)
        assert np.array_equal(again.affine, original.affine)
        assert again.get_data_dtype() == np.uint8


@pytest.mark.parametrize("name", EDITIONS)
def test_images_stand_in_nnunets_order(name, source, nnunet_folders):
    edition = EDITIONS[name]
    write_download(source, edition)
    dataset = _convert(name, source)
    case = identifiers(edition, 1)[0]
    for number, channel in enumerate(edition.channels):
        converted = nib.load(dataset / "imagesTr" / f"{case}_{number:04d}.nii.gz")
        if edition.four_dimensional:
            place = int(edition.suffixes[channel])
            original = nib.load(source / "imagesTr" / f"{case}.nii.gz").dataobj[..., place]
        else:
            (path,) = source.rglob(f"{case}?{edition.suffixes[channel]}.nii.gz")
            original = nib.load(path).dataobj
        assert np.array_equal(converted.dataobj, original)


@pytest.mark.parametrize("name", EDITIONS)
@pytest.mark.parametrize("link", [False, True])
def test_nnunet_accepts_the_dataset(name, link, source, nnunet_folders):
    if link and name not in LINKABLE:
        pytest.skip("four channels in one file cannot be linked")
    write_download(source, EDITIONS[name])
    dataset = _convert(name, source, link=link)
    description = json.loads((dataset / "dataset.json").read_text())
    # what nnU-Net's verify_dataset_integrity does, less its worker processes
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases as check
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_labels
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    cases = get_filenames_of_train_images_and_targets(str(dataset), description)
    assert len(cases) == description["numTraining"] == 3
    labels = LabelManager(description["labels"], description.get("regions_class_order")).all_labels
    for case in cases.values():
        assert check(case["images"], case["label"], len(EDITIONS[name].channels), SimpleITKIO)
        assert verify_labels(case["label"], SimpleITKIO, labels)


@pytest.mark.slow
def test_nnunets_own_check_passes_on_a_linked_dataset(source, nnunet_folders):
    write_download(source, EDITIONS["brats2019"])
    verify_dataset_integrity(str(_convert("brats2019", source, link=True)), num_processes=1)


@pytest.mark.parametrize("name", EDITIONS)
def test_nnunets_regions_restore_every_label(name):
    edition = EDITIONS[name]
    order = edition.regions_class_order
    manager = LabelManager(edition.dataset_json_labels, order)
    labels = np.array(sorted(edition.source_labels))
    if order is None:
        assert manager.foreground_labels == [1]
        return
    probabilities = np.stack([np.isin(labels, region) for region in manager.foreground_regions])
    shaped = probabilities.astype(np.float32)[:, :, None, None]
    restored = manager.convert_probabilities_to_segmentation(shaped)[:, 0, 0]
    assert np.array_equal(restored, labels)


def _run_module(edition, *arguments, monkeypatch) -> int:
    """The exit code of `python -m`; the module's name is that of the dataset."""
    monkeypatch.setattr(sys, "argv", ["-m", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(
            f"nnunetv2_s2ca.dataset_conversion.{edition.folder_name()}", run_name="__main__"
        )
    return ended.value.code


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=EDITIONS)
def test_each_edition_is_a_module_that_converts_it(edition, monkeypatch):
    called = []
    monkeypatch.setattr(as_module, "convert_edition", called.append)
    _run_module(edition, monkeypatch=monkeypatch)
    assert called == [edition.name]


def test_module_of_an_edition_writes_its_dataset(source, nnunet_folders, monkeypatch):
    edition = EDITIONS["brats2019"]
    write_download(source, edition)
    arguments = (source, "-np", "1")
    assert _run_module(edition, *arguments, monkeypatch=monkeypatch) == 0
    dataset = nnunet_folders / "nnUNet_raw" / "Dataset043_BraTS2019"
    assert len(list((dataset / "imagesTr").iterdir())) == 12
    # the second time it is there already
    assert _run_module(edition, *arguments, monkeypatch=monkeypatch) == 1


def test_ids_are_not_taken_twice_nor_from_nnunet():
    import nnunetv2.dataset_conversion as theirs

    taken = {path.name[7:10] for path in Path(theirs.__path__[0]).glob("Dataset*")}
    # where nnU-Net has a converter for the edition, its id is ours
    shared = {"042", "043", "137", "226"}
    ours = [f"{edition.dataset_id:03d}" for edition in EDITIONS.values()]
    assert len(set(ours)) == len(ours)
    assert set(ours) & taken <= shared


def test_linking_copies_no_image(source, nnunet_folders):
    write_download(source, EDITIONS["brats2020"])
    dataset = _convert("brats2020", source, link=True)
    assert not list((dataset / "imagesTr").iterdir())
    assert len(list((dataset / "labelsTr").iterdir())) == 3


def test_copied_bytes_are_the_sources(source, nnunet_folders):
    write_download(source, EDITIONS["brats2020"])
    dataset = _convert("brats2020", source)
    (original,) = source.rglob("BraTS20_Training_001_t1.nii.gz")
    copy = dataset / "imagesTr" / "BraTS20_Training_001_0000.nii.gz"
    assert copy.read_bytes() == original.read_bytes()


def test_uncompressed_images_are_compressed(source, nnunet_folders):
    write_download(source, EDITIONS["brats2020"], ending=".nii")
    dataset = _convert("brats2020", source)
    copy = nib.load(dataset / "imagesTr" / "BraTS20_Training_001_0000.nii.gz")
    (original,) = source.rglob("BraTS20_Training_001_t1.nii")
    assert np.array_equal(copy.dataobj, nib.load(original).dataobj)
    assert copy.get_data_dtype() == nib.load(original).get_data_dtype()


def test_uncompressed_images_can_be_linked(source, nnunet_folders):
    write_download(source, EDITIONS["brats2020"], ending=".nii")
    dataset = _convert("brats2020", source, link=True)
    assert json.loads((dataset / "dataset.json").read_text())["file_ending"] == ".nii"


def test_validation_cases_go_to_images_ts(source, nnunet_folders):
    edition = EDITIONS["brats2019"]
    write_case(source / "BraTS19_A_1", edition, "BraTS19_A_1")
    write_case(source / "BraTS19_B_1", edition, "BraTS19_B_1", segmented=False)
    converted = convert(edition, source, processes=1)
    assert {p.name for p in (converted.folder / "imagesTs").iterdir()} == {
        f"BraTS19_B_1_{n:04d}.nii.gz" for n in range(4)
    }
    assert "1 training cases, 1 cases to predict, 0 skipped" in str(converted)


def test_prediction_with_unknown_label_is_refused_and_nothing_written(
    source, nnunet_folders, tmp_path
):
    write_download(source, EDITIONS["brats2019"])
    dataset = _convert("brats2019", source)
    predictions = tmp_path / "predictions"
    save(predictions / "BraTS19_CBICA_A00_1.nii.gz", np.full(SHAPE, 7, np.uint8))
    with pytest.raises(cli.UserError, match=r"A00_1.*holds the label 7"):
        export(dataset, predictions, tmp_path / "out", processes=1)
    assert not (tmp_path / "out").exists()


def test_prediction_of_another_shape_is_refused(source, nnunet_folders, tmp_path):
    write_download(source, EDITIONS["brats2019"])
    dataset = _convert("brats2019", source)
    predictions = tmp_path / "predictions"
    save(predictions / "BraTS19_CBICA_A00_1.nii.gz", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(cli.UserError, match="another geometry"):
        export(dataset, predictions, tmp_path / "out", processes=1)


def test_export_does_not_replace_files(source, nnunet_folders, tmp_path):
    write_download(source, EDITIONS["brats2019"])
    dataset = _convert("brats2019", source)
    export(dataset, dataset / "labelsTr", tmp_path / "out", processes=1)
    with pytest.raises(cli.UserError, match="exists"):
        export(dataset, dataset / "labelsTr", tmp_path / "out", processes=1)


def test_two_predictions_of_one_case_are_refused(source, nnunet_folders, tmp_path):
    write_download(source, EDITIONS["brats2019"])
    dataset = _convert("brats2019", source)
    for ending in (".nii", ".nii.gz"):
        save(tmp_path / f"predictions/BraTS19_CBICA_A00_1{ending}", np.zeros(SHAPE, np.uint8))
    with pytest.raises(cli.UserError, match=r"A00_1\.nii and .*A00_1\.nii\.gz are of one case"):
        export(dataset, tmp_path / "predictions", tmp_path / "out", processes=1)


def test_prediction_of_an_unknown_case_keeps_its_geometry_if_allowed(
    source, nnunet_folders, tmp_path
):
    write_download(source, EDITIONS["brats2019"])
    dataset = _convert("brats2019", source)
    save(tmp_path / "predictions" / "BraTS19_Other_1.nii.gz", np.ones((3, 4, 5), np.uint8))
    with pytest.raises(cli.UserError, match="BraTS19_Other_1"):
        export(dataset, tmp_path / "predictions", tmp_path / "out", processes=1)
    (path,) = export(
        dataset, tmp_path / "predictions", tmp_path / "out", processes=1, allow_unknown=True
    ).files
    assert np.array_equal(nib.load(path).affine, AFFINE)
    assert np.unique(nib.load(path).dataobj) == [2]  # oedema


def test_worker_processes_give_the_same(source, nnunet_folders):
    write_download(source, EDITIONS["brats2021"])
    alone = convert(EDITIONS["brats2021"], source, processes=1).folder
    together = convert(EDITIONS["brats2021"], source, Options(dataset_id=500), processes=2).folder
    for path in alone.rglob("*.nii.gz"):
        twin = together / path.relative_to(alone)
        assert np.array_equal(nib.load(path).dataobj, nib.load(twin).dataobj)
