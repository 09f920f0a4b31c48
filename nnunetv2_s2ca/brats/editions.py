"""How the BraTS editions and the MSD differ: file names, labels, regions, nnU-Net's ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nnunetv2_s2ca.brats.sequences import sequence_named
from nnunetv2_s2ca.core.errors import UserError

CLASSIC_SUFFIXES = {"T1": "t1", "T1ce": "t1ce", "T2": "t2", "FLAIR": "flair"}
SUFFIXES_SINCE_2023 = {"T1": "t1n", "T1ce": "t1c", "T2": "t2w", "FLAIR": "t2f"}

CLASSIC_LABELS = {0: 0, 2: 1, 1: 2, 4: 3}
LABELS_SINCE_2023 = {0: 0, 2: 1, 1: 2, 3: 3}
RULES = ("classic", "lesionwise-2023", "brats-2026")
TUMOUR_REGIONS = {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)}


@dataclass(frozen=True, kw_only=True)
class Edition:
    """How an edition names its files, and what its labels mean.

    In every dataset, nnU-Net's labels are oedema 1, non-enhancing core 2, enhancing tumour 3, and
    any further label of the edition 4.

    Attributes:
        name: Name on the command line, such as `brats2019`.
        dataset_id: Dataset id; nnU-Net's own where it has a converter for the edition.
        dataset_name: The part of the folder's name after the id.
        case_prefix: Start of the edition's case identifiers.
        suffixes: Channel name → end of the file's name. The channels of a dataset are always in
            the order T1, T1ce, T2, FLAIR.
        segmentation_suffix: End of the segmentation's name.
        labels: Label in the source → nnU-Net's label.
        regions: Region → nnU-Net's labels, in the order of the network's outputs.
        four_dimensional: As in the MSD, one 4D file holds a case's channels, in the order of
            `suffixes`, and segmentations are in a folder of their own.
        reference: Where the data is described.
        scored_labels: Single labels of the source that the challenge scores besides `regions`,
            from the settings of brats-evaluation 0.0.10 and the MSD's dataset.json.
        rules: The rules that score the edition, one of `RULES`.
        lesion_dilations: Number of dilations of the reference in the lesion-wise rule of 2023.
        smallest_lesion_mm3: That rule leaves out reference lesions of at most this volume.
        official_config: The edition's settings in brats-evaluation, if any.
    """

    name: str
    dataset_id: int
    dataset_name: str
    case_prefix: str
    reference: str
    suffixes: dict[str, str] = field(default_factory=lambda: dict(SUFFIXES_SINCE_2023))
    segmentation_suffix: str = "seg"
    labels: dict[int, int] = field(default_factory=lambda: dict(LABELS_SINCE_2023))
    regions: dict[str, tuple[int, ...]] = field(default_factory=lambda: dict(TUMOUR_REGIONS))
    four_dimensional: bool = False
    scored_labels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    rules: str = "classic"
    lesion_dilations: int = 3
    smallest_lesion_mm3: float = 50.0
    official_config: str | None = None

    @property
    def separator(self) -> str:
        """The character between case identifier and suffix in a file's name."""
        since_2023 = self.case_prefix.startswith("BraTS-")
        return "-" if since_2023 and self.segmentation_suffix == "seg" else "_"

    @property
    def channels(self) -> tuple[str, ...]:
        """The dataset's channels, in nnU-Net's order."""
        return tuple(channel for channel in CLASSIC_SUFFIXES if channel in self.suffixes)

    @property
    def stored_channels(self) -> tuple[str, ...]:
        """The channels of the edition itself, whichever of them a dataset takes."""
        return EDITIONS[self.name].channels

    def with_channels(self, names: Sequence[str]) -> Edition:
        """The edition as if it had these channels only; their order stays nnU-Net's.

        Args:
            names: In any of BraTS' spellings, such as `t1ce` or `t1c`.

        Raises:
            UserError: The edition lacks one, or none is named.
        """
        chosen = [sequence_named(name) for name in names]
        if not chosen or any(channel not in self.suffixes for channel in chosen):
            raise UserError(
                f"`channels` is {' '.join(names) or 'empty'}; {self.name} has "
                f"{' '.join(channel.lower() for channel in self.channels)}; name some of them"
            )
        kept = {channel: end for channel, end in self.suffixes.items() if channel in chosen}
        return replace(self, suffixes=kept)

    @property
    def source_labels(self) -> dict[int, int]:
        """nnU-Net's label → label in the source."""
        return {ours: source for source, ours in self.labels.items()}

    @property
    def dataset_json_labels(self) -> dict[str, int | list[int]]:
        """`labels` for `dataset.json`; a single foreground label is not a region."""
        if len(self.regions) == 1:
            ((name, (label,)),) = self.regions.items()
            return {"background": 0, name: label}
        return {"background": 0, **{name: list(ours) for name, ours in self.regions.items()}}

    @property
    def regions_class_order(self) -> tuple[int, ...] | None:
        """The label that nnU-Net writes for each region; later regions overwrite earlier ones.

        The later regions cover all labels of a region but its smallest, so writing the smallest
        restores every label.
        """
        if len(self.regions) == 1:
            return None
        return tuple(min(ours) for ours in self.regions.values())

    def folder_name(self, dataset_id: int | None = None, name: str | None = None) -> str:
        """The dataset's folder in nnUNet_raw.

        Raises:
            UserError: The id is not 1 to 999, or the name has characters that nnU-Net's names lack.
        """
        number = self.dataset_id if dataset_id is None else dataset_id
        if not 1 <= number <= 999:
            raise UserError(
                f"the dataset's id is {number}; expected 1 to 999, since nnU-Net's ids have three "
                "digits; choose another `dataset_id`"
            )
        name = self.dataset_name if name is None else name
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise UserError(
                f"the dataset's name is {name!r}; expected only letters from A to Z, digits, _ "
                "and -; choose another `name`"
            )
        return f"Dataset{number:03d}_{name}"


def edition_named(name: str) -> Edition:
    """Look up an edition by name.

    Raises:
        UserError: The edition is unknown.
    """
    if name not in EDITIONS:
        raise UserError(f"unknown edition {name!r}; expected one of {', '.join(EDITIONS)}")
    return EDITIONS[name]


def _classic(year: int, dataset_id: int, case_prefix: str) -> Edition:
    """2018 to 2021. Labels: nnU-Net's converters of BraTS18, BraTS19 and BraTS21."""
    return Edition(
        name=f"brats{year}",
        dataset_id=dataset_id,
        dataset_name=f"BraTS{year}",
        case_prefix=case_prefix,
        suffixes=dict(CLASSIC_SUFFIXES),
        labels=dict(CLASSIC_LABELS),
        reference=(
            "https://www.synapse.org/Synapse:syn25829067"
            if year == 2021
            else f"https://www.med.upenn.edu/cbica/brats{year}/data.html"
        ),
    )


def _since_2023(
    year: int, task: str, dataset_id: int, official_config: str, **differences: Any
) -> Edition:
    """2023 and later. Labels: the settings in the challenge's package brats-evaluation 0.0.10."""
    return Edition(
        name=f"brats{year}-{task.lower()}",
        dataset_id=dataset_id,
        dataset_name=f"BraTS{year}_{task.replace('-', '')}",
        case_prefix=f"BraTS-{task}-",
        reference={
            2023: "https://www.synapse.org/Synapse:syn51156910",
            2024: "https://www.synapse.org/Synapse:syn53708249",
            2025: "https://www.synapse.org/Synapse:syn64153130",
        }[year],
        rules="lesionwise-2023" if year <= 2024 else "brats-2026",
        official_config=official_config,
        **differences,
    )


_WITH_CAVITY: dict[str, Any] = {
    "labels": {**LABELS_SINCE_2023, 4: 4},
    "regions": {**TUMOUR_REGIONS, "resection cavity": (4,)},
}

_METASTASES: dict[str, Any] = {"lesion_dilations": 1, "smallest_lesion_mm3": 2.0}

EDITIONS: dict[str, Edition] = {
    edition.name: edition
    for edition in (
        _classic(2018, 42, "BraTS18_"),
        _classic(2019, 43, "BraTS19_"),
        _classic(2020, 82, "BraTS20_"),
        _classic(2021, 137, "BraTS2021_"),
        # in 2023, gliomas had no resection cavity, and paediatric cases the labels of adults
        _since_2023(2023, "GLI", 230, "GoAT"),
        _since_2023(2023, "SSA", 231, "GoAT"),
        _since_2023(2023, "MEN", 232, "MenPre", lesion_dilations=1),
        _since_2023(2023, "MET", 233, "mets", **_METASTASES),
        _since_2023(2023, "PED", 234, "GoAT"),
        _since_2023(
            2024, "GLI", 226, "gli", scored_labels={"NETC": (1,), "SNFH": (2,)}, **_WITH_CAVITY
        ),
        # brats-evaluation: 1 ET, 2 NET, 3 CC, 4 ED. The cystic component is a region of its own,
        # since the three scored regions do not separate it from the non-enhancing tumour.
        _since_2023(
            2024,
            "PED",
            235,
            "ped",
            scored_labels={"NETC": (2,), "ED": (4,)},
            labels={0: 0, 4: 1, 2: 2, 1: 3, 3: 4},
            regions={
                "whole tumor": (1, 2, 3, 4),
                "tumor core": (2, 3, 4),
                "enhancing tumor": (3,),
                "cystic component": (4,),
            },
        ),
        # brats-evaluation: 1 gross tumour volume, on T1ce only
        _since_2023(
            2024,
            "MEN-RT",
            236,
            "MenRT",
            lesion_dilations=1,
            suffixes={"T1ce": "t1c"},
            segmentation_suffix="gtv",
            labels={0: 0, 1: 1},
            regions={"gross tumor volume": (1,)},
        ),
        _since_2023(2025, "MET", 237, "mets", **_WITH_CAVITY, **_METASTASES),
        # dataset.json of the MSD: 1 edema, 2 non-enhancing, 3 enhancing; FLAIR, T1w, t1gd, T2w
        Edition(
            name="msd-task01",
            dataset_id=1,
            dataset_name="BrainTumour",
            case_prefix="BRATS_",
            suffixes={"FLAIR": "0", "T1": "1", "T1ce": "2", "T2": "3"},
            labels={0: 0, 1: 1, 2: 2, 3: 3},
            four_dimensional=True,
            scored_labels={"ED": (1,), "NET": (2,)},
            reference="http://medicaldecathlon.com",
        ),
    )
}
