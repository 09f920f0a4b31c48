"""Segment all cases of a folder, as the orchestrator of the BraTS challenges calls a container.

The folder `/input` holds one folder per case; `/output` gets `CASE.nii.gz` for each. There are no
arguments, no network and no rights: the user is anyone, and nothing but the output and a temporary
folder may be writable. Calls of MLCube's form (`infer --data_path=… --output_path=…`), which the
challenges until 2024 used, work as well.

This file is copied into a container's folder beside `settings.json` and `model/`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# what libraries would otherwise put into the home folder
CACHES = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a case could not be segmented."""
    parser = argparse.ArgumentParser(description="Segment all cases of a folder.")
    parser.add_argument("task", nargs="?", choices=("infer",), help="for MLCube")
    parser.add_argument("--data_path", type=Path, default=Path("/input"))
    parser.add_argument("--output_path", type=Path, default=Path("/output"))
    args, _ = parser.parse_known_args(argv)  # the orchestrator may name further files
    try:
        scratch = tempfile.TemporaryDirectory(prefix="s2ca_")
    except FileNotFoundError:  # nothing but the output is writable
        scratch = tempfile.TemporaryDirectory(prefix=".s2ca_", dir=args.output_path)
    with scratch as folder:
        tempfile.tempdir = folder
        os.environ.update(dict.fromkeys((*CACHES, "TMPDIR"), folder))
        os.environ.update(USER="s2ca", LOGNAME="s2ca")  # a user without an entry has no name
        return segment(args.data_path, args.output_path)


def segment(source: Path, output: Path) -> int:
    """Segment the cases below `source`; returns the exit code."""
    import nnunetv2_s2ca
    from nnunetv2_s2ca.startup import register

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    register()
    settings = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
    try:
        outcome = nnunetv2_s2ca.segment_folder(
            source, output, model=HERE / "model", overwrite=True, **settings
        )
    except nnunetv2_s2ca.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(outcome)
    return int(bool(outcome.failed))


if __name__ == "__main__":
    sys.exit(main())
