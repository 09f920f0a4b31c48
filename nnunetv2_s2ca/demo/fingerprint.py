"""nnU-Net's fingerprint of a dataset from few voxels.

nnU-Net draws 100 million voxels for intensity statistics, which only CT normalisation needs; for
MRI that wastes a minute and 5 GB of memory. `nnUNetv2_plan_and_preprocess` uses an existing
fingerprint.
"""

from __future__ import annotations

import sys

from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)

VOXELS = 10_000


def extract_fingerprint(dataset_id: int) -> None:
    """Write `dataset_fingerprint.json` to the dataset's folder in nnUNet_preprocessed."""
    extractor = DatasetFingerprintExtractor(dataset_id, num_processes=1)
    extractor.num_foreground_voxels_for_intensitystats = VOXELS
    extractor.run(overwrite_existing=True)


if __name__ == "__main__":
    extract_fingerprint(int(sys.argv[1]))
