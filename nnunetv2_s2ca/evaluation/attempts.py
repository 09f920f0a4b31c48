"""Apply a function to many cases; a bad case is reported and does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.workers import map_cases, out_of_memory

Case = TypeVar("Case")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case.

    Attributes:
        text: One sentence that names the case or its file.
    """

    text: str


def attempt_cases(
    function: Callable[[Case], Result], cases: Sequence[Case], *, processes: int | None, title: str
) -> list[Result | Problem]:
    """Apply a function to each case; a `UserError`, or too little memory, becomes a problem.

    Args:
        function: Picklable.
        cases: Its arguments, in the order of the results. Problems name a case by its `str`.
        processes: Number of cases to process at a time.
        title: Title of the progress bar.

    Raises:
        UserError: A worker was killed.
    """
    return map_cases(partial(_attempt, function), cases, processes=processes, title=title)


def all_results(outcomes: Sequence[Result | Problem]) -> list[Result]:
    """The results, provided that no case has a problem.

    Raises:
        UserError: Some cases have problems; all are named.
    """
    problems = [outcome.text for outcome in outcomes if isinstance(outcome, Problem)]
    if problems:
        raise UserError(describe_problems(problems, "nothing is written"))
    return [outcome for outcome in outcomes if not isinstance(outcome, Problem)]


def describe_problems(problems: Sequence[str], consequence: str) -> str:
    """An error message with a line for each problem and their consequence."""
    what = "1 case has a problem" if len(problems) == 1 else f"{len(problems)} cases have problems"
    return "\n  ".join([f"{what} ({consequence}):", *sorted(problems)])


def _attempt(function: Callable[[Case], Result], case: Case) -> Result | Problem:
    try:
        return function(case)
    except UserError as error:
        return Problem(str(error))
    except MemoryError as error:
        return Problem(str(out_of_memory(case, error)))
