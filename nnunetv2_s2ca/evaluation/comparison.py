"""Compare two evaluated runs case by case."""

from __future__ import annotations

from collections.abc import Sequence

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.evaluation.metrics_table import MetricsTable
from nnunetv2_s2ca.evaluation.statistics import Comparison, compare

COMPARED = ("dice", "hd95_mm", "nsd", "lesion_dice", "lesion_hd95_mm")


def unpaired(first: MetricsTable, second: MetricsTable) -> list[str]:
    """One sentence for each case and each region that is in only one of the runs."""
    found: dict[str, None] = {}  # an ordered set
    for table, other in ((first, second), (second, first)):
        regions = {region for _, region in other.values}
        for case, region in table.values:
            if (case, region) not in other.values:
                what = case if region in regions else f"region {region}"
                found[f"{what}: only in {table.path}"] = None
    return list(found)


def compare_tables(
    first: MetricsTable, second: MetricsTable, *, infinity: float, keep_going: bool = False
) -> dict[str, dict[str, Comparison]]:
    """The paired comparison for each region and each metric of `COMPARED`.

    Args:
        first: A run.
        second: Another run, scored by the same rules.
        infinity: Value in mm that replaces an infinite HD95.
        keep_going: Compare the common cases and regions; `unpaired` names the others.

    Raises:
        UserError: The runs have different rules, or no case and region in common, or, without
            `keep_going`, a case or region is in only one run.
    """
    if first.rules != second.rules:
        raise UserError(
            f"the runs were scored by different rules, {first.rules} and {second.rules}; "
            "evaluate both with the same `rules`"
        )
    if first.tolerance != second.tolerance:
        raise UserError(
            f"the runs have different NSD tolerances, {first.tolerance:g} mm and "
            f"{second.tolerance:g} mm; evaluate both with the same `tolerance`"
        )
    common = [key for key in first.values if key in second.values]
    if not common:
        raise UserError("the two runs have no case and region in common")
    left_over = unpaired(first, second)
    if left_over and not keep_going:
        what = "\n  ".join(left_over)
        raise UserError(
            "the runs do not have the same cases and regions (`keep_going=True` compares the "
            f"common ones):\n  {what}"
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
