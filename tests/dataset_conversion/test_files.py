"""Voxels of labels and NIfTI files against NumPy's and nibabel's own ways."""

from __future__ import annotations

import contextlib
import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnunetv2_s2ca.brats.labels import relabel
from nnunetv2_s2ca.core import nifti
from nnunetv2_s2ca.core.nifti import READ_ERRORS, load_nifti, read_voxels, voxel_pieces
from nnunetv2_s2ca.core.nifti_writing import compressed_nifti, header_like, write_compressed
from tests.dataset_conversion.synthetic_cases import AFFINE

SHAPES = arrays.array_shapes(min_dims=3, max_dims=3, max_side=6)
BYTES = arrays.arrays(np.uint8, SHAPES)
DTYPES = [np.uint8, np.int16, np.float32, np.float64]


@given(BYTES, st.booleans(), st.dictionaries(st.integers(0, 255), st.integers(0, 255)))
def test_each_voxel_is_looked_up(labels, transposed, mapping):
    labels = labels.T if transposed else labels
    mapping = dict.fromkeys(np.unique(labels).tolist(), 7) | mapping
    replaced, present = relabel(labels, mapping)
    np.testing.assert_array_equal(replaced, np.vectorize(mapping.get)(labels))
    assert present == np.unique(labels).tolist()


@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32) | st.integers(0, 5)))
def test_values_that_are_no_label_are_refused(data):
    known = {0: 0, 1: 2, 2: 1, 4: 3}
    if np.isin(data, list(known)).all():
        replaced, present = relabel(data, known)
        np.testing.assert_array_equal(replaced, np.vectorize(known.get)(data))
        assert present == np.unique(data).tolist()
    else:
        with pytest.raises(ValueError, match=r"holds the label .*; expected 0, 1, 2, 4"):
            relabel(data, known)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_are_what_nibabel_reads_and_writes(tmp_path, ending, dtype):
    data = np.random.default_rng(0).integers(0, 5, (7, 6, 5)).astype(dtype)
    ours, theirs = tmp_path / f"ours{ending}", tmp_path / f"theirs{ending}"
    nib.save(nib.Nifti1Image(data, AFFINE), theirs)
    np.testing.assert_array_equal(read_voxels(theirs), data)
    header = header_like(load_nifti(theirs).header, data.shape, dtype)
    write_compressed(compressed_nifti([data.ravel(order="F")], header), ours)
    again = nib.load(ours)
    np.testing.assert_array_equal(np.asanyarray(again.dataobj), data)
    np.testing.assert_array_equal(again.affine, nib.load(theirs).affine)
    assert again.get_data_dtype() == dtype


def test_scaled_voxels_are_read_as_the_header_says(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), AFFINE)
    image.header.set_slope_inter(0.5, 3)
    path = tmp_path / "scaled.nii.gz"
    nib.save(image, path)
    np.testing.assert_allclose(read_voxels(path), np.asanyarray(nib.load(path).dataobj))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [*DTYPES, ">i2", ">f4"])
@pytest.mark.parametrize("piece", [1000, 64, 9])
def test_pieces_make_up_the_volume_in_the_files_order(tmp_path, monkeypatch, ending, dtype, piece):
    monkeypatch.setattr(nifti, "PIECE_BYTES", piece)
    data = np.random.default_rng(0).integers(0, 5, (7, 6, 5)).astype(dtype)
    path = tmp_path / f"image{ending}"
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    pieces = list(voxel_pieces(path))
    assert all(part.nbytes <= piece for part in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), data.ravel(order="F"))


@given(BYTES, st.integers(1, 20))
def test_labels_compressed_in_pieces_are_what_nibabel_writes(labels, size):
    flat = labels.ravel(order="F")
    pieces = [flat[start : start + size] for start in range(0, flat.size, size)]
    image = nib.Nifti1Image(labels, AFFINE)
    header = header_like(image.header, labels.shape, np.uint8)
    content = compressed_nifti(pieces, header)
    assert gzip.decompress(content) == image.to_bytes()
    assert content == compressed_nifti(pieces, header)


def test_file_that_ends_early_is_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((7, 6, 5), np.int16), AFFINE)
    for ending, compress in ((".nii", bytes), (".nii.gz", gzip.compress)):
        path = tmp_path / f"short{ending}"
        path.write_bytes(compress(image.to_bytes()[:-3]))
        with pytest.raises((EOFError, ValueError), match="truncated"):
            list(voxel_pieces(path))


def test_colours_are_refused(tmp_path):
    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, AFFINE), tmp_path / "colours.nii.gz")
    with pytest.raises(ValueError, match="colours"):
        read_voxels(tmp_path / "colours.nii.gz")


@given(st.integers(min_value=0), st.integers(1, 255))
def test_damage_is_noticed_or_does_no_harm(tmp_path_factory, position, change):
    data = np.random.default_rng(0).integers(0, 5, (7, 6, 5)).astype(np.uint8)
    content = bytearray(gzip.compress(nib.Nifti1Image(data, AFFINE).to_bytes(), mtime=0))
    content[position % len(content)] ^= change
    path = tmp_path_factory.mktemp("damaged") / "seg.nii.gz"
    path.write_bytes(content)
    with contextlib.suppress(READ_ERRORS):
        np.testing.assert_array_equal(read_voxels(path), data)
