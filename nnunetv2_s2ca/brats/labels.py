"""Voxels of segmentations: read, listed, and put into other labels, at the speed of memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np


def as_labels(data: np.ndarray, known: Collection[int]) -> tuple[np.ndarray, list[int]]:
    """Voxels as uint8, of whatever type they were stored; some editions use floating point.

    Returns:
        The voxels, and the labels that occur among them, ascending.

    Raises:
        ValueError: if there is a value that is none of the `known` labels; names it.
    """
    with np.errstate(invalid="ignore"):  # NaN becomes some label here, and is found below
        labels = data.astype(np.uint8, copy=False)
    present = labels_present(labels)
    strange = labels != data if data.dtype != np.uint8 else None
    if strange is not None and strange.any():
        values = np.unique(data[strange])[:5]
    else:
        values = np.array([label for label in present if label not in known])
    if values.size:
        raise ValueError(
            f"holds the label {', '.join(str(v).removesuffix('.0') for v in values)}; expected "
            f"{', '.join(map(str, sorted(known)))}"
        )
    return labels, present


def labels_present(labels: np.ndarray) -> list[int]:
    """The labels that occur in a uint8 array, ascending."""
    if not labels.any():  # the most frequent case by far, and quickly seen
        return [0] if labels.size else []
    present = []
    rest = labels.tobytes(order="A")
    # taking bytes out is many times as fast as counting or sorting voxels, most of which are zero
    while rest:
        present.append(rest[0])
        rest = rest.translate(None, rest[:1])
    return sorted(present)


def relabel(labels: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """Replace each label of a uint8 array by the one that the mapping gives it, or by 0."""
    if not mapping.get(0, 0) and not labels.any():
        return labels
    table = bytearray(256)
    for value, replacement in mapping.items():
        table[value] = replacement
    # a byte table is some twenty times as fast as indexing; NIfTI's first axis is the fastest
    replaced = labels.tobytes(order="F").translate(table)
    return np.frombuffer(replaced, np.uint8).reshape(labels.shape, order="F")
