"""The lesion-wise rules, each clause on a synthetic case, and the challenge's own program."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from nnunetv2_s2ca.brats.regions import Region
from nnunetv2_s2ca.evaluation.case import evaluate_case
from nnunetv2_s2ca.evaluation.lesions import lesionwise_2023, matched_lesions_2026
from nnunetv2_s2ca.evaluation.rules import LesionRule2023, rules_named
from nnunetv2_s2ca.evaluation.segmentations import read_labels
from tests.evaluation.shapes import ball, blobs, real_pairs, write_labels

SHAPE = (60, 24, 24)
UNIT = (1.0, 1.0, 1.0)


def cube(start: int, size: int = 5, shape=SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[start : start + size, 8 : 8 + size, 8 : 8 + size] = True
    return mask


def lesionwise(reference, prediction, rule=LesionRule2023()):  # noqa: B008
    return lesionwise_2023(reference, prediction, spacing=UNIT, rule=rule)


def test_reference_lesions_that_touch_after_dilation_are_one():
    # a gap of 6 voxels is closed by three dilations from each side, one of 8 is not
    near = lesionwise(cube(5) | cube(16), cube(5) | cube(16))
    far = lesionwise(cube(5) | cube(18), cube(5) | cube(18))
    assert near.reference == 1
    assert far.reference == 2
    assert near.dice == far.dice == 1


@pytest.mark.parametrize("times", [1, 3])
def test_dilation_is_that_by_the_18_neighbourhood(times):
    from scipy.ndimage import binary_dilation, generate_binary_structure

    from nnunetv2_s2ca.evaluation.lesions import _dilate

    mask = blobs(1, share=0.01)  # some of it at the border
    mask[0, 0, 0] = mask[-1, 5, -1] = True
    expected = binary_dilation(mask, generate_binary_structure(3, 2), iterations=times)
    assert (_dilate(mask, times) == expected).all()


def test_one_dilation_joins_less_than_three():
    scores = lesionwise(cube(5) | cube(16), cube(5), LesionRule2023(dilations=1))
    assert scores.reference == 2
    assert scores.missed == 1


def test_a_missed_lesion_adds_zero_and_374_mm():
    scores = lesionwise(cube(5) | cube(40), cube(5))
    assert scores.dice == pytest.approx(1 / 2)
    assert scores.hd95 == pytest.approx(374 / 2)
    assert (scores.reference, scores.missed, scores.false) == (2, 1, 0)


def test_a_false_lesion_adds_zero_and_374_mm():
    scores = lesionwise(cube(5), cube(5) | cube(30) | cube(45))
    assert scores.dice == pytest.approx(1 / 3)
    assert scores.hd95 == pytest.approx(2 * 374 / 3)
    assert (scores.reference, scores.missed, scores.false) == (1, 0, 2)


def test_all_components_that_meet_the_dilation_belong_to_the_lesion():
    reference = cube(10)
    beside = np.zeros(SHAPE, bool)
    beside[17:19, 8:13, 8:13] = True  # two voxels from the lesion, no overlap with it
    scores = lesionwise(reference, reference | beside)
    assert scores.false == 0
    assert scores.dice == pytest.approx(2 * 125 / (125 + 125 + 50))


def test_small_lesions_are_left_out_and_what_was_predicted_for_them_is_not_false():
    small = np.zeros(SHAPE, bool)
    small[40:42, 8:13, 8:13] = True  # 50 mm³
    scores = lesionwise(cube(5) | small, cube(5) | small)
    assert (scores.dice, scores.reference, scores.false) == (1, 1, 0)
    missed = lesionwise(cube(5) | small, cube(5))
    assert (missed.dice, missed.reference, missed.missed) == (1, 1, 0)


def test_the_limit_of_size_is_in_mm3_and_metastases_have_their_own():
    small = np.zeros(SHAPE, bool)
    small[40:42, 8:13, 8:13] = True
    rule = rules_named("lesionwise-2023", edition="brats2023-met").lesions
    assert lesionwise(small, small, rule).reference == 1
    assert lesionwise(small, small).reference == 0
    larger_voxels = lesionwise_2023(small, small, spacing=(1, 1, 1.1), rule=LesionRule2023())
    assert larger_voxels.reference == 1


@pytest.mark.parametrize(
    ("edition", "dilations", "smallest"),
    [
        ("brats2023-gli", 3, 50),
        ("brats2023-ssa", 3, 50),
        ("brats2024-ped", 3, 50),
        ("brats2023-men", 1, 50),
        ("brats2023-met", 1, 2),
        (None, 3, 50),
    ],
)
def test_each_task_has_its_sizes(edition, dilations, smallest):
    rule = rules_named("lesionwise-2023", edition=edition).lesions
    assert (rule.dilations, rule.smallest_mm3) == (dilations, smallest)


def reference_program_2023(reference, prediction, spacing, dilations, smallest):
    """The rule of 2023 written out on whole volumes, with scipy and surface-distance, slowly."""
    import surface_distance
    from scipy import ndimage

    full, around = np.ones((3, 3, 3)), ndimage.generate_binary_structure(3, 2)

    def dilate(mask):
        return ndimage.binary_dilation(mask, around, iterations=dilations)

    joined, count = ndimage.label(dilate(reference), full)
    joined = joined * reference
    predicted, predicted_count = ndimage.label(prediction, full)
    found, dices, distances = set(), [], []
    for lesion in range(1, count + 1):
        mask = joined == lesion
        hits = set(predicted[dilate(mask)].tolist()) - {0}
        found |= hits
        if mask.sum() * np.prod(spacing) <= smallest:
            continue
        union = np.isin(predicted, list(hits))
        dices.append(2 * (union & mask).sum() / (union.sum() + mask.sum()))
        hd95 = 374.0
        if hits:
            between = surface_distance.compute_surface_distances(mask, union, spacing)
            hd95 = surface_distance.compute_robust_hausdorff(between, 95)
        distances.append(hd95)
    false = predicted_count - len(found)
    number = len(dices) + false
    return sum(dices) / number, (sum(distances) + 374 * false) / number


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # surface-distance's own
@pytest.mark.parametrize("dilations", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_random_lesions_score_as_the_rule_written_out(seed, dilations):
    reference, prediction = blobs(seed, share=0.02), blobs(seed + 7, share=0.02)
    prediction |= blobs(seed, share=0.01)
    spacing = (1.0, 1.2, 0.8)
    ours = lesionwise_2023(
        reference,
        prediction,
        spacing=spacing,
        rule=LesionRule2023(dilations=dilations, smallest_mm3=20),
    )
    expected = reference_program_2023(reference, prediction, spacing, dilations, 20)
    assert (ours.dice, ours.hd95) == pytest.approx(expected)


def test_matching_of_2026_pairs_lesions_one_to_one():
    rules = rules_named("brats-2026")
    halves = cube(5) | cube(12)
    bridge = np.zeros(SHAPE, bool)
    bridge[5:17, 8:13, 8:13] = True  # one prediction over both lesions
    scores = matched_lesions_2026(halves, bridge, spacing=UNIT, rules=rules)
    assert (scores.reference, scores.missed, scores.false) == (2, 1, 0)
    assert scores.dice == pytest.approx(2 * 125 / (125 + bridge.sum()))


@pytest.fixture(scope="module")
def official():
    """The bundled evaluator of the challenge's package; for gliomas after treatment."""
    package = pytest.importorskip("brats_evaluation")
    from panoptica import Panoptica_Evaluator

    return Panoptica_Evaluator.load_from_config(str(package.config_path("gli")))


OFFICIAL_REGIONS = [
    Region("et", (3,)),
    Region("netc", (1,)),
    Region("snfh", (2,)),
    Region("rc", (4,)),
    Region("tc", (1, 3)),
    Region("wt", (1, 2, 3)),
]


def assert_equal_to_official(
    official, reference, prediction, spacing, *, regionwise=True, files=None
):
    if files is None:
        theirs = official.evaluate(prediction, reference, voxelspacing=spacing)
    else:
        theirs = official.evaluate(*map(str, reversed(files)))
    rows = evaluate_case(
        reference,
        prediction,
        spacing=spacing,
        regions=OFFICIAL_REGIONS,
        rules=rules_named("brats-2026"),
    )
    for row in rows:
        expected = theirs[row.region].to_dict(True)
        pairs = {
            "lesion_dice": "sq_dsc",
            "lesion_hd95_mm": "sq_hd95",
            "lesion_nsd": "sq_nsd",
            "lesions_missed": "fn",
            "lesions_false": "fp",
        }
        if regionwise:
            pairs |= {"dice": "global_bin_dsc", "hd95_mm": "global_bin_hd95"}
            pairs |= {"nsd": "global_bin_nsd"}
        for mine, their in pairs.items():
            value, other = getattr(row, mine), expected[their]
            assert value == pytest.approx(other, abs=1e-6, nan_ok=True), (row.region, mine)


def random_labels(seed: int) -> np.ndarray:
    labels = np.zeros((40, 36, 30), np.uint8)
    for label, offset in ((2, 0), (1, 200), (3, 300)):
        labels[blobs(seed + offset, share=0.04)] = label
    return labels


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_rules_of_2026_equal_the_official_package_on_random_labels(official, seed):
    reference, prediction = random_labels(seed), random_labels(seed + 1)
    keep = blobs(seed, share=0.3)
    prediction[keep] = reference[keep]
    assert_equal_to_official(official, reference, prediction, UNIT)


@pytest.mark.filterwarnings("ignore")
def test_rules_of_2026_equal_the_official_package_lesionwise_at_anisotropic_spacing(official):
    # region-wise, the package measures in voxels whatever the spacing; ours stays in mm
    reference, prediction = random_labels(5), random_labels(6)
    assert_equal_to_official(official, reference, prediction, (0.7, 1.1, 2.5), regionwise=False)


@pytest.mark.filterwarnings("ignore")
def test_rules_of_2026_equal_the_official_package_on_empty_and_disjoint_regions(official):
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[cube(5)], prediction[cube(30)] = 1, 1  # disjoint
    reference[cube(15)] = 2  # missed
    prediction[cube(45)] = 3  # false; resection cavity is empty in both
    assert_equal_to_official(official, reference, prediction, UNIT)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("axes", list(permutations(range(3))), ids=str)
def test_ties_of_2026_are_broken_as_by_the_official_package(official, tmp_path, axes):
    """One prediction meets two lesions of the same size and overlap, but of other shapes.

    The one that comes first along x comes last along z. Read from files, as the package does it:
    what it makes of arrays depends on their layout.
    """
    reference, prediction = np.zeros((2, 24, 24, 24), np.uint8)
    prediction[4:20, 10:12, 18:20] = prediction[18:20, 10:12, 4:20] = 3
    reference[4:6, 10:12, 18:20] = reference[18:20, 10:12, 4:6] = 3
    reference[4, 12:18, 18] = 3  # six more voxels in a row, or in a block
    reference[18:20, 12:15, 4] = 3
    for name, labels in (("reference", reference), ("prediction", prediction)):
        write_labels(labels.transpose(axes), tmp_path / f"{name}.nii.gz")
    assert_equal_to_official(
        official,
        read_labels(tmp_path / "reference.nii.gz")[0],
        read_labels(tmp_path / "prediction.nii.gz")[0],
        UNIT,
        files=(tmp_path / "reference.nii.gz", tmp_path / "prediction.nii.gz"),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rules_of_2026_equal_the_official_package_on_real_cases(official):
    pairs = real_pairs()
    if not pairs:
        pytest.skip("the real cases are not beside this checkout")
    to_2023 = np.array([0, 1, 2, 0, 3], np.uint8)
    for reference, prediction in pairs:
        assert_equal_to_official(official, to_2023[reference], to_2023[prediction], UNIT)


def test_lesions_of_2026_without_any_are_left_out():
    nothing = np.zeros(SHAPE, bool)
    scores = matched_lesions_2026(nothing, nothing, spacing=UNIT, rules=rules_named("brats-2026"))
    assert math.isnan(scores.dice)
    assert scores.reference == 0


def test_far_lesions_of_any_shape_do_not_mix():
    reference = ball(SHAPE, (10, 12, 12), 5) | ball(SHAPE, (45, 12, 12), 5)
    prediction = np.roll(reference, 1, 1)
    single = lesionwise(ball(SHAPE, (10, 12, 12), 5), np.roll(ball(SHAPE, (10, 12, 12), 5), 1, 1))
    both = lesionwise(reference, prediction)
    assert both.dice == pytest.approx(single.dice)
    assert both.hd95 == pytest.approx(single.hd95)
