"""The report of the accuracy experiment: its numbers, and what it says where rows are missing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.experiment import TEST_IDS, Settings, patients_folder
from benchmarks.accuracy.patient_pictures import ranked_patients
from benchmarks.accuracy.records import Records
from benchmarks.accuracy.report import ABLATION, SAME_SECONDS
from benchmarks.accuracy.report_tables import command, describe, sentence
from benchmarks.accuracy.results import MEAN, REGIONS, compare_rows, read_results
from benchmarks.accuracy.rows import BEST_NNUNET, BEST_S2CA, ROWS
from benchmarks.accuracy.running import predictions_folder
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.perfect_predictions import write_perfect_predictions

PATIENTS = [f"BraTS19_SYN_{number:03d}_1" for number in range(41, 61)]


def write_record(folder, name, seed, *, dice=0.8, test=True, patients=PATIENTS, **settings):
    """Fabricate a record; returns the Dice of its test patients, (patients, regions)."""
    rng = np.random.default_rng([seed, *name.encode()])
    values = np.clip(rng.normal(dice, 0.1, (len(patients), 3)), 0, 1).round(4)
    scores = {
        case: {
            region: {"dice": float(value), "hd95_mm": 3.0}
            for region, value in zip(REGIONS, row, strict=True)
        }
        for case, row in zip(patients, values, strict=True)
    }
    row = ROWS[name]
    points = [
        {"step": 100 * (i + 1), "seconds": 50.0 * (i + 1), "dice": [0.2 * i] * 3} for i in range(3)
    ]
    record = {
        "conditions": {
            "row": row.as_json(),
            "steps": row.steps or 300,
            "patients": Settings(**settings).patients_as_json(),
        },
        "machine": "x86_64, one thread",
        "curve": {"losses": [0.5] * 300, "validation": points},
        "validation": scores,
        "test": scores if test else None,
        "seconds": 150.0 + seed,
    }
    Records(folder / "rows").write(name, seed, record)
    return values


def report(folder):
    assert main(["--report", "--results", str(folder), "--work", str(folder / "work")]) == 0
    return (folder / "README.md").read_text()


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


def bootstrap(values, resamples=20000):
    """The percentile interval of the mean, by numpy alone."""
    rng = np.random.default_rng(7)
    means = rng.choice(values, (resamples, len(values))).mean(axis=1)
    return np.percentile(means, [2.5, 97.5])


def test_mean_and_interval_are_over_patients_of_the_average_over_seeds(tmp_path):
    seeds = [write_record(tmp_path, BEST_S2CA, seed) for seed in range(3)]
    result = read_results(Records(tmp_path / "rows"))[BEST_S2CA]
    over_seeds = np.mean(seeds, axis=0)
    for region, expected in (("TC", over_seeds[:, 1]), (MEAN, over_seeds.mean(axis=1))):
        summary = result.summary("test", region)
        assert summary.cases == len(PATIENTS)
        assert summary.mean == pytest.approx(expected.mean())
        low, high = bootstrap(expected)
        assert summary.ci_low == pytest.approx(low, abs=2e-3)
        assert summary.ci_high == pytest.approx(high, abs=2e-3)


def test_difference_is_paired_by_patient_over_the_seeds_that_both_have(tmp_path):
    ours = [write_record(tmp_path, BEST_S2CA, seed, dice=0.85) for seed in range(3)]
    theirs = [write_record(tmp_path, BEST_NNUNET, seed, dice=0.7) for seed in range(2)]
    results = read_results(Records(tmp_path / "rows"))
    found = compare_rows(results[BEST_NNUNET], results[BEST_S2CA], "test")
    assert found.seeds == [0, 1]
    differences = np.mean(ours[:2], axis=(0, 2)) - np.mean(theirs, axis=(0, 2))
    assert found.paired.difference == pytest.approx(differences.mean())
    low, high = bootstrap(differences)
    assert found.paired.ci_low == pytest.approx(low, abs=2e-3)
    assert found.paired.ci_high == pytest.approx(high, abs=2e-3)
    assert found.of_seed[1] == pytest.approx((ours[1] - theirs[1]).mean())
    assert found.paired.p_value < 0.001


def test_report_without_records_lists_every_row_as_not_run(tmp_path):
    text = report(tmp_path)
    for name in ROWS:
        assert "not run" in line_of(text, f"| `{name}` | nnUNet")
        assert f"--rows {name} --seeds 0" in text
    assert f"At equal steps: not measured yet: `{BEST_NNUNET}` and `{BEST_S2CA}`." in text
    assert ".png" not in text


def test_report_says_which_rows_and_seeds_there_are(tmp_path):
    for seed in (0, 2):
        write_record(tmp_path, BEST_S2CA, seed, dice=0.9)
    write_record(tmp_path, BEST_NNUNET, 2, dice=0.7)
    write_record(tmp_path, "s2ca-ema", 0, test=False)
    text = report(tmp_path)
    test_part, validation_part = text.split("### Test patients")[1].split("### Validation")
    assert "| 0, 2 | 300 | 151 | 0." in line_of(test_part, f"| `{BEST_S2CA}`")
    assert "| 2 | 300 | 152 | 0." in line_of(test_part, f"| `{BEST_NNUNET}`")
    assert "| `s2ca-ema`" not in test_part
    assert "| 0 | 300 | 150 | 0." in line_of(validation_part, "| `s2ca-ema`")
    assert re.search(r"At equal steps: `\S+` is 0\.\d+ above .* one seed\)", text)
    assert "The interval excludes zero." in text
    assert f"At equal processor seconds: not measured yet: `{SAME_SECONDS}`." in text
    assert "![learning curves](curves.png)" in text
    assert (tmp_path / "curves.png").stat().st_size < 150_000


def test_ablation_compares_each_row_with_the_one_above(tmp_path):
    names = list(ABLATION.values())
    values = {name: write_record(tmp_path, name, 0) for name in (*names[:2], names[4])}
    text = report(tmp_path).split("## What each part")[1]
    brought = (values[names[1]] - values[names[0]]).mean()
    assert f"| {brought:+.3f} |".replace("-", "−") in line_of(text, "| + LGSM")
    # its predecessor is missing
    assert "not run" in line_of(text, "| + WDS").split("|")[-5]


def test_sweep_compares_each_row_with_the_one_that_it_changes(tmp_path):
    values = {name: write_record(tmp_path, name, 0) for name in ("s2ca-prior", "s2ca-poly")}
    text = report(tmp_path).split("## The sweep")[1]
    changed = (values["s2ca-poly"] - values["s2ca-prior"]).mean()
    line = next(line for line in text.splitlines() if "`s2ca-poly` | " in line)
    assert (
        f"| S2CA-Net | `s2ca-prior` | `s2ca-poly` | 20 | {changed:+.3f} |".replace("-0", "−0")
        in line
    )
    assert "not run" in next(line for line in text.splitlines() if "| `s2ca-clip` |" in line)


def test_interval_that_holds_zero_is_not_called_a_difference(tmp_path):
    write_record(tmp_path, BEST_S2CA, 0)
    values = Records(tmp_path / "rows").read(BEST_S2CA, 0)
    row = values["conditions"]["row"] | {"name": BEST_NNUNET}
    values["conditions"]["row"] = row
    Records(tmp_path / "rows").write(BEST_NNUNET, 0, values)
    results = read_results(Records(tmp_path / "rows"))
    said = sentence(results[BEST_NNUNET], results[BEST_S2CA], "test")
    assert "The interval does not exclude zero." in said


def test_record_of_a_row_that_is_no_more_is_not_left_out(tmp_path):
    write_record(tmp_path, BEST_S2CA, 0)
    (tmp_path / f"rows/{BEST_S2CA}.seed0.json").rename(tmp_path / "rows/former-row.seed1.json")
    text = report(tmp_path)
    start = f"| `former-row` | {ROWS[BEST_S2CA].recipe.trainer}, Adam 0.003"
    assert "| 1 | 300 | 150 |" in line_of(text, start)


def test_records_of_different_patients_are_refused(tmp_path, capsys):
    write_record(tmp_path, BEST_S2CA, 0)
    write_record(tmp_path, BEST_NNUNET, 1, spacing=4.0)
    assert main(["--report", "--results", str(tmp_path)]) == 1
    assert "mixes patients" in capsys.readouterr().err


def test_other_test_cases_are_refused(tmp_path):
    write_record(tmp_path, BEST_S2CA, 0)
    write_record(tmp_path, BEST_NNUNET, 0, patients=PATIENTS[1:])
    results = read_results(Records(tmp_path / "rows"))
    with pytest.raises(UserError, match="not of the same test patients"):
        compare_rows(results[BEST_S2CA], results[BEST_NNUNET], "test")


def test_command_repeats_what_differs_from_the_defaults(tmp_path):
    write_record(tmp_path, BEST_S2CA, 0)
    record = Records(tmp_path / "rows").read(BEST_S2CA, 0)
    record["conditions"]["steps"] = 200
    record["conditions"]["patients"]["patients"] = 30
    Records(tmp_path / "rows").write(BEST_S2CA, 0, record)
    result = read_results(Records(tmp_path / "rows"))[BEST_S2CA]
    assert command(result) == (
        f"python -m benchmarks.accuracy --table final --rows {BEST_S2CA} --seeds 0 "
        "--steps 200 --patients 30"
    )


def test_recipe_is_described_by_what_differs_from_its_trainer(tmp_path):
    results = read_results(Records(tmp_path))
    assert describe(results["nnunet-default"].recipe) == "nnUNetTrainer"
    assert describe(results["s2ca-ema"].recipe) == (
        "nnUNetTrainerS2CA, Adam 0.003, cosine, warmup 0.1, ema 0.98"
    )


def test_slices_show_best_median_and_worst_patient(tmp_path):
    work = tmp_path / "work"
    write_record(tmp_path, BEST_S2CA, 0, patients=PATIENTS[:3])
    ranked = ranked_patients(read_results(Records(tmp_path / "rows"))[BEST_S2CA])
    assert sorted(ranked) == PATIENTS[:3]
    assert "slices.png" not in report(tmp_path)
    brats = patients_folder(work, TEST_IDS["first"])
    write_brats2019(brats, patients=3, first=41, shape=(30, 34, 30), spacing=6.0)
    write_perfect_predictions(brats, predictions_folder(work, BEST_S2CA, 0))
    assert "slices.png" in report(tmp_path)
    assert (tmp_path / "slices.png").stat().st_size < 150_000
