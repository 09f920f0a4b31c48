"""A sanity check: predict real patients by a model that was trained on synthetic ones only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.accuracy.experiment import TRAINING_IDS, Experiment
from benchmarks.accuracy.records import Records, read_scores
from benchmarks.accuracy.rows import BEST_S2CA, ROWS
from benchmarks.accuracy.running import trainer_content
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.core.launcher import command_line
from nnunetv2_s2ca.core.nnunet import RESULTS

REAL_ID = 705
REAL_FILE = "real_patients.json"


def predict_real_patients(experiment: Experiment, results: Path, source: Path) -> Path:
    """Convert real patients, predict them by the best S2CA-Net of all seeds together, and score.

    nnU-Net's preprocessing resamples the images to the spacing that the model was trained at, and
    the predictions back.

    Args:
        experiment: The experiment with the trained models.
        results: Folder of the records and the scores.
        source: BraTS 2019 folder with segmentations.

    Returns:
        The JSON file with the scores.

    Raises:
        UserError: The row is not recorded, its model is missing, or a command fails.
    """
    row = ROWS[BEST_S2CA]
    seeds = sorted(Records(results / "rows").all().get(row.name, {}))
    model = experiment.folder / RESULTS
    if not seeds or not any(model.glob(f"*/{row.trainer}__*/fold_{seeds[0]}")):
        raise UserError(
            f"{experiment.folder} has no trained model of {row.name}; run "
            f"`python -m benchmarks.accuracy --table final --rows {row.name}` first"
        )
    convert = ("convert", "brats2019", source.resolve(), "-d", REAL_ID, "--overwrite")
    experiment.run("convert_real", command_line("s2ca", *convert))
    raw, output = experiment.raw(REAL_ID), experiment.folder / "predictions" / "real"
    shutil.rmtree(output, ignore_errors=True)
    predict = command_line(
        "nnUNetv2_predict",
        *("-d", TRAINING_IDS["first"], "-c", row.configuration, "-tr", row.trainer, "-f", *seeds),
        *("-i", raw / "imagesTr", "-o", output, "-device", "cpu", "-npp", 0, "-nps", 0),
    )
    experiment.run("predict_real", predict, trainer_content(row, steps=1))
    scores = experiment.evaluate("evaluate_real", raw / "labelsTr", output)
    content = {"row": row.name, "seeds": seeds, "scores": read_scores(scores)}
    write_text(results / REAL_FILE, json.dumps(content, indent=1) + "\n")
    return results / REAL_FILE
