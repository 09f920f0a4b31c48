"""The challenge's own program, `brats-evaluation`, if installed.

It is licensed under the AGPL and pins old versions of numpy and pandas, so it is an optional
extra and never a dependency: `pip install nnunetv2-s2ca[official]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.brats.editions import edition_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.cohort import CasePair

OFFICIAL_JSON = "official.json"
OFFICIAL_CSV = "official.csv"


def config_of(edition: str) -> str:
    """Name of the package's settings for an edition.

    Raises:
        UserError: The package has none; editions before 2023 have other labels.
    """
    config = edition_named(edition).official_config
    if config is None:
        raise UserError(
            f"brats-evaluation has no settings for {edition}; it supports the editions from 2023 on"
        )
    return config


def load_official(edition: str) -> Any:
    """The evaluator of `brats-evaluation` with its settings for an edition.

    Raises:
        UserError: The package is not installed, or has no settings for the edition.
    """
    config = config_of(edition)
    try:
        import brats_evaluation
        from panoptica import Panoptica_Evaluator
    except ImportError as error:
        raise UserError(
            "`official` needs the challenge's package: pip install nnunetv2-s2ca[official]"
        ) from error
    return Panoptica_Evaluator.load_from_config(str(brats_evaluation.config_path(config)))


def run_official(pairs: Sequence[CasePair], output: Path, *, evaluator: Any) -> None:
    """Run `brats-evaluation` on files in the edition's own labels.

    Args:
        pairs: The cases.
        output: Folder for its JSON and CSV files.
        evaluator: From `load_official`.

    Raises:
        UserError: `brats-evaluation` failed.
    """
    import brats_evaluation

    metrics = []
    for pair in pairs:
        scores = brats_evaluation.evaluate_single_exam(
            str(pair.prediction), str(pair.reference), pair.case, evaluator
        )
        if "error" in scores:
            raise UserError(f"{pair.case}: brats-evaluation failed: {scores['error']}")
        metrics.append(scores)
    # json does not know numpy's numbers
    content = json.dumps({"metrics": metrics, "missings": []}, indent=2, default=float)
    (output / OFFICIAL_JSON).write_text(content, encoding="utf-8")
    brats_evaluation.parse_seg_results(str(output / OFFICIAL_JSON), str(output / OFFICIAL_CSV))
