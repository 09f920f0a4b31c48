"""Two evaluated runs, case by case."""

from __future__ import annotations

from collections.abc import Sequence

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.metrics_table import MetricsTable
from nnunetv2_s2ca.evaluation.statistics import Comparison, compare

COMPARED = ("dice", "hd95_mm", "nsd", "lesion_dice", "lesion_hd95_mm")


def unpaired(first: MetricsTable, second: MetricsTable) -> list[str]:
    """One sentence for each case, and each region, that only one of two runs has."""
    found: dict[str, None] = {}  # ordered, as a set is not
    for table, other in ((first, second), (second, first)):
        regions = {region for _, region in other.values}
        for case, region in table.values:
            if (case, region) not in other.values:
                what = case if region in regions else f"region {region}"
                found[f"{what}: in {table.path} alone"] = None
    return list(found)


def compare_tables(
    first: MetricsTable, second: MetricsTable, *, infinity: float, keep_going: bool = False
) -> dict[str, dict[str, Comparison]]:
    """For each region and each metric of `COMPARED`, the paired comparison.

    Args:
        first: A run.
        second: Another one, by the same rules.
        infinity: What an infinite HD95 counts, in mm.
        keep_going: Compare what both have where one has more, which `unpaired` names.

    Raises:
        UserError: Different rules, no case and region in common, or, without `keep_going`, a case
            or region that only one run has.
    """
    if first.rules != second.rules:
        raise UserError(
            f"the runs were scored by different rules, {first.rules} and {second.rules}; "
            "evaluate both with the same `rules`"
        )
    if first.tolerance != second.tolerance:
        raise UserError(
            f"NSD is at {first.tolerance:g} mm in one run and at {second.tolerance:g} mm in the "
            "other; evaluate both with the same `tolerance`"
        )
    common = [key for key in first.values if key in second.values]
    if not common:
        raise UserError("the two runs have no case and region in common")
    left_over = unpaired(first, second)
    if left_over and not keep_going:
        what = "\n  ".join(left_over)
        raise UserError(
            f"the runs are not of the same cases (`keep_going=True` compares the common):\n  {what}"
        )
    regions = list(dict.fromkeys(region for _, region in common))
    return {
        region: {
            metric: compare(
                _column(first, common, region, metric),
                _column(second, common, region, metric),
                higher_is_better=not metric.endswith("_mm"),
                infinity=infinity,
            )
            for metric in COMPARED
        }
        for region in regions
    }


def _column(
    table: MetricsTable, keys: Sequence[tuple[str, str]], region: str, metric: str
) -> list[float]:
    return [table.values[key][metric] for key in keys if key[1] == region]
