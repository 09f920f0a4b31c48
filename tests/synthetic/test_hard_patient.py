"""Hard synthetic patients look like BraTS, and no threshold segments them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnunetv2_s2ca.synthetic.cohort import FIRST_HOSPITAL, SECOND_HOSPITAL
from nnunetv2_s2ca.synthetic.hard_patient import make_hard_patient
from nnunetv2_s2ca.synthetic.patient import MODALITIES

SIZE = {"shape": (36, 44, 36), "spacing": 5.0}
THRESHOLDS = np.linspace(-3, 4, 71)


@pytest.fixture(scope="module")
def patients():
    return [make_hard_patient(seed, **SIZE) for seed in range(24)]


def test_same_seed_gives_same_patient(patients):
    again = make_hard_patient(3, **SIZE)
    np.testing.assert_array_equal(again.segmentation, patients[3].segmentation)
    for modality in MODALITIES:
        np.testing.assert_array_equal(again.images[modality], patients[3].images[modality])


def test_hospitals_share_tumours_and_differ_in_images():
    first, second = (
        make_hard_patient(5, cohort=cohort, **SIZE) for cohort in (FIRST_HOSPITAL, SECOND_HOSPITAL)
    )
    np.testing.assert_array_equal(first.segmentation, second.segmentation)
    assert (first.images["flair"] != second.images["flair"]).any()


def test_only_brats_labels_within_a_brain_that_is_positive(patients):
    for patient in patients:
        brain = patient.images["t1"] > 0
        assert set(np.unique(patient.segmentation)) <= {0, 1, 2, 4}
        assert brain[patient.segmentation > 0].all()
        for image in patient.images.values():
            assert image.dtype == np.int16
            np.testing.assert_array_equal(image > 0, brain)


@pytest.mark.parametrize("modality", MODALITIES)
def test_best_threshold_of_each_patient_stays_below_0_7_dice(patients, modality):
    best = [_best_dice(patient.images[modality], patient.segmentation > 0) for patient in patients]
    assert np.mean(best) < 0.7


def test_cores_span_hundreds_of_times_their_volume_and_one_to_four_foci():
    volumes, foci = [], []
    for seed in range(60):
        segmentation = make_hard_patient(seed, **SIZE).segmentation
        volumes.append(np.isin(segmentation, (1, 4)).sum())
        foci.append(ndimage.label(np.isin(segmentation, (1, 4)), np.ones((3, 3, 3)))[1])
    assert min(volumes) >= 1
    assert max(volumes) > 100 * min(volumes)
    assert min(foci) == 1
    assert 3 <= max(foci) <= 4


def test_some_tumours_do_not_enhance(patients):
    share = np.mean([(patient.segmentation != 4).all() for patient in patients])
    assert 0.05 < share < 0.5


def _best_dice(image, truth):
    brain = image > 0
    values, inside = image[brain].astype(float), truth[brain]
    values = (values - values.mean()) / values.std()
    dices = []
    for threshold in THRESHOLDS:
        for predicted in (values > threshold, values < threshold):
            dices.append(2 * (predicted & inside).sum() / (predicted.sum() + inside.sum()))
    return max(dices)
