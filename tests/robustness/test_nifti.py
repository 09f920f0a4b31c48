"""What `check` lets pass, nnU-Net's readers read, and read as we do."""

from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.core.nifti import open_nifti, read_voxels
from nnunetv2_s2ca.core.nifti_writing import compress_file, compressed_nifti, header_like
from nnunetv2_s2ca.dataset_conversion.examine import examine_case
from nnunetv2_s2ca.dataset_conversion.geometry import read_geometry
from nnunetv2_s2ca.dataset_conversion.source import Case
from tests.dataset_conversion.synthetic_cases import AFFINE

EDITION = EDITIONS["brats2024-men-rt"]  # one image a case
SHAPE = (5, 4, 3)
DTYPES = {2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 1024: "i8", 1280: "u8"}
DTYPES |= {16: "f4", 64: "f8"}
# binary, complex64, RGB, float128, complex128, complex256, RGBA, and none at all
OTHER_CODES = {
    1: "u1",
    32: "c8",
    128: "V3",
    1536: "V16",
    1792: "c16",
    2048: "V32",
    2304: "V4",
    9: "u1",
}
ODD_NUMBERS = [0.0, -1.0, 1.0, 0.5, 1e-20, 1e-15, 1e38, np.nan, np.inf, -np.inf]


def _turned(angle: float, *, scale: float = 1.0, shift: float = 0.0, shear: float = 0.0):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ AFFINE @ np.diag([scale, scale, scale, 1])
    affine[0, 1] += shear
    affine[:3, 3] += shift
    return affine


AFFINES = [
    AFFINE,
    _turned(0.3),
    _turned(3.1),
    _turned(0, scale=2),
    _turned(0, shift=50),
    _turned(0, shear=1e-4),
    _turned(0, shear=0.3),
    np.diag([1.0, 0, 1, 1]),
    np.full((4, 4), np.nan),
]


def _header_bytes(choice: dict[str, Any]) -> bytes:
    header = nib.Nifti1Header(endianness=choice["endianness"])
    header.set_data_shape(choice["shape"])
    header["datatype"] = choice["code"]
    header["bitpix"] = np.dtype((DTYPES | OTHER_CODES)[choice["code"]]).itemsize * 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if np.isfinite(choice["qform"]).all() and np.linalg.det(choice["qform"]):
            header.set_qform(choice["qform"], 1)
        header.set_sform(choice["sform"], 1)
    header["qform_code"], header["sform_code"] = choice["codes"]
    if choice["pixdim"] is not None:
        header["pixdim"][1 + choice["axis"]] = choice["pixdim"]
    header["scl_slope"], header["scl_inter"] = choice["slope"], choice["intercept"]
    header["xyzt_units"] = choice["units"]
    header["vox_offset"] = choice["offset"]
    header["magic"] = choice["magic"]
    return header.binaryblock


def _write(path: Path, choice: dict[str, Any]) -> None:
    """A file as the choice says: header, voxels, compression and damage."""
    order = choice["endianness"]
    dtype = np.dtype((DTYPES | OTHER_CODES)[choice["code"]]).newbyteorder(order)
    count = int(np.prod(choice["shape"]))
    if choice["code"] in DTYPES:
        values = np.random.default_rng(choice["seed"]).integers(0, 100, count)
        voxels = values.astype(dtype).tobytes()
    else:
        voxels = bytes(count * dtype.itemsize)
    offset = int(choice["offset"]) if 348 <= choice["offset"] < 1000 else 352
    content = _header_bytes(choice).ljust(offset, b"\0") + voxels
    if choice["version"] == 2:
        content = struct.pack("<i8s", 540, b"n+2\0\r\n\032\n") + content[12:]
    compressed = bytearray(gzip.compress(content, choice["level"], mtime=0))
    damage, place = choice["damage"], choice["place"]
    if damage == "byte":
        compressed[place % len(compressed)] ^= 1 + place % 255
    elif damage == "checksum":
        compressed[-8 + place % 4] ^= 1
    elif damage == "length":
        compressed[-4 + place % 4] ^= 1
    elif damage == "end":
        del compressed[len(compressed) - 1 - place % 30 :]
    elif damage == "more":
        compressed += b"more" * (1 + place % 9)
    elif damage == "parts":
        half = place % len(content)
        compressed = bytearray(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    path.write_bytes(compressed)


PLAIN: dict[str, Any] = {
    "shape": SHAPE,
    "code": 4,
    "endianness": "<",
    "version": 1,
    "qform": AFFINE,
    "sform": AFFINE,
    "codes": (1, 1),
    "pixdim": None,
    "axis": 0,
    "slope": 1.0,
    "intercept": 0.0,
    "units": 2,
    "offset": 352.0,
    "magic": b"n+1\0",
    "level": 6,
    "damage": None,
    "place": 0,
    "seed": 0,
}

# every file differs from a plain one in a few of these, so that about half of them pass
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "shape": st.sampled_from([(5, 4, 1), (1, 4, 3), (5, 4), (5, 4, 3, 1), (5, 4, 3, 2), (5,)]),
    "code": st.sampled_from([*DTYPES, *OTHER_CODES]),
    "endianness": st.just(">"),
    "version": st.just(2),
    "qform": st.sampled_from(AFFINES),
    "sform": st.sampled_from(AFFINES),
    "codes": st.tuples(st.integers(-1, 6), st.integers(-1, 6)),
    "pixdim": st.sampled_from([*ODD_NUMBERS, 1.00001, 2.0]),
    "axis": st.integers(0, 2),
    "slope": st.sampled_from(ODD_NUMBERS) | st.floats(width=32),
    "intercept": st.sampled_from(ODD_NUMBERS) | st.floats(width=32),
    "units": st.integers(0, 63),
    "offset": st.sampled_from([0.0, 348.0, 351.5, 352.5, 353.0, 400.0, np.nan, np.inf, -1.0, 1e30]),
    "magic": st.sampled_from([b"ni1\0", b"n+2\0", b"\0\0\0\0"]),
    "level": st.integers(0, 9),
    "damage": st.sampled_from(["byte", "checksum", "length", "end", "more", "parts"]),
    "place": st.integers(0, 2**16),
    "seed": st.integers(0, 99),
}


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=4, unique=True))
    return PLAIN | {name: draw(CHANGES[name]) for name in names}


def _problems(path: Path, *, deep: bool = True) -> tuple[str, ...]:
    case = Case("case", {"T1ce": path}, None, "patient")
    return examine_case(case, edition=EDITION, deep=deep).case.problems


@settings(max_examples=300)
@given(files())
@example(PLAIN)
@example(PLAIN | {"slope": 1e-15, "intercept": 5.0})
@example(PLAIN | {"codes": (1, 2), "qform": AFFINES[4]})
@example(PLAIN | {"code": 64, "slope": 1e38})
def test_a_file_that_passes_is_what_nnunet_reads(tmp_path_factory, choice):
    path = tmp_path_factory.mktemp("file") / "image.nii.gz"
    _write(path, choice)
    problems = _problems(path)
    event("refused" if problems else "passes")
    if problems:
        assert str(path) in problems[0]
        return
    voxels = read_voxels(path)
    assert voxels.shape == tuple(choice["shape"])
    with open_nifti(path) as nifti:
        geometry = read_geometry(nifti)
    for reader in (SimpleITKIO(), NibabelIO()):
        images, properties = reader.read_images([str(path)])
        assert images.shape == (1, *voxels.shape[::-1])
        _assert_same(images[0].T, voxels, choice)
        if isinstance(reader, SimpleITKIO):
            np.testing.assert_allclose(properties["spacing"][::-1], geometry.spacing, rtol=1e-6)


def _assert_same(theirs: np.ndarray, ours: np.ndarray, choice: dict[str, Any]) -> None:
    """Up to the rounding of float32, in which SimpleITK computes and nnU-Net stores."""
    size = np.abs(ours.astype(np.float64)).max(initial=0)
    if np.isfinite(choice["slope"]) and np.isfinite(choice["intercept"]):
        size = max(size, abs(choice["intercept"]), 100 * abs(choice["slope"]))
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6 * float(size))


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("slope", [1.0, 0.0, 0.1234567])
def test_every_kind_of_number_passes(tmp_path, code, endianness, slope):
    choice = PLAIN | {"code": code, "endianness": endianness, "slope": slope}
    _write(tmp_path / "image.nii.gz", choice)
    assert _problems(tmp_path / "image.nii.gz") == ()


@settings(max_examples=100)
@given(files())
def test_labels_lie_where_any_reader_places_the_image(tmp_path_factory, choice):
    folder = tmp_path_factory.mktemp("file")
    path, copy = folder / "image.nii.gz", folder / "labels.nii.gz"
    _write(path, choice)
    if _problems(path):
        return
    labels = np.ones(choice["shape"], np.uint8)
    with open_nifti(path) as nifti:
        header = header_like(nifti.header, labels.shape, np.uint8)
    copy.write_bytes(compressed_nifti([labels.ravel(order="F")], header))
    assert _problems(copy) == ()
    for reader in (SimpleITKIO(), NibabelIO()):
        of_image, of_copy = (reader.read_images([str(p)])[1] for p in (path, copy))
        np.testing.assert_equal(of_copy, of_image)
    np.testing.assert_array_equal(nib.load(copy).affine, nib.load(path).affine)


@settings(max_examples=50)
@given(files(), st.binary(max_size=99))
def test_compressed_files_hold_the_very_bytes(tmp_path_factory, choice, more):
    folder = tmp_path_factory.mktemp("file")
    source, target = folder / "image.nii", folder / "image.nii.gz"
    source.write_bytes(_header_bytes(choice) + more)
    compress_file(source, target)
    assert gzip.decompress(target.read_bytes()) == source.read_bytes()
