"""Preprocessors: what nnU-Net's own does differently from the program that a model comes from."""

from nnunetv2_s2ca.preprocessing.whole_volume import S2CAPreprocessorWholeVolume

__all__ = ["S2CAPreprocessorWholeVolume"]
