"""The fit raises what it optimises, and sees nothing but out-of-fold predictions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from nnunetv2_s2ca.brats.regions import scheme_of_regions
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.evaluation.cohort import CasePair
from nnunetv2_s2ca.postprocessing import fitting
from nnunetv2_s2ca.postprocessing.fitting import COMPONENT_SIZES, ENHANCING_SIZES
from nnunetv2_s2ca.postprocessing.rules import read_rules
from tests.evaluation.shapes import DATASET, ball, blobs, write_labels

SHAPE = (32, 28, 26)
fit_rules = partial(fitting.fit_rules, processes=1)  # workers take longer to start than to work
SCHEME = scheme_of_regions({"WT": (1, 2, 3), "TC": (2, 3), "ET": (3,)})


def truth(*, enhancing: bool = True) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for label, radius in ((1, 9), (2, 7), (3 if enhancing else 2, 5)):
        labels[ball(SHAPE, (14, 13, 13), radius)] = label
    return labels


def speckled(labels: np.ndarray, seed: int, voxels: int) -> np.ndarray:
    """False blocks of so many voxels far from the tumour."""
    labels = labels.copy()
    rng = np.random.default_rng(seed)
    for _ in range(3):
        y, z = rng.integers(1, 20, 2)
        labels[28, y, z : z + voxels] = 1
    return labels


def write_pair(tmp_path, case, reference, prediction) -> CasePair:
    paths = (tmp_path / "ref" / f"{case}.nii.gz", tmp_path / "pred" / f"{case}.nii.gz")
    for path, labels in zip(paths, (reference, prediction), strict=True):
        write_labels(labels, path)
    return CasePair(case, *paths)


def test_false_specks_are_removed_and_the_tumour_is_kept(tmp_path):
    pairs = [
        write_pair(tmp_path, f"c{seed}", truth(), speckled(truth(), seed, 6)) for seed in range(3)
    ]
    fitted = fit_rules(pairs, scheme=SCHEME)
    assert fitted.before.dice["WT"] < 1
    assert fitted.after.dice == {"WT": 1, "TC": 1, "ET": 1}
    assert fitted.after.hd95_mm == {"WT": 0, "TC": 0, "ET": 0}
    # the smallest of the sizes that do it, and nothing where nothing helps
    assert fitted.rules.smallest_component == {"WT": 10, "TC": 0, "ET": 0}
    assert fitted.rules.smallest_enhancing == 0


def test_false_enhancing_tumour_sets_the_smallest_total(tmp_path):
    without = truth(enhancing=False)
    false = without.copy()
    false[10:14, 10:15, 10:14] = 3  # 80 voxels
    pairs = [
        write_pair(tmp_path, "without", without, false),
        write_pair(tmp_path, "with", truth(), truth()),
    ]
    fitted = fit_rules(pairs, scheme=SCHEME)
    assert (fitted.before.dice["ET"], fitted.after.dice["ET"]) == (0.5, 1)
    # by either size: both remove it, and the first that does is taken
    assert max(fitted.rules.smallest_enhancing, fitted.rules.smallest_component["ET"]) == 100


def test_no_smallest_total_is_set_where_no_label_is_the_core_without_enhancement(tmp_path):
    without = np.minimum(truth(enhancing=False), 1)
    false = without.copy()
    false[10:14, 10:15, 10:14] = 3  # 80 voxels
    pairs = [write_pair(tmp_path, "c", without, false)]
    fitted = fit_rules(pairs, scheme=scheme_of_regions({"edema": (1,), "ET": (3,)}))
    assert (fitted.before.dice["ET"], fitted.after.dice["ET"]) == (0, 1)
    assert fitted.rules.smallest_enhancing == 0


IGNORING = replace(SCHEME, labels=SCHEME.labels | {4}, ignore_label=4)


def test_what_the_truth_ignores_decides_no_size(tmp_path):
    """Two false specks in one case outweigh a true one in another.

    With the large component that the truth ignores, the false ones would weigh less.
    """
    reference = truth()
    reference[25:] = 4
    false, small = truth(), truth()
    false[26:, 2:-2, 2:-2] = 1
    false[2, (2, 24), 2:8] = 1
    small[2, 2, 2:8] = 1
    true = np.where(reference == 4, 4, small)
    pairs = [
        write_pair(tmp_path, "false", reference, false),
        write_pair(tmp_path, "true", true, small),
    ]
    fitted = fit_rules(pairs, scheme=IGNORING)
    assert fitted.rules.smallest_component["WT"] == 10


def test_a_component_counts_whole_where_the_truth_ignores_a_part_of_it(tmp_path):
    reference = truth()
    reference[:, :, 8:] = np.where(reference == 0, 4, reference)[:, :, 8:]
    prediction = truth()
    prediction[2, 2, 2:22] = 1  # 20 voxels, 6 of which are scored
    fitted = fit_rules([write_pair(tmp_path, "c", reference, prediction)], scheme=IGNORING)
    assert fitted.rules.smallest_component["WT"] == 50
    assert fitted.after.dice["WT"] == 1


def test_small_true_lesions_are_not_sacrificed(tmp_path):
    reference = truth()
    reference[28, 5, 5:11] = 1
    pairs = [write_pair(tmp_path, "c", reference, reference)]
    fitted = fit_rules(pairs, scheme=SCHEME)
    assert fitted.rules.smallest_component["WT"] == 0
    assert fitted.before == fitted.after


@pytest.mark.parametrize(("true_at", "false_at", "chosen"), [(12, 28, 10), (28, 12, 0)])
def test_hd95_decides_between_sizes_of_the_same_dice(tmp_path, true_at, false_at, chosen):
    """A size of 10 loses a true lesion in one case and a false one in the other.

    Both have 6 voxels, so the mean Dice is the same with and without; which of them lies farther
    from the tumour makes the difference in HD95.
    """
    tumour = np.zeros(SHAPE, np.uint8)
    tumour[ball(SHAPE, (5, 13, 13), 3)] = 1
    true, false = tumour.copy(), tumour.copy()
    true[true_at, 13, 10:16] = 1
    false[false_at, 13, 10:16] = 1
    pairs = [write_pair(tmp_path, "a", true, true), write_pair(tmp_path, "b", tumour, false)]
    fitted = fit_rules(pairs, scheme=SCHEME)
    assert fitted.after.dice["WT"] == pytest.approx(fitted.before.dice["WT"])
    assert fitted.rules.smallest_component["WT"] == chosen
    assert fitted.after.hd95_mm["WT"] <= fitted.before.hd95_mm["WT"]


@pytest.mark.parametrize("seed", range(6))
def test_no_region_ever_gets_worse(tmp_path, seed):
    rng = np.random.default_rng(seed)
    pairs = []
    for case in range(4):
        reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        for label, share in ((1, 0.1), (2, 0.05), (3, 0.02)):
            reference[blobs(100 * seed + case, shape=SHAPE, share=share)] = label
            prediction[blobs(100 * seed + case, shape=SHAPE, share=share * 1.2)] = label
        for _ in range(6):
            x, y, z = rng.integers(0, 22, 3)
            prediction[x : x + 3, y, z : z + rng.integers(1, 5)] = rng.integers(1, 4)
        if case == 3:
            reference[reference == 3] = 2
        pairs.append(write_pair(tmp_path, f"c{case}", reference, prediction))
    fitted = fit_rules(pairs, scheme=SCHEME, fill_holes=True)
    for region in ("WT", "TC", "ET"):
        assert fitted.after.dice[region] >= fitted.before.dice[region] - 1e-9


def test_fit_finds_the_best_sizes_of_a_full_search(tmp_path):
    """All combinations scored by applying them, on cases where the sizes do not interact."""
    from itertools import product

    from nnunetv2_s2ca.postprocessing.rules import PostprocessingRules, postprocess

    false = truth(enhancing=False)
    false[10:14, 10:15, 10:13] = 3
    cases = [(truth(), speckled(truth(), 1, 6)), (truth(enhancing=False), false)]
    pairs = [write_pair(tmp_path, f"c{i}", *case) for i, case in enumerate(cases)]
    fitted = fit_rules(pairs, scheme=SCHEME)

    def mean_dice(rules):
        dices = []
        for reference, prediction in cases:
            cleaned = postprocess(prediction, rules, regions=SCHEME.regions)
            for region in SCHEME.regions:
                a, b = region.mask(reference), region.mask(cleaned)
                both = a.sum() + b.sum()
                dices.append(2 * (a & b).sum() / both if both else 1.0)
        return np.mean(dices)

    best = max(
        mean_dice(PostprocessingRules({"WT": n, "TC": n, "ET": m}, t))
        for n, m, t in product(COMPONENT_SIZES[:6], COMPONENT_SIZES[:6], ENHANCING_SIZES)
    )
    assert mean_dice(fitted.rules) == pytest.approx(best)
    assert np.mean(list(fitted.after.dice.values())) == pytest.approx(best)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A model folder of two folds, two cases each, as nnU-Net leaves it."""
    preprocessed = tmp_path / "preprocessed"
    dataset = preprocessed / "Dataset043_Demo"
    model = tmp_path / "results/Dataset043_Demo/nnUNetTrainerS2CA__nnUNetPlans__3d_fullres"
    cases = [f"case_{number}" for number in range(4)]
    splits = [
        {"train": cases[2:], "val": cases[:2]},
        {"train": cases[:2], "val": cases[2:]},
    ]
    for fold, split in enumerate(splits):
        for number, case in enumerate(split["val"]):
            write_labels(truth(), dataset / "gt_segmentations" / f"{case}.nii.gz")
            write_labels(
                speckled(truth(), number, 6), model / f"fold_{fold}/validation/{case}.nii.gz"
            )
    (dataset / "splits_final.json").write_text(json.dumps(splits))
    (model / "dataset.json").write_text(json.dumps(DATASET))
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    return model, dataset


def fit(model, *options) -> int:
    return main(["postprocess", "--fit", "-m", str(model), "-np", "1", *options])


def test_the_command_writes_sizes_and_scores(trained, capsys):
    model, _ = trained
    assert fit(model) == 0
    written = json.loads((model / "s2ca_postprocessing.json").read_text())
    assert written["smallest_component_voxels"]["WT"] == 10
    assert written["scores"]["before"]["WT"]["dice"] < written["scores"]["after"]["WT"]["dice"]
    assert written["fitted_on"]["cases"] == 4
    assert written["fitted_on"]["missing_folds"] == []
    assert read_rules(model / "s2ca_postprocessing.json").smallest_component["WT"] == 10
    printed = capsys.readouterr()
    assert "--apply" in printed.out
    assert "warning" not in printed.err


def test_folds_that_are_missing_are_named(trained, capsys):
    model, _ = trained
    shutil.rmtree(model / "fold_1")
    assert fit(model) == 0
    assert "has no validation of fold 1" in capsys.readouterr().err
    written = json.loads((model / "s2ca_postprocessing.json").read_text())
    assert written["fitted_on"]["missing_folds"] == [1]


def test_an_existing_fit_stays_unless_asked(trained, capsys):
    model, _ = trained
    (model / "s2ca_postprocessing.json").write_text("mine")
    assert fit(model) == 1
    assert (model / "s2ca_postprocessing.json").read_text() == "mine"
    assert fit(model, "--overwrite") == 0


def test_a_folder_in_the_place_of_the_output_is_refused(trained, capsys):
    assert fit(trained[0], "-o", str(trained[1]), "--overwrite") == 1
    assert f"{trained[1]} is a folder" in capsys.readouterr().err


def test_a_prediction_of_a_training_case_is_refused(trained, capsys):
    model, _ = trained
    write_labels(truth(), model / "fold_0/validation/case_2.nii.gz")
    assert fit(model) == 1
    message = capsys.readouterr().err
    assert "case_2" in message
    assert "trained on" in message
    assert not (model / "s2ca_postprocessing.json").exists()


def test_predictions_outside_the_folds_change_nothing(trained):
    """Not those of training cases, of test cases, or of a network that saw every case."""
    model, _ = trained
    assert fit(model) == 0
    before = (model / "s2ca_postprocessing.json").read_text()
    noise = np.full(SHAPE, 3, np.uint8)
    for case in range(4):
        copies = ("fold_all/validation", "fold_0_old/validation")
        for folder in (*copies, "predicted", "fold_0/predicted_next_stage"):
            write_labels(noise, model / folder / f"case_{case}.nii.gz")
    assert fit(model, "--overwrite") == 0
    assert (model / "s2ca_postprocessing.json").read_text() == before


def swap_folds(model, dataset):
    splits = json.loads((dataset / "splits_final.json").read_text())
    (dataset / "splits_final.json").write_text(json.dumps(splits[::-1]))


def unfinished_validation(model, dataset):
    (model / "fold_1/validation/case_3.nii.gz").unlink()


def stranger(model, dataset):
    write_labels(truth(), model / "fold_1/validation/stranger.nii.gz")


def leaking_split(model, dataset):
    splits = json.loads((dataset / "splits_final.json").read_text())
    splits[0]["train"].append("case_0")
    (dataset / "splits_final.json").write_text(json.dumps(splits))


def missing_truth(model, dataset):
    (dataset / "gt_segmentations/case_3.nii.gz").unlink()


def missing_splits(model, dataset):
    (dataset / "splits_final.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (swap_folds, "trained on"),
        (unfinished_validation, "case_3"),
        (stranger, "stranger"),
        (leaking_split, "validates on"),
        (missing_truth, "case_3"),
        (missing_splits, "splits_final.json"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_out_of_fold_is_refused(trained, capsys, spoil, word):
    model, dataset = trained
    spoil(model, dataset)
    assert fit(model) == 1
    assert word in capsys.readouterr().err
    assert not (model / "s2ca_postprocessing.json").exists()


def test_a_model_without_folds_is_refused(trained, tmp_path, capsys):
    assert fit(tmp_path, "-djfile", str(trained[0] / "dataset.json")) == 1
    assert "nnUNet_preprocessed" in capsys.readouterr().err
    (trained[0] / "fold_0").rename(trained[0] / "fold_all")
    (trained[0] / "fold_1").rename(trained[0] / "elsewhere")
    assert fit(trained[0]) == 1
    assert "fold_all" in capsys.readouterr().err
