"""Files that nnU-Net or SimpleITK refuse, or read otherwise: `check` and `convert` name them."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from isal import igzip

from nnunetv2_s2ca import cli
from nnunetv2_s2ca.brats.editions import EDITIONS
from tests.damaged_nifti import write_header
from tests.dataset_conversion.synthetic_cases import AFFINE, SHAPE, save, write_case, write_download

EDITION, MSD = EDITIONS["brats2020"], EDITIONS["msd-task01"]
CASE, OTHER = "BraTS20_Training_001", "BraTS20_Training_002"
SUFFIXES = ("t1", "t1ce", "t2", "flair", "seg")


@dataclass(frozen=True)
class Row:
    """What is done to a file of the first of two cases, and what is said of it.

    Attributes:
        light: whether `--link` sees it, too, which reads headers and lengths of images alone.
    """

    name: str
    suffix: str
    spoil: Callable[[Path], object]
    message: str
    light: bool = True


def _numbers(dtype: str = "i2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 999, SHAPE).astype(dtype)


def _wrong_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


def _flipped_voxel(path: Path) -> None:
    """In a stored block, which deflate does not look into: only the checksum shows it."""
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), 0))
    content[-20] ^= 1
    path.write_bytes(content)


def _wrong_length(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


def _other_bytes_after_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"from another file")


def _nifti_2(path: Path) -> None:
    nib.save(nib.Nifti2Image(_numbers(), AFFINE), path)


def _header(*, offset: int, fmt: str, values: tuple) -> Callable[[Path], None]:
    return lambda path: write_header(path, offset=offset, value=struct.pack(fmt, *values))


def _dimensions(*, code: int, bits: int) -> Callable[[Path], None]:
    """A header of 32767³ voxels."""

    def spoil(path: Path) -> None:
        write_header(path, offset=42, value=struct.pack("<3h", *[32767] * 3))
        write_header(path, offset=70, value=struct.pack("<2h", code, bits))

    return spoil


def _affine(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda path: save(path, _numbers("u1") % 1, change(AFFINE))


def _turned(affine: np.ndarray) -> np.ndarray:
    turn = np.eye(4)
    turn[:2, :2] = [[1, -2e-3], [2e-3, 1]]
    return turn @ affine


def _sheared_slightly(affine: np.ndarray) -> np.ndarray:
    affine = affine.copy()
    affine[0, 1] = 9e-4  # less than our own limit, more than SimpleITK's
    return affine


def _bomb(path: Path) -> None:
    """A little file that goes on for gigabytes of zeros after its voxels."""
    content = gzip.decompress(path.read_bytes())
    zeros = bytes(2**24)
    with igzip.open(path, "wb") as file:
        file.write(content)
        for _ in range(256):  # 4 GiB, so that the length is right modulo 2³²
            file.write(zeros)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _float_labels(value: float) -> Callable[[Path], None]:
    return lambda path: save(path, np.full(SHAPE, value, np.float64))


def _scaled(slope: float, intercept: float = 0) -> Callable[[Path], None]:
    return _header(offset=112, fmt="<2f", values=(slope, intercept))


ROWS = [
    Row("checksum of an integer image", "t1", _wrong_checksum, "is damaged", light=False),
    Row("flipped voxel of an integer image", "t2", _flipped_voxel, "is damaged", light=False),
    Row("checksum of the labels", "seg", _wrong_checksum, "is damaged"),
    Row("length of an image", "flair", _wrong_length, "is (damaged|truncated)"),
    Row("bytes after the end", "t1", _other_bytes_after_the_end, "is damaged"),
    Row("NIfTI-2 image", "t1ce", _nifti_2, "is NIfTI-2"),
    Row("NIfTI-2 labels", "seg", _nifti_2, "is NIfTI-2"),
    Row("complex image", "t1", lambda p: save(p, _numbers("c8")), "holds complex64"),
    Row("complex labels", "seg", lambda p: save(p, _numbers("c8") * 0), "holds complex64"),
    Row("infinite by the slope", "t1", _scaled(1e38), r"NaN or infinite", light=False),
    Row("slope that SimpleITK ignores", "t1", _scaled(1e-20), "slope 1e-20"),
    Row("intercept without a slope", "t1", _scaled(0, 5), "the intercept 5 and no slope"),
    Row("infinite intercept", "t1", _scaled(2, np.inf), "intercept inf"),
    Row(
        "float64 beyond float32",
        "t1",
        lambda p: save(p, np.full(SHAPE, 1e300)),
        rf"holds {np.prod(SHAPE)} NaN or infinite",
        light=False,
    ),
    Row("huge labels", "seg", _dimensions(code=2, bits=8), "35181150962015 bytes .*cannot hold"),
    Row("huge image", "t1", _dimensions(code=64, bits=64), "281449207693656 bytes .*cannot hold"),
    Row(
        "voxels half a thousandth larger",
        "t2",
        _affine(lambda affine: affine @ np.diag([1 + 5e-4] * 3 + [1])),
        r"another affine than T1: voxels of 1\.0005 × 1\.0005 × 1\.0005 mm; expected 1 × 1 × 1",
    ),
    Row("turned image", "t2", _affine(_turned), "another affine than T1: corners lie up to"),
    Row("flipped labels", "seg", _affine(lambda a: np.diag([-1, -1, 1, 1]) @ a), "another affine"),
    Row("shear that SimpleITK refuses", "t1", _affine(_sheared_slightly), "cannot be read by Simp"),
    Row("affine of NaN", "t1", _header(offset=280, fmt="<f", values=(np.nan,)), "finite numbers"),
    Row("voxels of NaN mm", "t1", _header(offset=80, fmt="<f", values=(np.nan,)), "sizes above 0"),
    Row("voxels of -1 mm", "t1", _header(offset=80, fmt="<f", values=(-1,)), "sizes above 0"),
    Row("label near 4", "seg", _float_labels(4.0000000001), r"the label 4\.0000000001; expected"),
    Row("label NaN", "seg", _float_labels(np.nan), "the label nan; expected"),
    Row("labels of 1e300", "seg", _float_labels(1e300), r"the label 1e\+300; expected"),
    Row("zeros without end", "t1", _bomb, "or more bytes after its voxels", light=False),
    Row("labels and zeros without end", "seg", _bomb, "or more bytes after its voxels"),
    Row("pipe", "t1", _pipe, "pipe or device"),
]


@pytest.fixture
def source(tmp_path, nnunet_folders):
    write_download(tmp_path / "source", EDITION, count=2)
    return tmp_path / "source"


def _file(source: Path, suffix: str) -> Path:
    return source / CASE / f"{CASE}_{suffix}.nii.gz"


def _run(command: str, source: Path, *options: str, edition: str = EDITION.name) -> int:
    return cli.main([command, edition, str(source), "-np", "1", *options])


def _problem(path: Path, row: Row) -> str:
    return rf"{re.escape(str(path))}: .*{row.message}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_file_that_nnunet_cannot_read_or_reads_otherwise_is_named(row, source, raw, capsys):
    path = _file(source, row.suffix)
    row.spoil(path)
    assert _run("check", source) == 1
    assert re.search(rf"  problem  {CASE}: {_problem(path, row)}", capsys.readouterr().out)
    assert _run("convert", source) == 1
    assert re.search(rf"\n  {CASE}: {_problem(path, row)}", capsys.readouterr().err)
    assert not list(raw.iterdir())
    assert _run("convert", source, "--skip-invalid") == 0
    assert [path.name for path in raw.rglob("labelsTr/*")] == [f"{OTHER}.nii.gz"]


@pytest.mark.parametrize("row", [row for row in ROWS if row.light], ids=lambda row: row.name)
def test_linking_sees_it_too(row, source, raw, capsys):
    path = _file(source, row.suffix)
    row.spoil(path)
    assert _run("convert", source, "--link") == 1
    assert re.search(rf"\n  {CASE}: {_problem(path, row)}", capsys.readouterr().err)
    assert not list(raw.iterdir())


@pytest.mark.parametrize("row", [row for row in ROWS if not row.light], ids=lambda row: row.name)
def test_linking_deeply_sees_what_lies_in_the_voxels(row, source, raw, capsys):
    path = _file(source, row.suffix)
    row.spoil(path)
    assert _run("convert", source, "--link", "--deep") == 1
    assert re.search(rf"\n  {CASE}: {_problem(path, row)}", capsys.readouterr().err)
    assert not list(raw.iterdir())


def test_several_problems_of_a_case_are_all_named(source, capsys):
    _wrong_checksum(_file(source, "t1"))
    _nifti_2(_file(source, "flair"))
    _float_labels(7)(_file(source, "seg"))
    assert _run("check", source) == 1
    report = capsys.readouterr().out
    for suffix, words in (("t1", "damaged"), ("flair", "NIfTI-2"), ("seg", "label 7")):
        assert re.search(rf"{CASE}: {_file(source, suffix)}: .*{words}", report)


def test_header_that_contradicts_itself_is_remarked_and_read_one_way(source, raw, capsys):
    """Image and labels must go on lying in one place for whatever program reads them."""
    qform = AFFINE.copy()
    qform[0, 3] += 50
    for suffix in SUFFIXES:
        image = nib.load(_file(source, suffix))
        voxels = np.asarray(image.dataobj)
        image = nib.Nifti1Image(voxels, AFFINE)
        image.set_qform(qform, 1)
        nib.save(image, _file(source, suffix))
    assert _run("convert", source) == 0
    assert "contradict each other: programs place its voxels up to 50 mm" in capsys.readouterr().out
    image, labels = (
        nib.load(next(raw.rglob(f"{folder}/{CASE}*"))).header for folder in ("imagesTr", "labelsTr")
    )
    for field in ("qform_code", "sform_code", "qoffset_x", "srow_x", "pixdim"):
        np.testing.assert_array_equal(labels[field], image[field])


def _bad_deflate(position: float) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = bytearray(path.read_bytes())
        place = int(position * len(content))
        content[place : place + 8] = b"\xff" * 8
        path.write_bytes(content)

    return spoil


@pytest.mark.parametrize("options", [[], ["-np", "2"]], ids=["one process", "two"])
@pytest.mark.parametrize(
    "damage",
    [_wrong_checksum, _flipped_voxel, _bad_deflate(0.5), _bad_deflate(0.9)],
    ids=["checksum", "flipped voxel", "deflate stream", "deflate stream, late"],
)
def test_damaged_4d_file_is_named_and_can_be_skipped(
    damage, options, tmp_path, nnunet_folders, raw, capsys
):
    source = tmp_path / "source"
    write_download(source, MSD, count=2)
    path = source / "imagesTr" / "BRATS_00000.nii.gz"
    damage(path)
    assert _run("check", source, *options, edition=MSD.name) == 1
    assert re.search(rf"BRATS_00000: {path}: is damaged", capsys.readouterr().out)
    assert _run("convert", source, *options, edition=MSD.name) == 1
    assert re.search(rf"BRATS_00000: {path}: is damaged", capsys.readouterr().err)
    assert not list(raw.iterdir())
    assert _run("convert", source, *options, "--skip-invalid", edition=MSD.name) == 0
    assert len(list(raw.rglob("imagesTr/*"))) == len(MSD.channels)


def test_big_endian_4d_file_is_split_into_the_same_numbers(tmp_path, nnunet_folders, raw):
    source = tmp_path / "source"
    write_download(source, MSD, count=1)
    path = source / "imagesTr" / "BRATS_00000.nii.gz"
    voxels = np.asarray(nib.load(path).dataobj)
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(voxels.astype(">i2"), AFFINE, header), path)
    assert _run("convert", source, edition=MSD.name) == 0
    for number, channel in enumerate(MSD.channels):
        (copy,) = raw.rglob(f"imagesTr/*_{number:04d}.nii.gz")
        np.testing.assert_array_equal(
            nib.load(copy).dataobj, voxels[..., int(MSD.suffixes[channel])]
        )


def test_names_that_are_no_utf8_can_be_checked(source, tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    shutil.move(source, folder)
    assert _run("check", folder) == 0


def test_nothing_is_said_of_whole_files(source, capsys):
    write_case(source / "BraTS20_Training_003", EDITION, "BraTS20_Training_003", ending=".nii")
    assert _run("check", source) == 0
    assert "note" not in capsys.readouterr().out
