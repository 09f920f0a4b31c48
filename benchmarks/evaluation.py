"""Time and memory of the metrics of one case of 240×240×155, and how processes share the work.

    python -m benchmarks.evaluation [--repeats 3] [--output results]

The case is synthetic: a tumour of 140 ml with core and enhancing rim, and a prediction that is off
by some voxels everywhere, with false specks all over the volume, so that cropping does not help.
Each row runs in its own process with one thread; time is the median processor time, which other
programs disturb less than wall time, and memory the process' peak. Writes `evaluation.md` and
`evaluation.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from nnunetv2_s2ca.brats.regions import LabelScheme, scheme_of_regions
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.evaluation.case import evaluate_case
from nnunetv2_s2ca.evaluation.cohort import evaluate_cohort, evaluate_pair, pair_cases
from nnunetv2_s2ca.evaluation.rules import RULES, rules_named

SHAPE = (240, 240, 155)
# the labels from 2023 on, which the challenge's own package expects
SCHEME: LabelScheme = scheme_of_regions({"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)})
SPACING = (1.0, 1.0, 1.0)

NOT_INSTALLED = "not installed"  # of packages to compare with

# targets for one case
SECONDS, GIGABYTES = 3.0, 1.0


def make_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Reference and prediction, uint8 labels of shape `SHAPE`."""
    rng = np.random.default_rng(seed)
    rough = gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), 4)
    rough *= 6 / rough.std()
    grid = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in SHAPE), indexing="ij")
    centre = (100, 130, 75)
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))

    def tumour(boundary: np.ndarray) -> np.ndarray:
        labels = np.zeros(SHAPE, np.uint8)
        for label, radius in ((2, 32), (3, 21), (1, 15)):
            labels[boundary < radius] = label
        return labels

    reference = tumour(distance + rough)
    shifted = gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), 3)
    prediction = tumour(distance + rough + 2 * shifted / shifted.std())
    specks = gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), 2)
    prediction[specks > 4.3 * specks.std()] = 3
    return reference, prediction


def write_cases(folder: Path, number: int) -> None:
    """Write copies of the case below `folder`, as references and predictions."""
    for part, labels in zip(("ref", "pred"), make_case(), strict=True):
        (folder / part).mkdir()
        first = folder / part / "BraTS-GLI-00000-000.nii.gz"
        nib.save(nib.Nifti1Image(labels, np.eye(4)), first)
        for copy in range(1, number):
            (folder / part / f"BraTS-GLI-{copy:05d}-000.nii.gz").hardlink_to(first)


def measured(row: str, folder: Path) -> Callable[[], object]:
    """The call that a row times."""
    pairs, _ = pair_cases(folder / "ref", folder / "pred")
    first = pairs[0]
    if row in RULES:
        return lambda: evaluate_pair(first, scheme=SCHEME, rules=rules_named(row))
    reference, prediction = (
        np.asarray(nib.Nifti1Image.from_filename(p).dataobj)
        for p in (first.reference, first.prediction)
    )
    masks = [(r.mask(reference), r.mask(prediction)) for r in SCHEME.regions]
    if row == "metrics alone, classic":
        return lambda: evaluate_case(
            reference,
            prediction,
            spacing=SPACING,
            regions=SCHEME.regions,
            rules=rules_named("classic"),
        )
    if row == "HD95 by MONAI":
        return lambda: [_monai(*pair) for pair in masks]
    if row == "HD95 by SimpleITK":
        return lambda: [_simpleitk(*pair) for pair in masks]
    if row == "HD95 and NSD by surface-distance":
        return lambda: [_surface_distance(*pair) for pair in masks]
    if row == "brats-evaluation":
        return lambda: _official(first.reference, first.prediction)
    raise ValueError(row)


ROWS = (
    *RULES,
    "metrics alone, classic",
    "HD95 by MONAI",
    "HD95 by SimpleITK",
    "HD95 and NSD by surface-distance",
    "brats-evaluation",
)


def _monai(reference: np.ndarray, prediction: np.ndarray) -> float:
    import torch
    from monai.metrics import compute_hausdorff_distance

    return compute_hausdorff_distance(
        torch.from_numpy(prediction)[None, None],
        torch.from_numpy(reference)[None, None],
        include_background=True,
        percentile=95,
        spacing=list(SPACING),
    ).item()


def _simpleitk(reference: np.ndarray, prediction: np.ndarray) -> float:
    import SimpleITK as sitk

    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (reference, prediction)]
    contours = [sitk.GetArrayFromImage(sitk.LabelContour(image)) == 1 for image in images]
    surfaces = [sitk.GetImageFromArray(c.astype(np.uint8)) for c in contours]
    distances = [
        np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(s, squaredDistance=False)))
        for s in surfaces
    ]
    return max(
        np.percentile(distances[1][contours[0]], 95), np.percentile(distances[0][contours[1]], 95)
    )


def _surface_distance(reference: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    import surface_distance

    distances = surface_distance.compute_surface_distances(reference, prediction, SPACING)
    return (
        surface_distance.compute_robust_hausdorff(distances, 95),
        surface_distance.compute_surface_dice_at_tolerance(distances, 1.0),
    )


def _official(reference: Path, prediction: Path) -> object:
    import brats_evaluation
    from panoptica import Panoptica_Evaluator

    settings = brats_evaluation.config_path("GoAT")
    evaluator = Panoptica_Evaluator.load_from_config(str(settings))
    return evaluator.evaluate(str(prediction), str(reference))


def time_row(row: str, folder: Path, repeats: int) -> dict[str, float]:
    """Seconds and peak memory in GB of one row, in this process."""
    import resource

    call = measured(row, folder)
    call()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    per_gigabyte = 2**30 if sys.platform == "darwin" else 2**20
    return {"seconds": statistics.median(seconds), "gigabytes": peak / per_gigabyte}


def time_processes(folder: Path, processes: int) -> float:
    """Seconds for all cases of the folder."""
    pairs, _ = pair_cases(folder / "ref", folder / "pred")
    start = time.perf_counter()
    evaluate_cohort(pairs, scheme=SCHEME, rules=rules_named("classic"), processes=processes)
    return time.perf_counter() - start


def _in_own_process(*arguments: object) -> dict[str, float] | None:
    one_core = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.evaluation", *map(str, arguments)],
        env=os.environ | one_core,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return None  # a package to compare with is not installed
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure all rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        write_cases(args.folder, args.make)
        print("{}")
        return
    if args.row:
        print(json.dumps(time_row(args.row, args.folder, args.repeats)))
        return
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        # in its own process, since a child's peak memory starts at its parent's
        _in_own_process("--make", 8 * cores, "--folder", folder)
        rows = {}
        for row in ROWS:
            rows[row] = _in_own_process("--row", row, "--folder", folder, "--repeats", args.repeats)
            print(row, rows[row] or NOT_INSTALLED, flush=True)
        load = os.getloadavg()[0]
        scaling = {n: time_processes(Path(folder), n) for n in sorted({1, cores})}
        print("all cases", scaling, flush=True)
    results = {
        "rows": rows,
        "cases": 8 * cores,
        "seconds_by_processes": scaling,
        "load_before": load,
    }
    write_text(args.output / "evaluation.json", json.dumps(results, indent=2) + "\n")
    write_text(args.output / "evaluation.md", _table(results, cores))


def _table(results: dict, cores: int) -> str:
    ours = results["rows"]["classic"]["seconds"]
    lines = [
        "# Metrics of one case",
        "",
        "`python -m benchmarks.evaluation`. A synthetic case of 240×240×155 voxels, three regions, "
        "false specks all over the volume; processor time of one thread. The first three rows hold "
        "reading the files and all metrics, lesion-wise ones included; the others what their names "
        f"say, on masks in memory. Python {platform.python_version()}, {platform.machine()}.",
        "",
        "| | seconds | ratio | peak memory, GB |",
        "|---|---|---|---|",
    ]
    for row, found in results["rows"].items():
        name = f"`s2ca evaluate --rules {row}`" if row in RULES else row
        if found is None:
            lines.append(f"| {name} | {NOT_INSTALLED} | | |")
            continue
        lines.append(
            f"| {name} | {found['seconds']:.2f} | {found['seconds'] / ours:.2f} | "
            f"{found['gigabytes']:.2f} |"
        )
    alone, *more = results["seconds_by_processes"].values()
    lines += [
        "",
        f"Targets: under {SECONDS:g} s a case, under {GIGABYTES:g} GB a worker.",
        "",
        f"{results['cases']} cases by one process: {alone:.1f} s"
        + "".join(f"; by {cores} processes: {s:.1f} s, {alone / s:.2f} times as fast" for s in more)
        + ", including the start of the processes. Wall time, which other programs disturb: "
        f"the load before was {results['load_before']:.1f} on {cores} cores.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
