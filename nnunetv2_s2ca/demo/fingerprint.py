"""nnU-Net's fingerprint of a dataset, from as many voxels as the demo's patients have.

nnU-Net draws 100 million voxels for intensity statistics that only CT is normalised by. For MRI
that is a minute and 5 GB of memory for nothing. `nnUNetv2_plan_and_preprocess` uses a fingerprint
that it finds.
"""

from __future__ import annotations

import sys

from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)

VOXELS = 10_000


def extract_fingerprint(dataset_id: int) -> None:
    """Write `dataset_fingerprint.json` into the dataset's folder in nnUNet_preprocessed."""
    extractor = DatasetFingerprintExtractor(dataset_id, num_processes=1)
    extractor.num_foreground_voxels_for_intensitystats = VOXELS
    extractor.run(overwrite_existing=True)


if __name__ == "__main__":
    extract_fingerprint(int(sys.argv[1]))
