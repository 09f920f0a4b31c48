"""One function over many cases, on all cores, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_cases(
    function: Callable[[Item], Result],
    cases: Sequence[Item],
    *,
    processes: int | None = None,
    title: str,
) -> list[Result]:
    """Apply a function to each case, in worker processes where there are several.

    Args:
        function: picklable.
        cases: its arguments; the results come in this order.
        processes: all cores if None; with one, no worker process is started.
        title: of the progress bar.
    """
    workers = min(processes or os.cpu_count() or 1, len(cases))
    bar = tqdm(total=len(cases), desc=title, unit="case")
    with bar:
        if workers <= 1:
            return [_advance(bar, function(case)) for case in cases]
        context = multiprocessing.get_context("spawn")  # as nnU-Net; fork and threads do not mix
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            try:
                return [_advance(bar, result) for result in pool.map(function, cases)]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _advance(bar: tqdm, result: Result) -> Result:
    bar.update()
    return result
