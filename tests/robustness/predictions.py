"""Truth and predictions of a few small cases, and runs of `s2ca` on them under hard conditions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.evaluation.shapes import ball, write_labels

SHAPE = (16, 15, 14)
LABELS = {
    "background": 0,
    "whole tumor": [1, 2, 3],
    "tumor core": [2, 3],
    "enhancing tumor": [3],
}

# A run that takes longer than this hangs
MINUTES = 5 * 60


def tumour(shift: int = 0) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for label, radius in ((1, 5), (2, 4), (3, 2)):
        labels[ball(SHAPE, (7 + shift, 7, 7), radius)] = label
    return labels


def write_cases(folder: Path, *, count: int = 4, shift: bool = False) -> Path:
    for number in range(count):
        write_labels(tumour(number if shift else 0), folder / f"case_{number}.nii.gz")
    return folder


def write_predictions(folder: Path, *, count: int = 4) -> Path:
    write_cases(folder, count=count, shift=True)
    write_dataset_json(folder / "dataset.json", LABELS)
    return folder


def write_dataset_json(path: Path, labels: object) -> None:
    path.write_text(json.dumps({"labels": labels}))


def contents(folder: Path) -> dict[str, bytes | None]:
    """What lies below a folder, hidden files included; `None` for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


_LIMITED = """
import resource, sys
import nnunetv2_s2ca.api.evaluation, nnunetv2_s2ca.api.postprocessing
from nnunetv2_s2ca.cli import main

kind, more = getattr(resource, sys.argv[1]), int(sys.argv[2])
if kind == resource.RLIMIT_AS:
    pages = int(open("/proc/self/statm").read().split()[0])
    more += pages * resource.getpagesize()
resource.setrlimit(kind, (more, more))
sys.exit(main(sys.argv[3:]))
"""


def run_limited(kind: str, limit: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `s2ca` with a limit: of bytes in a file, or of memory beyond what the imports take."""
    return subprocess.run(
        [sys.executable, "-c", _LIMITED, kind, str(limit), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=MINUTES,
    )
