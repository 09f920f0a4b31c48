"""nnU-Net's predictor; of one run, it can also follow each fold and each mirroring."""

from __future__ import annotations

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


class MemberPredictor(nnUNetPredictor):
    """nnU-Net's predictor."""
