"""The challenge's own program, `brats-evaluation`, for those who installed it.

It is under the AGPL and pins old versions of numpy and pandas, so it is an extra that the user
asks for and never a dependency: `pip install nnunetv2-s2ca[official]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.cohort import CasePair

OFFICIAL_JSON = "official.json"
OFFICIAL_CSV = "official.csv"

# The settings that the package bundles, by the editions' tasks
_CONFIGS = {
    "gli": "gli",
    "ssa": "GoAT",
    "goat": "GoAT",
    "men": "MenPre",
    "men-rt": "MenRT",
    "met": "mets",
    "ped": "ped",
}


def config_of(edition: str) -> str:
    """The bundled settings for an edition.

    Raises:
        UserError: The package has none: editions before 2023 have other labels.
    """
    year, _, task = edition.removeprefix("brats").partition("-")
    if task not in _CONFIGS or not year.isdigit():
        raise UserError(
            f"brats-evaluation has no settings for {edition}; it knows the editions from 2023 on"
        )
    # In 2023 gliomas had no resection cavity, and children the labels of adults
    return "GoAT" if year == "2023" and task in ("gli", "ped") else _CONFIGS[task]


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
        output: Folder for its json and its csv.
        evaluator: From `load_official`.

    Raises:
        UserError: It failed.
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
    # numpy's numbers are no JSON of their own
    content = json.dumps({"metrics": metrics, "missings": []}, indent=2, default=float)
    (output / OFFICIAL_JSON).write_text(content, encoding="utf-8")
    brats_evaluation.parse_seg_results(str(output / OFFICIAL_JSON), str(output / OFFICIAL_CSV))
