"""One patient through `nnUNetv2_predict`, by S2CA-Net and by nnU-Net's default network.

`python -m benchmarks.predict T1 T1CE T2 FLAIR`, four NIfTI files of one patient, writes
`results/speed/predict.md`. The weights are random, which does not change the time. Mirroring and
overlap are nnU-Net's defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.networks import BASELINE, NETWORKS
from benchmarks.plans import make_plans, plain_unet

RESULT = Path(__file__).parents[1] / "results" / "speed" / "predict.md"
PATCH = (128, 128, 128)
TRAINERS = {BASELINE: "nnUNetTrainer", "S2CA-Net": "nnUNetTrainerS2CA"}


def main() -> None:
    """Predict with both networks, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs=4, help="one patient's t1, t1ce, t2, flair")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cases = root / "cases"
        cases.mkdir()
        for channel, image in enumerate(arguments.images):
            suffix = ".nii.gz" if image.name.endswith(".gz") else ".nii"
            shutil.copy(image, cases / f"patient_{channel:04d}{suffix}")
        measured = {}
        for name in TRAINERS:
            model = write_model(root / name.replace(" ", "_"), name, suffix=suffix)
            measured[name] = _predict(model, cases, root / "out", arguments.device)
            print(f"{name}: {measured[name][0]:.0f} s, {measured[name][1]:.1f} GB", flush=True)
    base_seconds, base_gb = measured[BASELINE]
    lines = [
        "# One patient through nnUNetv2_predict",
        "",
        f"`python -m benchmarks.predict T1 T1CE T2 FLAIR --device {arguments.device}`: windows of "
        f"128³, half overlapping, all 8 mirrorings, reading and writing included; "
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}; memory is the peak of "
        f"all processes together, what they share counted once.",
        "",
        "| network | wall time s | × | peak memory GB | × |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {seconds:.0f} | {seconds / base_seconds:.2f} | {gb:.1f} "
            f"| {gb / base_gb:.2f} |"
            for name, (seconds, gb) in measured.items()
        ),
    ]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text("\n".join(lines) + "\n")


def _predict(model: Path, cases: Path, out: Path, device: str) -> tuple[float, float]:
    """Wall time in seconds and peak memory in GB of the command and its workers."""
    command = [
        *(sys.executable, "-c"),
        "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as f;"
        "f()",
        *("-i", str(cases), "-o", str(out), "-m", str(model), "-f", "0"),
        *("-device", device, "-npp", "1", "-nps", "1"),
    ]
    start, peak = time.perf_counter(), 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        used = 0
        for part in [process, *process.children(recursive=True)]:
            try:
                used += _own_memory(part)
            except psutil.Error:  # it has ended, or just ends
                continue
        peak = max(peak, used)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"nnUNetv2_predict failed with exit status {process.returncode}")
    return time.perf_counter() - start, peak / 1e9


def _own_memory(process: psutil.Process) -> int:
    """Bytes of a process; what it shares with others is divided among them, where that is known.

    Processes that nnU-Net is just starting share all of their memory with their parent.
    """
    memory = process.memory_full_info()
    return getattr(memory, "pss", memory.rss)


def write_model(
    folder: Path,
    name: str,
    *,
    suffix: str,
    patch: tuple[int, int, int] = PATCH,
    spacing: float = 1.0,
) -> Path:
    """A model folder as nnU-Net's training leaves it, with random weights."""
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(_plans(patch, spacing)))
    dataset = {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3],
                   "enhancing tumor": [3]},
        "regions_class_order": [1, 2, 3],
        "numTraining": 1,
        "file_ending": suffix,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(dataset))
    network = NETWORKS[name](patch)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": TRAINERS[name],
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def _plans(patch: tuple[int, int, int], spacing: float) -> dict[str, Any]:
    """nnU-Net's plans for BraTS, the parts that prediction reads."""
    configuration = {
        "patch_size": list(patch),
        "median_image_size_in_voxels": [140.0, 171.0, 136.0],
        "spacing": [spacing] * 3,
        "normalization_schemes": ["ZScoreNormalization"] * 4,
        "architecture": plain_unet([32, 64, 128, 256, 320, 320], blocks=2),
    }
    return make_plans(
        configuration,
        dataset_name="Dataset001_BraTS",
        original_median_spacing_after_transp=[1.0, 1.0, 1.0],
        original_median_shape_after_transp=[140, 171, 136],
    )


if __name__ == "__main__":
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(variable, tempfile.gettempdir())  # nnU-Net warns if they are missing
    main()
