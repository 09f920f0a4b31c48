"""Synthetic patients look like BraTS."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nnunetv2_s2ca.synthetic.patient import MODALITIES, make_patient

SIZE = {"shape": (36, 44, 36), "spacing": 5.0}
SEEDS = range(8)


@pytest.fixture(scope="module")
def patients():
    return [make_patient(seed, grade=("HGG", "LGG")[seed % 2], **SIZE) for seed in SEEDS]


@pytest.fixture(scope="module")
def high_grade(patients):
    return patients[::2]


def test_same_seed_gives_same_patient():
    first, second = make_patient(3, **SIZE), make_patient(3, **SIZE)
    np.testing.assert_array_equal(first.segmentation, second.segmentation)
    for modality in MODALITIES:
        np.testing.assert_array_equal(first.images[modality], second.images[modality])


def test_another_seed_gives_another_brain_and_tumour(patients):
    first, second = patients[0], patients[2]
    assert (first.segmentation != second.segmentation).any()
    assert ((first.images["t1"] > 0) != (second.images["t1"] > 0)).any()


def test_shapes_dtypes_and_modalities(patients):
    for patient in patients:
        assert tuple(patient.images) == ("t1", "t1ce", "t2", "flair")
        assert patient.segmentation.dtype == np.uint8
        assert patient.segmentation.shape == SIZE["shape"]
        for image in patient.images.values():
            assert image.dtype == np.int16
            assert image.shape == SIZE["shape"]


def test_affine_has_spacing_and_brats_axes(patients):
    for patient in patients:
        assert nib.aff2axcodes(patient.affine) == ("L", "P", "S")
        np.testing.assert_array_equal(nib.affines.voxel_sizes(patient.affine), 3 * [5.0])


def test_only_brats_labels_and_high_grade_has_them_all(patients, high_grade):
    for patient in patients:
        assert set(np.unique(patient.segmentation)) <= {0, 1, 2, 4}
    for patient in high_grade:
        assert 4 in patient.segmentation
        assert 2 in patient.segmentation


def test_background_is_zero_in_all_modalities_and_brain_positive(patients):
    for patient in patients:
        masks = [image > 0 for image in patient.images.values()]
        for image, mask in zip(patient.images.values(), masks, strict=True):
            np.testing.assert_array_equal(mask, masks[0])
            assert image.min() == 0
        brain = masks[0]
        assert not brain[[0, -1]].any()
        _, components = ndimage.label(brain)
        assert components == 1


def test_brain_has_a_brains_volume(patients):
    for patient in patients:
        litres = (patient.images["t1"] > 0).sum() * 5.0**3 / 1e6
        assert 1.2 < litres < 2.6


def test_tumour_lies_within_the_brain(patients):
    for patient in patients:
        assert (patient.images["t1"][patient.segmentation > 0] > 0).all()


def test_tumours_differ_in_size_and_place(patients):
    volumes = [(patient.segmentation > 0).sum() * 0.125 for patient in patients]
    assert 3 < min(volumes) < max(volumes) < 300  # ml
    assert max(volumes) > 2 * min(volumes)
    centres = [ndimage.center_of_mass(patient.segmentation > 0) for patient in patients]
    assert (np.std(centres, axis=0) * 5 > 8).all()  # mm


def test_enhancing_rim_encloses_necrosis_in_high_grade():
    patient = next(
        patient
        for patient in (make_patient(seed, grade="HGG") for seed in range(2, 20))
        if (patient.segmentation == 1).sum() > 100
    )
    necrosis = patient.segmentation == 1
    shell = ndimage.binary_dilation(necrosis) & ~necrosis
    assert (patient.segmentation[shell] == 4).mean() > 0.9
    core = np.isin(patient.segmentation, (1, 4))
    outside = ndimage.binary_dilation(core) & ~core & (patient.images["t1"] > 0)
    assert (patient.segmentation[outside] == 2).mean() > 0.5


def test_low_grade_hardly_enhances_and_often_not_at_all():
    enhancing = []
    for seed in range(12):
        segmentation = make_patient(seed, grade="LGG", **SIZE).segmentation
        enhancing.append((segmentation == 4).sum() / np.isin(segmentation, (1, 4)).sum())
    assert 3 <= sum(share == 0 for share in enhancing) < 12
    assert max(enhancing) < 0.5


@pytest.fixture(scope="module")
def mean_signals():
    """Modality → tissue → mean over patients, each in units of its own brain."""
    signals = {modality: defaultdict(list) for modality in MODALITIES}
    for seed in range(4):
        patient = make_patient(seed, grade="HGG")
        t1, segmentation = patient.images["t1"], patient.segmentation
        brain = t1 > 0
        healthy = brain & ~ndimage.binary_dilation(segmentation > 0, iterations=2)
        # the brightest and the darkest on T1, away from the surface
        deep = healthy & ndimage.binary_erosion(brain, iterations=4)
        masks = {
            "necrosis": segmentation == 1,
            "oedema": segmentation == 2,
            "enhancing": segmentation == 4,
            "white matter": deep & (t1 > np.percentile(t1[deep], 60)),
            "ventricles": deep & (t1 < np.percentile(t1[deep], 1)),
        }
        for modality, image in patient.images.items():
            for tissue, mask in masks.items():
                if mask.sum() > 10:
                    signals[modality][tissue].append(image[mask].mean() / image[brain].mean())
    return {
        modality: {tissue: np.mean(values) for tissue, values in tissues.items()}
        for modality, tissues in signals.items()
    }


@pytest.mark.parametrize(
    ("modality", "dark_to_bright"),
    [
        ("t1", ["ventricles", "oedema", "white matter"]),
        ("t1", ["necrosis", "oedema", "white matter"]),
        ("t1ce", ["necrosis", "oedema", "white matter", "enhancing"]),
        ("t2", ["white matter", "enhancing", "oedema", "ventricles"]),
        ("flair", ["ventricles", "white matter", "necrosis", "oedema"]),
    ],
)
def test_contrast_follows_mri(mean_signals, modality, dark_to_bright):
    found = [mean_signals[modality][tissue] for tissue in dark_to_bright]
    assert found == sorted(found)
    assert np.min(np.diff(found)) > 0.03


def test_volume_too_small_for_a_brain_is_refused():
    with pytest.raises(ValueError, match="60 mm"):
        make_patient(0, shape=(16, 16, 16), spacing=3.0)


def test_nothing_is_downloaded():
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('network was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
        "from nnunetv2_s2ca.synthetic.patient import make_patient\n"
        "make_patient(0, shape=(30, 30, 30), spacing=6.0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)
