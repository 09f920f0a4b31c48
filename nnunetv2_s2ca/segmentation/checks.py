"""What looks wrong about a patient's scans, before a network sees them.

Each check is simple, and `docs/segment.md` states what it misses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.imaging.scans import Scan

# A stripped brain fills about half of its bounding box, so that zeros are half of it or more
LEAST_BACKGROUND = 0.25
LARGEST_SPACING = 2.0  # mm; BraTS has 1 mm
LEAST_COVERAGE = 0.5  # of the reference's voxels above 0
FULL_COVERAGE = 0.99
EVERY = 3  # voxels along each axis, for the comparison of sequences
FEWEST = 100  # voxels that sequences are compared on
CLEARLY = 0.1  # difference of mean correlations
BRIGHTER = 1.05  # ratio of bright ends


def odd_about_scan(sequence: str, scan: Scan) -> Iterator[str]:
    """What looks wrong about one scan by itself."""
    yield from scan.remarks
    background = float((scan.voxels == 0).mean())
    if background < LEAST_BACKGROUND:
        yield (
            f"{sequence}: {background:.0%} of {scan.path} is 0, so the skull seems to be there; "
            "models of BraTS expect stripped brains on a background of 0"
        )
    spacing = scan.image.GetSpacing()
    if max(spacing) > LARGEST_SPACING:
        yield (
            f"{sequence}: {scan.path} has voxels of {' × '.join(f'{n:.3g}' for n in spacing)} mm; "
            "models of BraTS were trained on 1 mm"
        )


def check_different(scans: Mapping[str, Scan]) -> None:
    """Refuse one image given as two sequences.

    Raises:
        UserError: Two scans have the same voxels.
    """
    for (first, one), (second, other) in combinations(scans.items(), 2):
        if one.voxels.shape == other.voxels.shape and np.array_equal(one.voxels, other.voxels):
            raise UserError(
                f"{first} and {second} are the same image, {one.path} and {other.path}; name the "
                "file of each sequence"
            )


def exchanged_sequences(images: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Sequences that seem to be exchanged, by how they look beside each other.

    Fluid is bright in T2 alone, so that T2 resembles the others least. Contrast agent makes the
    brightest part of T1ce brighter than that of T1.

    Args:
        images: Sequence → voxels `(Z, Y, X)`, all on one grid, 0 outside the brain.
    """
    sampled = {name: voxels[::EVERY, ::EVERY, ::EVERY] for name, voxels in images.items()}
    shared = np.all([voxels > 0 for voxels in sampled.values()], axis=0)
    if np.count_nonzero(shared) < FEWEST:
        return
    inside = {name: voxels[shared] for name, voxels in sampled.items()}
    if "T2" in inside and len(inside) > 2 and all(np.ptp(v) > 0 for v in inside.values()):
        alike = np.corrcoef(np.stack(list(inside.values()))).sum(0) - 1
        means = dict(zip(inside, alike / (len(inside) - 1), strict=True))
        odd_one = min(means, key=lambda name: means[name])
        if odd_one != "T2" and means[odd_one] < means["T2"] - CLEARLY:
            yield (
                f"{odd_one} looks like the T2, and T2 does not: of all, T2 should resemble the "
                "others least. Are the two exchanged?"
            )
    if "T1" in inside and "T1ce" in inside:
        plain, contrast = _bright_end(inside["T1"]), _bright_end(inside["T1ce"])
        if plain > BRIGHTER * contrast:
            yield (
                "T1 has the brighter vessels and tumour than T1ce; contrast agent should make it "
                "the other way round. Are the two exchanged?"
            )


def _bright_end(voxels: np.ndarray) -> float:
    high, highest = np.percentile(voxels, (99, 99.9))
    return float(highest / high) if high > 0 else 1.0
