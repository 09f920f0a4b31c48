"""Regions to score, and the labels that they consist of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_s2ca.brats.editions import edition_named
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.text import in_few_words

# By the names of nnU-Net's BraTS converters, in British and American spelling
SHORT_NAMES = {
    "whole tumor": "WT",
    "whole tumour": "WT",
    "tumor core": "TC",
    "tumour core": "TC",
    "enhancing tumor": "ET",
    "enhancing tumour": "ET",
    "resection cavity": "RC",
    "cystic component": "CC",
    "gross tumor volume": "GTV",
    "gross tumour volume": "GTV",
}

# Unknown labels named in an error; an image in place of labels has thousands
NAMED_LABELS = 5

# The largest label that nnU-Net can write, in uint16
LARGEST_LABEL = 65535


@dataclass(frozen=True)
class Region:
    """A union of labels that is scored as one mask.

    Attributes:
        name: Short name where BraTS has one (`WT`, `TC`, `ET`), else the dataset's own.
        labels: The integer labels that belong to the region.
    """

    name: str
    labels: tuple[int, ...]

    def mask(self, segmentation: np.ndarray) -> np.ndarray:
        """The voxels of `segmentation`, integers `(H, W, D)`, that belong to the region."""
        table = np.zeros(int(max(segmentation.max(initial=0), *self.labels)) + 1, dtype=bool)
        table[list(self.labels)] = True
        return table[segmentation]


@dataclass(frozen=True)
class LabelScheme:
    """The regions of a set of segmentations, and every label that may occur in them.

    Attributes:
        regions: The regions to score, in the order of the tables.
        labels: All labels that a segmentation may hold, background included.
        ignore_label: Every metric leaves out voxels with this label in the reference.
    """

    regions: tuple[Region, ...]
    labels: frozenset[int]
    ignore_label: int | None = None

    def check(self, segmentation: np.ndarray, path: Path) -> None:
        """Refuse a segmentation, integers of any shape, with labels that the scheme lacks.

        Raises:
            UserError: It has such labels; names `path` and the labels.
        """
        if segmentation.min(initial=0) < 0 or segmentation.max(initial=0) > max(self.labels):
            present = np.unique(segmentation)
        else:
            # bincount makes one pass where np.unique would sort, but needs memory for every
            # number up to the largest
            present = np.flatnonzero(np.bincount(segmentation.ravel(order="K")))
        unknown = sorted(set(present.tolist()) - self.labels)
        if unknown:
            raise UserError(
                f"{path} holds the label{'s' * (len(unknown) > 1)} "
                f"{', '.join(map(str, unknown[:NAMED_LABELS]))}"
                f"{' and others' * (len(unknown) > NAMED_LABELS)}; expected {sorted(self.labels)}"
            )


def short_name(name: str) -> str:
    """`WT` for `whole tumor`, and so on; other names are unchanged."""
    return SHORT_NAMES.get(name.lower().replace("_", " ").strip(), name)


def scheme_of_regions(regions: Mapping[str, Sequence[int]]) -> LabelScheme:
    """The scheme of named regions; only their labels and background may occur.

    Raises:
        UserError: Two names mean the same region.
    """
    spellings: dict[str, str] = {}
    scheme = []
    for name, labels in regions.items():
        short = short_name(name)
        other = spellings.setdefault(short, name)
        if other != name:
            raise UserError(f"{other!r} and {name!r} both mean {short}; rename one of them")
        scheme.append(Region(short, tuple(labels)))
    return LabelScheme(tuple(scheme), frozenset({0}.union(*(region.labels for region in scheme))))


def scheme_of_edition(name: str) -> LabelScheme:
    """The regions that an edition scores, in its own labels.

    Raises:
        UserError: The edition is unknown.
    """
    edition = edition_named(name)
    regions = {
        region: tuple(edition.source_labels[label] for label in labels)
        for region, labels in edition.regions.items()
    }
    return scheme_of_regions(regions | edition.scored_labels)


def scheme_of_dataset(dataset_json: Path) -> LabelScheme:
    """The regions, or plain labels, that an nnU-Net `dataset.json` declares.

    Raises:
        UserError: The file is missing, is not JSON, or lacks nnU-Net's labels; two names mean the
            same region; or the `ignore` label belongs to a region.
    """
    labels = read_json(dataset_json).get("labels")
    if not isinstance(labels, dict) or not labels.keys() - {"ignore"} > {"background"}:
        raise UserError(
            f"{dataset_json}: expected nnU-Net's `labels`, with a `background` and more, found "
            f"{in_few_words(labels)}"
        )
    if labels["background"] != 0 or type(labels["background"]) is not int:
        raise UserError(
            f"{dataset_json}: expected the label 0 for `background`, found "
            f"{in_few_words(labels['background'])}"
        )
    regions = {}
    for name, value in labels.items():
        if name == "background":
            continue
        if not name.isprintable():
            raise UserError(f"{dataset_json}: label {name!a}: expected a name that can be printed")
        values = value if isinstance(value, list) and name != "ignore" else [value]
        if not values or any(type(v) is not int or not 0 < v <= LARGEST_LABEL for v in values):
            raise UserError(
                f"{dataset_json}: label {name!r}: expected a whole number from 1 to "
                f"{LARGEST_LABEL}, or a region's list of them, found {in_few_words(value)}"
            )
        regions[name] = tuple(dict.fromkeys(values))
    (ignore,) = regions.pop("ignore", [None])
    try:
        scheme = scheme_of_regions(regions)
    except UserError as error:
        raise UserError(f"{dataset_json}: {error}") from error
    if ignore is None:
        return scheme
    if ignore in scheme.labels:
        name = next(name for name, values in regions.items() if ignore in values)
        raise UserError(
            f"{dataset_json}: {ignore} is both the `ignore` label and a label of {name!r}; give "
            "ignored voxels a label of their own"
        )
    return LabelScheme(scheme.regions, scheme.labels | {ignore}, ignore_label=ignore)


def find_dataset_json(*folders: Path, otherwise: str = "") -> Path:
    """Find the first `dataset.json` in `folders` and their parents.

    nnU-Net writes it beside predictions, and one level above `labelsTr`.

    Args:
        folders: Where to look.
        otherwise: What else the user can do if there is none, besides -djfile.

    Raises:
        UserError: There is none.
    """
    for folder in folders:
        for candidate in (folder / "dataset.json", folder.parent / "dataset.json"):
            if candidate.is_file():
                return candidate
    raise UserError(
        f"no dataset.json in {' or '.join(map(str, folders))}; name nnU-Net's file with -djfile"
        f"{otherwise}"
    )
