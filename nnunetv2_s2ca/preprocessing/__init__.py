"""Preprocessors for models that were not trained with nnU-Net."""

from nnunetv2_s2ca.preprocessing.whole_volume import S2CAPreprocessorWholeVolume

__all__ = ["S2CAPreprocessorWholeVolume"]
