"""Metrics of segmentations by the rules of the BraTS challenge, one module a step."""
