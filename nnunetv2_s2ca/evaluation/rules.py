"""The challenge's rules: how distances are measured, lesions matched, empty regions counted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.surfaces import (
    Spacing,
    SurfaceDistances,
    boundary_distances,
    hd95_of_boundaries,
    hd95_of_surfels,
    hd95_pooled,
    surface_dice,
    surface_dice_of_shares,
    surfel_distances,
)

# The diagonal of BraTS' 240×240×155 volumes of 1 mm voxels, as 2017–2022 count a missed region ...
DIAGONAL_MM = 373.13
# ... as the lesion-wise program of 2023 has it, and as the table of `brats-evaluation` has it.
DIAGONAL_2023_MM = 374.0
DIAGONAL_2026_MM = 373.0

RULES = ("classic", "lesionwise-2023", "brats-2026")


@dataclass(frozen=True)
class LesionRule2023:
    """Sizes that the lesion-wise rule of 2023 sets per task.

    Attributes:
        dilations: How often the reference is dilated by the 18-neighbourhood before lesions that
            touch are joined and predicted components are looked for.
        smallest_mm3: Reference lesions of at most this volume are left out.
    """

    dilations: int = 3
    smallest_mm3: float = 50.0


@dataclass(frozen=True)
class Rules:
    """One set of the challenge's rules.

    Attributes:
        name: One of `RULES`.
        tolerance: Distance in mm up to which surfaces count as equal in NSD.
        both_empty: Dice, NSD and HD95 where reference and prediction are both empty.
        one_empty: The same where one of them is.
        no_overlap: The same where both hold voxels but none in common; `None` for what the
            formulas give.
        lesions: The sizes of the lesion-wise rule of 2023; `None` for the matching of 2026.
        empty_sensitivity: Sensitivity where the reference is empty, if the prediction is empty,
            too, and if it is not. The program of 2023 gives 1 and 0; elsewhere it is undefined.
        infinity_in_means: What an infinite HD95 counts in means, in mm.
    """

    name: str
    tolerance: float
    both_empty: tuple[float, float, float]
    one_empty: tuple[float, float, float]
    no_overlap: tuple[float, float, float] | None
    lesions: LesionRule2023 | None
    empty_sensitivity: tuple[float, float]
    infinity_in_means: float

    @property
    def surfaces(self) -> Callable[..., SurfaceDistances]:
        """Measures the distances that HD95 is taken from."""
        return surfel_distances if self.name == "lesionwise-2023" else boundary_distances

    @property
    def hd95(self) -> Callable[[SurfaceDistances], float]:
        """Takes HD95 in mm from the distances that `surfaces` measures."""
        return {
            "classic": hd95_of_boundaries,
            "lesionwise-2023": hd95_of_surfels,
            "brats-2026": hd95_pooled,
        }[self.name]

    def nsd(self, distances: SurfaceDistances, *, tolerance: float | None = None) -> float:
        """NSD from what `surfaces` measures, at `tolerance` mm or the rules' own."""
        measure = surface_dice_of_shares if self.name == "brats-2026" else surface_dice
        return measure(distances, tolerance=self.tolerance if tolerance is None else tolerance)

    def lesion_tolerance(self, spacing: Spacing) -> float:
        """Tolerance in mm of NSD per lesion, which `brats-evaluation` sets to a voxel's width."""
        return min(spacing) if self.name == "brats-2026" else self.tolerance

    def describe(self) -> str:
        """One paragraph for the head of a table: what the numbers mean."""
        return f"Rules {self.name}: {self._hd95_text()}; {self._nsd_text()}. {self._empty_text()}"

    def _hd95_text(self) -> str:
        return {
            "classic": "HD95 the larger of the two directed 95th percentiles between boundary "
            "voxels",
            "lesionwise-2023": "HD95 the larger of the two directed 95th percentiles between "
            "surface elements by area (surface-distance)",
            "brats-2026": "HD95 the 95th percentile of both directions' distances between "
            "boundary voxels together",
        }[self.name]

    def _nsd_text(self) -> str:
        if self.name == "brats-2026":
            return f"NSD at {self.tolerance:g} mm per region, at one voxel's width per lesion"
        return f"NSD at {self.tolerance:g} mm"

    def _empty_text(self) -> str:
        if self.name == "brats-2026":
            return (
                "Region empty in both: left out of the mean; in one, or without overlap: Dice 0, "
                f"NSD 0, HD95 infinite ({self.infinity_in_means:g} mm in means). "
                f"{self._sensitivity_text()} Lesions matched one to one by Dice; lesion-wise means "
                "are over matched lesions."
            )
        assert self.lesions is not None
        return (
            f"Region empty in both: Dice 1, HD95 0 mm; in one: Dice 0, HD95 {self.one_empty[2]:g} "
            f"mm. {self._sensitivity_text()} Lesion-wise by the rule of 2023: "
            f"{self.lesions.dilations} dilations, lesions over {self.lesions.smallest_mm3:g} mm³, "
            f"a missed or false lesion Dice 0, HD95 {DIAGONAL_2023_MM:g} mm."
        )

    def _sensitivity_text(self) -> str:
        both, reference = self.empty_sensitivity
        if math.isnan(both):
            return "Sensitivity of an empty reference: left out of the mean."
        return (
            f"Sensitivity of an empty reference: {both:g} if the prediction is empty, too, else "
            f"{reference:g}."
        )


def rules_named(name: str, *, edition: str | None = None, tolerance: float | None = None) -> Rules:
    """The rules of that name, with the lesion sizes of `edition`.

    Args:
        name: One of `RULES`.
        edition: A name such as `brats2023-met`; meningiomas and metastases have sizes of their
            own in the rule of 2023. `None` takes those of gliomas.
        tolerance: NSD's tolerance in mm in place of 1 mm. The rules of 2026 fix theirs.

    Raises:
        UserError: An unknown name, a tolerance that is no distance, or one for `brats-2026`.
    """
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise UserError(f"`tolerance` {tolerance:g}: expected a distance in mm, 0 or more")
    if name == "brats-2026":
        if tolerance is not None:
            raise UserError("the rules brats-2026 fix NSD's tolerance; leave out `tolerance`")
        return Rules(
            name=name,
            tolerance=0.5,
            both_empty=(math.nan, math.nan, math.nan),
            one_empty=(0.0, 0.0, math.inf),
            no_overlap=(0.0, 0.0, math.inf),
            lesions=None,
            empty_sensitivity=(math.nan, math.nan),
            infinity_in_means=DIAGONAL_2026_MM,
        )
    classic = Rules(
        name="classic",
        tolerance=1.0 if tolerance is None else tolerance,
        both_empty=(1.0, 1.0, 0.0),
        one_empty=(0.0, 0.0, DIAGONAL_MM),
        no_overlap=None,
        lesions=_lesion_rule_of(edition),
        empty_sensitivity=(math.nan, math.nan),
        infinity_in_means=DIAGONAL_MM,
    )
    if name == "classic":
        return classic
    if name == "lesionwise-2023":
        return replace(
            classic,
            name=name,
            one_empty=(0.0, 0.0, DIAGONAL_2023_MM),
            empty_sensitivity=(1.0, 0.0),
            infinity_in_means=DIAGONAL_2023_MM,
        )
    raise UserError(f"unknown rules {name!r}; there are {', '.join(RULES)}")


def default_rules(edition: str | None) -> str:
    """The name of the rules that an edition was, or is, scored by; `classic` where none is known.

    2017–2022: `classic`; 2023 and 2024: `lesionwise-2023`; later: `brats-2026`.
    """
    year = re.match(r"brats(\d{4})", edition or "")
    if year is None or int(year[1]) <= 2022:
        return "classic"
    return "lesionwise-2023" if int(year[1]) <= 2024 else "brats-2026"


def _lesion_rule_of(edition: str | None) -> LesionRule2023:
    task = (edition or "").partition("-")[2]
    if task == "met":
        return LesionRule2023(dilations=1, smallest_mm3=2.0)
    if task.startswith("men"):
        return LesionRule2023(dilations=1)
    return LesionRule2023()
