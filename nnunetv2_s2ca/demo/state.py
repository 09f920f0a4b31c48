"""How far a demo is, kept in its folder, so that an interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file, read_json, write_text

STATE_FILE = "demo_state.json"


def open_output(output: Path, settings: Mapping[str, Any], *, steps: Sequence[str]) -> list[str]:
    """Make the demo's folder, or find out which steps an earlier demo has done in it.

    Args:
        output: the folder.
        settings: of the demo, as JSON has them.
        steps: all steps of a demo, in their order.

    Raises:
        UserError: it holds something else, a demo of other settings, or a damaged state.
        OSError: it cannot be read or written.
    """
    if (output / STATE_FILE).exists():
        done = _read_state(output, settings, steps=steps)
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            f"{output} exists and is not a demo's folder; give one that is empty or does not exist"
        )
    else:
        output.mkdir(parents=True, exist_ok=True)
        done = []
    write_state(output, settings, done)
    return done


def write_state(output: Path, settings: Mapping[str, Any], done: Sequence[str]) -> None:
    """Note which steps are done."""
    content = {"settings": settings, "done": done}
    write_text(output / STATE_FILE, json.dumps(content, indent=2))


def check_result(output: Path, step: str, path: Path) -> None:
    """Make sure that what a step has made is there.

    Raises:
        UserError: it is not.
    """
    if not path.exists():
        raise UserError(
            f"{output / STATE_FILE} says that the step {step} is done, but {path} is missing; "
            f"delete {output}, or give another folder"
        )


def _read_state(output: Path, settings: Mapping[str, Any], *, steps: Sequence[str]) -> list[str]:
    """The steps that an earlier demo of these settings has done."""
    state = output / STATE_FILE
    check_regular_file(state)
    try:
        content = read_json(state)
        earlier, done = content["settings"], content["done"]
    except (UserError, KeyError) as error:
        raise _damaged(output) from error
    if done not in [list(steps[:number]) for number in range(len(steps) + 1)]:
        raise _damaged(output)
    if earlier != settings:
        raise UserError(
            f"{output} holds a demo with other settings; give another folder, or delete it"
        )
    return done


def _damaged(output: Path) -> UserError:
    return UserError(
        f"{output / STATE_FILE} is damaged, so how far the demo came is not known; give another "
        f"folder, or delete {output}"
    )
