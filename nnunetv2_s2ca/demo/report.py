"""The result of the demo: scores, table, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.demo.scores import REGIONS, Scores
from nnunetv2_s2ca.demo.settings import DemoSettings


@dataclass(frozen=True)
class DemoResult:
    """The result of a demo.

    Attributes:
        folds: Fold → mean Dice of each region over the fold's validation patients.
        ensemble: Mean Dice of each region over the held-out patients.
        processed: The same after post-processing.
        report: Markdown file.
        picture: PNG file.
        page: HTML file with plots and pictures.
    """

    folds: Mapping[int, Scores]
    ensemble: Scores
    processed: Scores
    report: Path
    picture: Path
    page: Path

    def __str__(self) -> str:
        files = f"report: {self.report}\npicture: {self.picture}\npage: {self.page}"
        return f"{scores_table(self)}\n\n{files}"

    def check(self, min_dice: Mapping[str, float]) -> None:
        """Check that the predictions are good.

        Args:
            min_dice: Region → lowest acceptable Dice of the ensemble after post-processing.

        Raises:
            UserError: A region's Dice is lower.
        """
        low = [
            f"{region} {self.processed[region]:.3f} (at least {bar:g})"
            for region, bar in min_dice.items()
            if self.processed[region] < bar
        ]
        if low:
            raise UserError(
                f"the ensemble's Dice is lower than expected: {', '.join(low)}; see {self.report} "
                "and the logs beside it"
            )


def scores_table(result: DemoResult) -> str:
    """Dice per region of each fold and of the ensemble, with and without post-processing."""
    rows = [(f"fold {fold}, its validation patients", s) for fold, s in result.folds.items()]
    rows.append(("ensemble, patients held out", result.ensemble))
    rows.append(("**the same, post-processed**", result.processed))
    lines = [f"| Dice | {' | '.join(REGIONS)} |", "|---|" + "---:|" * len(REGIONS)]
    lines += [
        f"| {name} | {' | '.join(f'{scores[region]:.3f}' for region in REGIONS)} |"
        for name, scores in rows
    ]
    return "\n".join(lines)


def report_text(result: DemoResult, settings: DemoSettings) -> str:
    """The report in Markdown."""
    return f"""# Demo of nnunetv2-s2ca

**The patients are synthetic**: deformed copies of the MNI152 template with drawn tumours, at
{settings.spacing:g} mm. These numbers show that the chain works on this machine, and say nothing
about real gliomas.

`{settings.trainer}` was trained on {settings.patients} patients. The ensemble of
{len(settings.folds)} folds predicted {settings.held_out} patients that were held out
(`nnUNetv2_predict`). Post-processing was fitted to the folds' validation patients
(`s2ca postprocess --fit`).

{scores_table(result)}

Mean over patients; a region that is empty in truth and prediction counts 1. WT whole tumour, TC
tumour core, ET enhancing tumour.

![slices]({result.picture.name})
"""
