"""What `s2ca segment --uncertainty --probabilities` costs beside `s2ca segment` alone.

`python -m benchmarks.uncertainty` writes `results/speed/uncertainty.md`: S2CA-Net with random
weights, patches of 64³, all 8 mirrorings, on a synthetic patient of 3 mm. Both are measured in one
process, one after the other, by processor time.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import torch

import nnunetv2_s2ca
from benchmarks.predict import write_model
from nnunetv2_s2ca.synthetic.brats import write_brats2019

RESULT = Path(__file__).parents[1] / "results" / "speed" / "uncertainty.md"
PATCH, SHAPE, SPACING = (64, 64, 64), (64, 72, 56), 3.0
SEQUENCES = ("t1", "t1ce", "t2", "flair")


def main() -> None:
    """Measure both, and write the table."""
    os.environ.setdefault("nnUNet_results", tempfile.gettempdir())  # nnU-Net warns without it
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        model = write_model(
            root / "model", "S2CA-Net", suffix=".nii.gz", patch=PATCH, spacing=SPACING
        )
        (folder,) = write_brats2019(root, patients=1, shape=SHAPE, spacing=SPACING)
        scans = {name: folder / f"{folder.name}_{name}.nii.gz" for name in SEQUENCES}
        _seconds(scans, root / "warm.nii.gz", model, more=False, mirroring=False)  # imports
        alone = _seconds(scans, root / "alone.nii.gz", model, more=False)
        more = _seconds(scans, root / "more.nii.gz", model, more=True)
    lines = [
        "# Uncertainty and probabilities beside the segmentation alone",
        "",
        f"`python -m benchmarks.uncertainty`: S2CA-Net, windows of {PATCH[0]}³, half overlapping, "
        f"8 mirrorings, one fold, {' × '.join(map(str, SHAPE))} voxels, reading and writing "
        f"included; {torch.get_num_threads()} threads, PyTorch {torch.__version__}.",
        "",
        "| | processor time s | × |",
        "|---|---|---|",
        f"| segmentation alone | {alone:.1f} | 1 |",
        f"| with `--uncertainty --probabilities` | {more:.1f} | {more / alone:.3f} |",
    ]
    RESULT.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _seconds(
    scans: dict[str, Path], output: Path, model: Path, *, more: bool, mirroring: bool = True
) -> float:
    """Processor time of one call."""
    start = time.process_time()
    nnunetv2_s2ca.segment(
        scans,
        output,
        model=model,
        device="cpu",
        mirroring=mirroring,
        probabilities=more,
        uncertainty=more,
    )
    return time.process_time() - start


if __name__ == "__main__":
    main()
