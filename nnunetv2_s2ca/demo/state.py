"""The progress of a demo, kept in its folder so that an interrupted demo can resume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import check_regular_file, read_json, write_text

STATE_FILE = "demo_state.json"


def open_output(output: Path, settings: Mapping[str, Any], *, steps: Sequence[str]) -> list[str]:
    """Create the demo's folder, or return the steps that an earlier demo finished in it.

    Args:
        output: The folder.
        settings: The demo's settings, as read from JSON.
        steps: All steps of a demo, in order.

    Raises:
        UserError: It holds something else, a demo with other settings, or a damaged state.
        OSError: It cannot be read or written.
    """
    if (output / STATE_FILE).exists():
        done = _read_state(output, settings, steps=steps)
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            f"{output} exists and is not a demo's folder; name one that is empty or does not exist"
        )
    else:
        output.mkdir(parents=True, exist_ok=True)
        done = []
    write_state(output, settings, done)
    return done


def write_state(output: Path, settings: Mapping[str, Any], done: Sequence[str]) -> None:
    """Record the finished steps."""
    content = {"settings": settings, "done": done}
    write_text(output / STATE_FILE, json.dumps(content, indent=2))


def check_result(output: Path, step: str, path: Path) -> None:
    """Check that the result of a finished step is still there.

    Raises:
        UserError: It is missing.
    """
    if not path.exists():
        raise UserError(
            f"{output / STATE_FILE} says that the step {step} is done, but {path} is missing; "
            f"delete {output}, or name another folder"
        )


def _read_state(output: Path, settings: Mapping[str, Any], *, steps: Sequence[str]) -> list[str]:
    """The finished steps of an earlier demo with these settings."""
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
            f"{output} holds a demo with other settings; name another folder, or delete it"
        )
    return done


def _damaged(output: Path) -> UserError:
    return UserError(
        f"{output / STATE_FILE} is damaged, so the demo cannot resume; delete {output}, or name "
        "another folder"
    )
