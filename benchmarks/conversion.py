"""Seconds per case of checking and converting, beside nnU-Net's own converter for BraTS 2021.

`python -m benchmarks.conversion [--cases 200]` times synthetic cases of 240×240×155 and writes
`results/conversion.md` and `.json`. The programs take turns, and the median of three rounds counts.
Elapsed time says little on a busy machine; processor time counts all worker processes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from nnunetv2.dataset_conversion.Dataset137_BraTS21 import (
    copy_BraTS_segmentation_and_convert_labels_to_nnUNet,
)

from nnunetv2_s2ca.brats.editions import EDITIONS
from nnunetv2_s2ca.dataset_conversion.check import check_cases
from nnunetv2_s2ca.dataset_conversion.convert import Options, convert

SHAPE = (240, 240, 155)
ROUNDS = 3
EDITION = EDITIONS["brats2021"]
RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    cases = parser.parse_args().cases
    with tempfile.TemporaryDirectory() as folder:
        source, raw = Path(folder, "source"), Path(folder, "raw")
        raw.mkdir()
        os.environ["nnUNet_raw"] = str(raw)  # noqa: SIM112 (nnU-Net's own name)
        _write_cases(source, cases)
        programs: dict[str, Callable[[], object]] = {
            "nnU-Net's Dataset137_BraTS21": lambda: _nnunets_converter(source, raw / "theirs"),
            "s2ca check -np 1": lambda: check_cases(EDITION, source, processes=1),
            "s2ca convert --copy -np 1": lambda: _ours(source, link=False, processes=1),
            "s2ca convert --link -np 1": lambda: _ours(source, link=True, processes=1),
            "s2ca convert --copy": lambda: _ours(source, link=False, processes=None),
            "s2ca convert --link": lambda: _ours(source, link=True, processes=None),
        }
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(ROUNDS):
            for name, program in programs.items():
                rounds[name].append(_time(program, cases))
                for done in raw.iterdir():
                    shutil.rmtree(done)
    _write_results(
        {
            name: (statistics.median(e for e, _ in times), statistics.median(p for _, p in times))
            for name, times in rounds.items()
        },
        cases,
    )


def _time(program: Callable[[], object], cases: int) -> tuple[float, float]:
    """Elapsed seconds a case, and processor seconds a case, worker processes included."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    program()
    return (time.perf_counter() - start) / cases, (sum(os.times()[:4]) - before) / cases


def _write_cases(source: Path, cases: int) -> None:
    """Copies of a round brain of noise in front of zeros.

    As in patients of BraTS 2019, the images have 0.2 bytes a voxel and inflate in 8 ms, the
    segmentations have 13 kB and inflate in 3 ms (with ISA-L).
    """
    rng = np.random.default_rng(0)
    grid = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    radius = np.sqrt(sum(axis**2 for axis in grid))
    images = [
        np.where(radius < 0.67, rng.normal(500, 40, SHAPE), 0).astype(np.int16) for _ in range(4)
    ]
    labels = np.select([radius < 0.1, radius < 0.15, radius < 0.2], [1, 4, 2]).astype(np.uint8)
    first = source / "BraTS2021_00000"
    first.mkdir(parents=True)
    for suffix, data in zip((*EDITION.suffixes.values(), "seg"), (*images, labels), strict=True):
        content = nib.Nifti1Image(data, np.diag([-1.0, -1, 1, 1])).to_bytes()
        compressed = gzip.compress(content, 6 if suffix == "seg" else 1)
        (first / f"{first.name}_{suffix}.nii.gz").write_bytes(compressed)
    for number in range(1, cases):
        case = source / f"BraTS2021_{number:05d}"
        case.mkdir()
        for path in first.iterdir():
            shutil.copyfile(path, case / path.name.replace(first.name, case.name))


def _nnunets_converter(source: Path, target: Path) -> None:
    """Convert as nnU-Net's script does, whose paths are fixed."""
    for sub in ("imagesTr", "labelsTr"):
        (target / sub).mkdir(parents=True)
    for case in sorted(source.iterdir()):
        for number, suffix in enumerate(("t1", "t1ce", "t2", "flair")):
            shutil.copy(
                case / f"{case.name}_{suffix}.nii.gz",
                target / "imagesTr" / f"{case.name}_{number:04d}.nii.gz",
            )
        copy_BraTS_segmentation_and_convert_labels_to_nnUNet(
            str(case / f"{case.name}_seg.nii.gz"),
            str(target / "labelsTr" / f"{case.name}.nii.gz"),
        )


def _ours(source: Path, *, link: bool, processes: int | None) -> None:
    convert(EDITION, source, Options(link=link), processes=processes, say=lambda line: None)


def _write_results(times: dict[str, tuple[float, float]], cases: int) -> None:
    elapsed, used = times["nnU-Net's Dataset137_BraTS21"]
    RESULTS.mkdir(exist_ok=True)
    content = {
        "cases": cases,
        "rounds": ROUNDS,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "seconds_per_case": {n: {"elapsed": e, "processor": p} for n, (e, p) in times.items()},
    }
    (RESULTS / "conversion.json").write_text(json.dumps(content, indent=2) + "\n")
    rows = [
        f"| {n} | {p:.3f} | {p / used:.2f} | {e:.3f} | {e / elapsed:.2f} |"
        for n, (e, p) in times.items()
    ]
    text = "\n".join(
        [
            "# Converting BraTS",
            "",
            f"`python -m benchmarks.conversion --cases {cases}`: {cases} synthetic cases of "
            f"240×240×155, median of {ROUNDS} rounds, side by side on {os.cpu_count()} cores, with "
            f"a load of {os.getloadavg()[0]:.1f} at the end: above {os.cpu_count()}, other "
            "programs ran, and only processor time means something. nnU-Net's program works in one "
            "process, ours in one (`-np 1`) or on all cores (the default). Ours checks every case "
            "first: `check` and `--copy` read all voxels to the last checksum, `--link` only those "
            "of the segmentations.",
            "",
            "| | processor seconds a case | ratio | elapsed seconds a case | ratio |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )
    (RESULTS / "conversion.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
