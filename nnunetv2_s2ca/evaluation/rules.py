"""The challenge's rules for distances, lesion matching and empty regions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from nnunetv2_s2ca.brats.editions import RULES, Edition, edition_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation import surfaces as measured
from nnunetv2_s2ca.evaluation.surfaces import SurfaceDistances

# The diagonal of BraTS' 240×240×155 volumes of 1 mm voxels, the penalty for a missed region: in
# 2017–2022 ...
DIAGONAL_MM = 373.13
# ... in the lesion-wise program of 2023, and in the table of `brats-evaluation`.
DIAGONAL_2023_MM = 374.0
DIAGONAL_2026_MM = 373.0


@dataclass(frozen=True)
class LesionRule2023:
    """The sizes of the lesion-wise rule of 2023, which depend on the task.

    Attributes:
        dilations: Number of dilations of the reference by the 18-neighbourhood before touching
            lesions are joined and matched with predicted components.
        smallest_mm3: Reference lesions of at most this volume are left out.
    """

    dilations: int = 3
    smallest_mm3: float = 50.0


@dataclass(frozen=True)
class Rules:
    """One set of the challenge's rules.

    Attributes:
        name: One of `RULES`.
        tolerance: NSD tolerance in mm: distance up to which surfaces count as equal.
        both_empty: Dice, NSD and HD95 if reference and prediction are both empty.
        one_empty: The same if one of them is empty.
        no_overlap: The same if neither is empty but they do not overlap; `None` to use the
            formulas.
        lesions: The sizes of the lesion-wise rule of 2023; `None` for the matching of 2026.
        empty_sensitivity: Sensitivity for an empty reference with an empty and a non-empty
            prediction. The program of 2023 gives 1 and 0; elsewhere it is undefined.
        infinity_in_means: Value in mm that replaces an infinite HD95 in means.
        surfaces: Measures the distances for HD95.
        hd95: Computes HD95 in mm from them.
        hd95_text: Describes this HD95 in words.
        nsd_surfaces: Measures the distances for NSD.
        surface_dice: Computes NSD from them at a tolerance in mm.
    """

    name: str
    tolerance: float
    both_empty: tuple[float, float, float]
    one_empty: tuple[float, float, float]
    no_overlap: tuple[float, float, float] | None
    lesions: LesionRule2023 | None
    empty_sensitivity: tuple[float, float]
    infinity_in_means: float
    surfaces: Callable[..., SurfaceDistances]
    hd95: Callable[[SurfaceDistances], float]
    hd95_text: str
    nsd_surfaces: Callable[..., SurfaceDistances]
    surface_dice: Callable[..., float]

    def nsd(self, distances: SurfaceDistances, *, tolerance: float | None = None) -> float:
        """NSD from the distances of `nsd_surfaces`, at `tolerance` mm or the rules' own."""
        own = self.tolerance if tolerance is None else tolerance
        return self.surface_dice(distances, tolerance=own)

    def describe(self) -> str:
        """One paragraph that explains the numbers, for the head of a table."""
        start = f"Rules {self.name}: HD95 {self.hd95_text}; NSD at {self.tolerance:g} mm"
        if self.lesions is None:
            return (
                f"{start} per region, at one voxel's width per lesion. Region empty in both: left "
                "out of the mean; in one, or without overlap: Dice 0, NSD 0, HD95 infinite "
                f"({self.infinity_in_means:g} mm in means). {self._sensitivity_text()} Lesions "
                "matched one to one by Dice; lesion-wise means are over matched lesions."
            )
        return (
            f"{start}. Region empty in both: Dice 1, HD95 0 mm; in one: Dice 0, HD95 "
            f"{self.one_empty[2]:g} mm. {self._sensitivity_text()} Lesion-wise by the rule of "
            f"2023: {self.lesions.dilations} dilations, lesions over "
            f"{self.lesions.smallest_mm3:g} mm³, a missed or false lesion Dice 0, HD95 "
            f"{DIAGONAL_2023_MM:g} mm."
        )

    def _sensitivity_text(self) -> str:
        both, reference = self.empty_sensitivity
        if math.isnan(both):
            return "Sensitivity of an empty reference: left out of the mean."
        return (
            f"Sensitivity of an empty reference: {both:g} if the prediction is also empty, else "
            f"{reference:g}."
        )


def rules_named(name: str, *, edition: str | None = None, tolerance: float | None = None) -> Rules:
    """The rules called `name`, with the lesion sizes of `edition`.

    Args:
        name: One of `RULES`.
        edition: A name such as `brats2023-met`; meningiomas and metastases have their own sizes
            in the rule of 2023. `None` takes those of gliomas.
        tolerance: NSD tolerance in mm instead of 1 mm. The rules of 2026 fix theirs.

    Raises:
        UserError: The name is unknown, or the tolerance is invalid or given for `brats-2026`.
    """
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise UserError(f"`tolerance` {tolerance:g}: expected a distance in mm, 0 or more")
    if name == "brats-2026":
        if tolerance is not None:
            raise UserError("the rules brats-2026 fix the NSD tolerance; leave out `tolerance`")
        return Rules(
            name=name,
            tolerance=0.5,
            both_empty=(math.nan, math.nan, math.nan),
            one_empty=(0.0, 0.0, math.inf),
            no_overlap=(0.0, 0.0, math.inf),
            lesions=None,
            empty_sensitivity=(math.nan, math.nan),
            infinity_in_means=DIAGONAL_2026_MM,
            surfaces=measured.boundary_distances,
            hd95=measured.hd95_pooled,
            hd95_text="the 95th percentile of both directions' distances between boundary voxels "
            "together",
            nsd_surfaces=measured.boundary_distances,
            surface_dice=measured.surface_dice_of_shares,
        )
    classic = Rules(
        name="classic",
        tolerance=1.0 if tolerance is None else tolerance,
        both_empty=(1.0, 1.0, 0.0),
        one_empty=(0.0, 0.0, DIAGONAL_MM),
        no_overlap=None,
        lesions=LesionRule2023() if edition is None else _lesion_rule(edition_named(edition)),
        empty_sensitivity=(math.nan, math.nan),
        infinity_in_means=DIAGONAL_MM,
        surfaces=measured.boundary_distances,
        hd95=measured.hd95_of_boundaries,
        hd95_text="the larger of the two directed 95th percentiles between boundary voxels",
        nsd_surfaces=measured.surfel_distances,
        surface_dice=measured.surface_dice,
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
            surfaces=measured.surfel_distances,
            hd95=measured.hd95_of_surfels,
            hd95_text="the larger of the two directed 95th percentiles between surface elements "
            "by area (surface-distance)",
        )
    raise UserError(f"unknown rules {name!r}; there are {', '.join(RULES)}")


def default_rules(edition: str | None) -> str:
    """The name of an edition's rules; `classic` for `None`.

    Raises:
        UserError: The edition is unknown.
    """
    return "classic" if edition is None else edition_named(edition).rules


def _lesion_rule(edition: Edition) -> LesionRule2023:
    return LesionRule2023(edition.lesion_dilations, edition.smallest_lesion_mm3)
