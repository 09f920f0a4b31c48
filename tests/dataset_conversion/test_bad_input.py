"""What is wrong with a source is named, and nothing half-written is left."""

from __future__ import annotations

import errno
import gzip
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion import convert as convert_module
from nnunetv2_s2ca.dataset_conversion.check import check_cases, describe
from nnunetv2_s2ca.dataset_conversion.convert import Options, convert
from nnunetv2_s2ca.dataset_conversion.record import RECORD, read_record
from tests.damaged_nifti import UNREADABLE, colours
from tests.dataset_conversion.synthetic_cases import AFFINE, SHAPE, save, write_case, write_download

EDITION = EDITIONS["brats2020"]
CASE = "BraTS20_Training_001"


@pytest.fixture
def source(tmp_path):
    """Two good cases; tests spoil the first."""
    folder = tmp_path / "source"
    write_download(folder, EDITION, count=2)
    return folder


@pytest.fixture(autouse=True)
def raw(nnunet_folders):
    return nnunet_folders / "nnUNet_raw"


def _convert(source, **options):
    return convert(EDITION, source, Options(**options), processes=1).folder


def _file(source, suffix):
    return source / CASE / f"{CASE}_{suffix}.nii.gz"


def _remove(source):
    _file(source, "t2").unlink()
    return r"T2 is missing; expected .*_t2\.nii\.gz"


def _text_under_nii(source):
    _file(source, "t1").unlink()
    _file(source, "t1").with_suffix("").write_text("this is no image")
    return r"_t1\.nii: "


def _truncate(path):
    # large enough that its header is whole
    save(path, np.random.default_rng(0).integers(0, 4, (40, 40, 40)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:-99])


def _truncated(source):
    _truncate(_file(source, "flair"))
    return r"_flair\.nii\.gz: .*truncated"


def _truncated_segmentation(source):
    _truncate(_file(source, "seg"))
    return r"_seg\.nii\.gz: .*truncated"


def _damaged_segmentation(source):
    path = _file(source, "seg")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF  # the length at the end stays right
    path.write_bytes(content)
    return r"_seg\.nii\.gz: "


def _other_shape(source):
    save(_file(source, "t1ce"), np.zeros((9, 6, 5), np.int16))
    return r"_t1ce\.nii\.gz: has the shape \(9, 6, 5\); expected that of T1, \(7, 6, 5\)"


def _other_affine(source):
    save(_file(source, "t2"), np.zeros(SHAPE, np.int16), AFFINE @ np.diag([2, 1, 1, 1]))
    return r"_t2\.nii\.gz: has another affine than T1"


def _sheared(source):
    affine = AFFINE.copy()
    affine[0, 1] = 0.3
    for suffix in ("t1", "t1ce", "t2", "flair", "seg"):
        save(_file(source, suffix), np.zeros(SHAPE, np.int16), affine)
    return r"sheared affine"


def _segmentation_of_other_shape(source):
    save(_file(source, "seg"), np.zeros((7, 6, 4), np.uint8))
    return r"_seg\.nii\.gz: has the shape \(7, 6, 4\)"


def _unknown_label(source):
    save(_file(source, "seg"), np.full(SHAPE, 3, np.uint8))
    return r"_seg\.nii\.gz: holds the label 3; expected 0, 1, 2, 4"


def _fractional_label(source):
    save(_file(source, "seg"), np.full(SHAPE, 1.5, np.float32))
    return r"_seg\.nii\.gz: holds the label 1\.5"


def _nan(source):
    data = np.zeros(SHAPE, np.float32)
    data[1, 2, 3] = np.nan
    save(_file(source, "t1"), data)
    return r"_t1\.nii\.gz: holds 1 NaN or infinite voxels"


def _four_dimensions(source):
    save(_file(source, "t1"), np.zeros((*SHAPE, 2), np.int16))
    return r"_t1\.nii\.gz: has the shape \(7, 6, 5, 2\); expected 3 dimensions"


def _twice(source):
    shutil.copytree(source / CASE, source / "elsewhere" / CASE)
    return r"appears in 2 folders"


def _two_files_of_a_modality(source):
    save(_file(source, "t1").with_suffix(""), np.zeros(SHAPE, np.int16))
    return r"T1 has 2 files"


SPOILERS = [
    _remove,
    _text_under_nii,
    _truncated,
    _truncated_segmentation,
    _damaged_segmentation,
    _other_shape,
    _other_affine,
    _sheared,
    _segmentation_of_other_shape,
    _unknown_label,
    _fractional_label,
    _nan,
    _four_dimensions,
    _twice,
    _two_files_of_a_modality,
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_spoilt_case_is_named_and_nothing_is_written(spoil, source, raw):
    expected = spoil(source)
    with pytest.raises(cli.UserError, match=rf"(?s){CASE}: .*{expected}"):
        _convert(source)
    assert not list(raw.iterdir())


@pytest.mark.parametrize("spoil", SPOILERS)
def test_spoilt_case_can_be_skipped_and_is_listed(spoil, source):
    spoil(source)
    dataset = _convert(source, skip_invalid=True)
    assert CASE in (dataset / "s2ca_skipped.txt").read_text()
    assert [p.name for p in (dataset / "labelsTr").iterdir()] == ["BraTS20_Training_002.nii.gz"]


@pytest.mark.parametrize("suffix", ["t1", "seg"])
@pytest.mark.parametrize("damage", [*UNREADABLE, colours])
def test_file_that_no_reader_takes_is_named(damage, suffix, source, raw, capsys):
    damage(_file(source, suffix))
    assert cli.main(["check", "brats2020", str(source), "-np", "1"]) == 1
    assert f"problem  {CASE}: {_file(source, suffix)}: " in capsys.readouterr().out
    assert cli.main(["convert", "brats2020", str(source), "-np", "1"]) == 1
    assert f"\n  {CASE}: {_file(source, suffix)}: " in capsys.readouterr().err
    assert not list(raw.iterdir())


def test_check_reports_problems_with_exit_code_1(source, capsys):
    assert cli.main(["check", "brats2020", str(source), "-np", "1"]) == 0
    _remove(source)
    assert cli.main(["check", "brats2020", str(source), "-np", "1"]) == 1
    assert f"problem  {CASE}: T2 is missing" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_source_without_cases_is_refused(kind, tmp_path, raw):
    source = tmp_path / kind
    if kind == "empty":
        source.mkdir()
    elif kind == "file":
        source.touch()
    with pytest.raises(cli.UserError, match=str(source)):
        _convert(source)
    assert not list(raw.iterdir())


def test_folder_of_a_single_case_is_the_wrong_level(source):
    with pytest.raises(cli.UserError, match="name the parent folder"):
        _convert(source / CASE)


def test_another_edition_is_recognised(source):
    with pytest.raises(cli.UserError, match="belongs to brats2020, not to brats2019"):
        convert(EDITIONS["brats2019"], source, processes=1)


def test_existing_dataset_is_left_alone(source):
    dataset = _convert(source)
    before = {p: p.stat().st_mtime_ns for p in dataset.rglob("*")}
    with pytest.raises(cli.UserError, match="overwrite=True"):
        _convert(source)
    assert {p: p.stat().st_mtime_ns for p in dataset.rglob("*")} == before


def test_overwrite_replaces(source, raw):
    dataset = _convert(source)
    (dataset / "imagesTr" / "old_0000.nii.gz").touch()
    _convert(source, overwrite=True)
    assert not (dataset / "imagesTr" / "old_0000.nii.gz").exists()
    assert [p.name for p in raw.iterdir()] == ["Dataset082_BraTS2020"]


def test_overwrite_with_a_bad_source_keeps_the_old_dataset(source):
    dataset = _convert(source)
    _remove(source)
    with pytest.raises(cli.UserError):
        _convert(source, overwrite=True)
    assert (dataset / "dataset.json").exists()


def test_taken_id_of_another_name_is_refused(source, raw):
    (raw / "Dataset082_Other").mkdir()
    with pytest.raises(cli.UserError, match="Dataset082_Other has the same id"):
        _convert(source)


@pytest.mark.parametrize("dataset_id", ["-5", "0", "1000"])
def test_id_that_nnunet_cannot_read_is_refused(source, raw, capsys, dataset_id):
    assert cli.main(["convert", "brats2020", str(source), "-d", dataset_id]) == 1
    assert f"id is {dataset_id}; expected 1 to 999" in capsys.readouterr().err
    assert not list(raw.iterdir())


@pytest.mark.parametrize("name", ["../x", "a b", "", "größer"])
def test_name_of_other_characters_is_refused(source, raw, capsys, name):
    assert cli.main(["convert", "brats2020", str(source), "--name", name]) == 1
    assert f"name is {name!r}; expected only letters" in capsys.readouterr().err
    assert not list(raw.iterdir())


@pytest.mark.parametrize("processes", ["0", "-3", "two"])
@pytest.mark.parametrize(
    "command",
    [
        "check brats2020 SOURCE",
        "convert brats2020 SOURCE",
        "export -d 82 -i IN -o OUT",
        "evaluate --ref TRUTH --pred IN",
        "postprocess -i IN -o OUT",
    ],
)
def test_processes_are_counted_from_one(command, processes, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command.split(), "-np", processes])
    assert f"expected a whole number from 1 on, found '{processes}'" in capsys.readouterr().err


def test_full_disk_leaves_nothing(source, raw, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(convert_module.shutil, "copyfile", full)
    with pytest.raises(cli.UserError, match="is full"):
        _convert(source)
    assert not list(raw.iterdir())


def test_too_little_space_is_refused_before_anything_is_written(source, raw, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9, 10)
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        cli.UserError, match=r"10 bytes free, but \d\.\d\d kB are needed.*link=True"
    ):
        _convert(source)
    assert not list(raw.iterdir())


@pytest.fixture
def interrupted(source, monkeypatch):
    """A conversion that stopped in the second case; the files that it and later ones copied."""
    real, written = shutil.copyfile, []

    def copy(source, target):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(target)
        return real(source, target)

    monkeypatch.setattr(convert_module.shutil, "copyfile", copy)
    with pytest.raises(KeyboardInterrupt):
        _convert(source)
    monkeypatch.setattr(
        convert_module.shutil, "copyfile", lambda s, t: (written.append(t), real(s, t))
    )
    return written


def test_interrupted_conversion_goes_on_and_shows_nothing_before(source, raw, interrupted):
    assert not list(raw.glob("Dataset*"))  # what nnU-Net takes for datasets
    dataset = _convert(source)
    assert len(interrupted) == len(set(interrupted)) == 8  # nothing is copied twice
    for path in dataset.rglob("*.nii.gz"):
        np.asarray(nib.load(path).dataobj)


@pytest.mark.usefixtures("interrupted")
def test_case_that_got_spoilt_since_the_interruption_leaves_no_file(source):
    _remove(source)
    dataset = _convert(source, skip_invalid=True)
    assert not list(dataset.rglob(f"{CASE}*"))
    assert len(list((dataset / "imagesTr").iterdir())) == 4


@pytest.mark.usefixtures("interrupted")
def test_file_that_changed_since_the_interruption_is_copied_anew(source):
    save(_file(source, "t1"), np.full(SHAPE, 7, np.int16))
    copy = _convert(source) / "imagesTr" / f"{CASE}_0000.nii.gz"
    assert copy.read_bytes() == _file(source, "t1").read_bytes()


@pytest.mark.parametrize("edition", ["brats2020", "msd-task01"])
@pytest.mark.parametrize("length", [0, 20, 60])
def test_files_without_their_content_after_a_power_cut_are_written_anew(
    tmp_path, raw, monkeypatch, edition, length
):
    source = tmp_path / "download"
    write_download(source, EDITIONS[edition], count=2)
    options = {"processes": 1, "say": lambda line: None}
    with monkeypatch.context() as context:
        context.setattr(convert_module, "_write_description", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(EDITIONS[edition], source, **options)
    left = list(raw.glob(".*.partial/*/*.nii.gz"))
    assert len(left) == 2 * 5
    for path in left:
        path.write_bytes(path.read_bytes()[:length])
    found = convert(EDITIONS[edition], source, **options).folder
    whole = convert(EDITIONS[edition], source, Options(dataset_id=500), **options).folder
    for path in whole.rglob("*.nii.gz"):
        assert (found / path.relative_to(whole)).read_bytes() == path.read_bytes()


def _interrupt(*_args, **_options):
    raise KeyboardInterrupt


@pytest.mark.usefixtures("interrupted")
def test_room_that_an_interrupted_conversion_takes_counts_as_free(source, raw, monkeypatch):
    needed, there = (
        sum(path.stat().st_size for path in folder.rglob("*.nii.gz")) for folder in (source, raw)
    )
    usage = shutil._ntuple_diskusage(10**9, 10**9, needed - there)
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda path: usage)
    _convert(source)


def test_old_dataset_comes_back_if_the_new_one_cannot_take_its_place(source, raw, monkeypatch):
    (_convert(source) / "mine.txt").touch()
    real = Path.rename

    def refuse(path, target):
        if path.name.endswith(".partial"):
            raise PermissionError(errno.EACCES, "Permission denied", str(target))
        return real(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(cli.UserError, match="Permission denied"):
        _convert(source, overwrite=True)
    assert [path.name for path in raw.iterdir()] == ["Dataset082_BraTS2020"]
    assert (raw / "Dataset082_BraTS2020" / "mine.txt").exists()


def test_overwrite_works_beside_an_old_dataset_that_could_not_be_deleted(source, raw):
    _convert(source)
    (raw / ".Dataset082_BraTS2020.former" / "imagesTr").mkdir(parents=True)
    _convert(source, overwrite=True)
    assert [path.name for path in raw.iterdir()] == ["Dataset082_BraTS2020"]


def test_unset_nnunet_raw_is_named(source, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(cli.UserError, match="nnUNet_raw is not set"):
        _convert(source)


def test_unknown_edition_lists_all(source, capsys):
    assert cli.main(["convert", "brats1999", str(source)]) == 1
    assert "brats2024-ped" in capsys.readouterr().err


def test_msd_cannot_be_linked(tmp_path):
    with pytest.raises(cli.UserError, match="copy the"):
        convert(EDITIONS["msd-task01"], tmp_path, Options(link=True))


def test_mixed_endings_cannot_be_linked(source):
    write_case(source / "BraTS20_Training_003", EDITION, "BraTS20_Training_003", ending=".nii")
    with pytest.raises(cli.UserError, match=r"\.nii and \.nii\.gz"):
        _convert(source, link=True)


def test_read_only_source_converts(source):
    for path in [*source.rglob("*"), source]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        dataset = _convert(source)
    finally:
        for path in [source, *source.rglob("*")]:
            path.chmod(0o755)
    assert len(list((dataset / "imagesTr").iterdir())) == 8
    (dataset / "imagesTr" / f"{CASE}_0000.nii.gz").unlink()


def _stray_segmentation(source):
    _file(source, "seg").rename(source / CASE / "W39_1998.09.19_Segm.nii.gz")
    return "W39_1998.09.19_Segm.nii.gz"


def _capitals(source):
    _file(source, "t1").rename(source / CASE / f"{CASE}_T1.nii.gz")
    return "capitals"


def _mac_files(source):
    (source / CASE / f"._{CASE}_t1.nii.gz").write_bytes(b"mac")
    (source / CASE / ".DS_Store").write_bytes(b"mac")
    (source / "__MACOSX" / CASE).mkdir(parents=True)
    (source / "__MACOSX" / CASE / f"{CASE}_t1.nii.gz").write_bytes(b"mac")
    return "2 hidden files"


def _tables(source):
    (source / "survival_info.csv").write_text("a,b\n1,2\n")
    (source / "name_mapping.xlsx").write_bytes(b"PK")
    return "2 tables ignored"


def _doubled_folder(source):
    inner = source / "MICCAI_BraTS2020_TrainingData"
    inner.mkdir()
    for path in list(source.glob("BraTS20*")):
        path.rename(inner / path.name)
    return f"all cases lie below {inner}"


def _float_labels(source):
    path = _file(source, "seg")
    image = nib.load(path)
    save(path, np.asarray(image.dataobj).astype(np.float64))
    return f"{CASE}: labels are stored as float64"


@pytest.mark.parametrize(
    "quirk",
    [_stray_segmentation, _capitals, _mac_files, _tables, _doubled_folder, _float_labels],
)
def test_quirks_of_real_downloads_are_dealt_with_and_reported(quirk, source, capsys):
    remark = quirk(source)
    dataset = _convert(source)
    assert len(list((dataset / "labelsTr").iterdir())) == 2
    assert len(list((dataset / "imagesTr").iterdir())) == 8
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  note ")]
    assert any(remark in note for note in notes)


def test_gzip_files_of_several_parts_are_whole(source):
    path = _file(source, "t1")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    _convert(source)


def test_sessions_of_one_patient_are_counted_and_named(tmp_path):
    edition = EDITIONS["brats2023-gli"]
    write_download(tmp_path / "gli", edition, count=3)
    checked = check_cases(edition, tmp_path / "gli", processes=1)
    assert len({item.case.patient for item in checked}) == 2
    table = describe(edition, checked, source=tmp_path / "gli")
    sessions = "BraTS-GLI-00000-000, BraTS-GLI-00000-001"
    assert f"patient BraTS-GLI-00000 has several cases: {sessions}\n" in f"{table}\n"


def test_table_counts_problems_by_kind(source):
    write_case(source / "BraTS20_Training_003", EDITION, "BraTS20_Training_003")
    _remove(source)
    shape = np.zeros((3, 3, 3), np.int16)
    save(source / "BraTS20_Training_002" / "BraTS20_Training_002_t2.nii.gz", shape)
    labels = np.full(SHAPE, 3, np.uint8)
    save(source / "BraTS20_Training_003" / "BraTS20_Training_003_seg.nii.gz", labels)
    table = describe(EDITION, check_cases(EDITION, source, processes=1), source=source)
    for kind in (
        "with problems .* 3",
        "files missing .* 1",
        "geometry off .* 1",
        "labels off .* 1",
    ):
        assert re.search(kind, table), table


def test_skipping_bad_cases_of_a_source_without_segmentations_keeps_the_good(source):
    for path in source.rglob("*_seg.nii.gz"):
        path.unlink()
    _remove(source)
    assert len(list((_convert(source, skip_invalid=True) / "imagesTs").iterdir())) == 4


def test_missing_file_is_named_as_its_edition_spells_it(tmp_path):
    edition = EDITIONS["brats2023-gli"]
    write_download(tmp_path / "source", edition, count=1)
    next(tmp_path.rglob("*-t1n.nii.gz")).unlink()
    with pytest.raises(cli.UserError, match=r"expected .*-00[01]-t1n\.nii\.gz"):
        convert(edition, tmp_path / "source", processes=1)


@pytest.mark.parametrize("content", ["{", None])
def test_spoilt_note_of_an_interrupted_conversion_starts_it_anew(source, raw, content):
    partial = raw / ".Dataset082_BraTS2020.partial"
    if content is None:
        partial.write_text("a file")
    else:
        partial.mkdir()
        (partial / "settings.json").write_text(content)
    assert len(list((_convert(source) / "labelsTr").iterdir())) == 2


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_note_of_the_conversion_is_named(source, raw, content):
    record = _convert(source) / RECORD
    record.write_text(content)
    with pytest.raises(cli.UserError, match=RECORD):
        read_record(record.parent)
