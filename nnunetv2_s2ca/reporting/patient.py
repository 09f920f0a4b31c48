"""One patient's result of `s2ca segment`, from the JSON file of its `--report`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.reporting.svg import attributes

DEEPEST = 6  # levels of nested objects that are shown


@dataclass
class Patient:
    """A patient.

    Attributes:
        name: of the file.
        rows: heading, text and attributes of each entry of the JSON file.
        warnings: what `s2ca segment` warned of.
        missing: a sentence for each thing that could not be shown.
    """

    name: str
    rows: list[tuple[str, str, Markup]]
    warnings: list[str]
    missing: list[str] = field(default_factory=list)


def read_patient(path: Path) -> Patient:
    """Read a report of `s2ca segment`.

    Raises:
        UserError: It is no such file.
    """
    content = read_json(path)
    if "volumes_ml" not in content and "volumes" not in content:
        raise UserError(f"{path} is not a report of `s2ca segment`: it lacks volumes")
    warnings = content.get("warnings")
    rows = []
    for name, value in _entries(content, ""):
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        rows.append((name, text, attributes({"entry": name, "value": number})))
    return Patient(
        path.stem, rows, [str(line) for line in warnings] if isinstance(warnings, list) else []
    )


def _entries(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if name == "warnings":
        return
    if isinstance(value, dict) and depth < DEEPEST:
        for key, inner in value.items():
            yield from _entries(inner, f"{name} › {key}" if name else str(key), depth + 1)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "–"
    else:
        yield name, "–" if value is None else value
