"""The paper's numbers on BraTS 2020, measured by its authors.

Zhou et al., IEEE TMI 2024, doi 10.1109/TMI.2024.3368531: Dice in % on the 125 validation patients,
scored by the challenge's portal.
"""

from __future__ import annotations

from dataclasses import dataclass

REGIONS = ("ET", "WT", "TC")


@dataclass(frozen=True)
class PublishedRow:
    """A row of one of the paper's tables.

    Attributes:
        title: Name in the paper.
        trainer: The trainer here; None for networks that only the paper has.
        dice: Dice in % of `REGIONS`; None where the paper gives only the mean.
        mean: Mean Dice in %; None where the paper gives none.
    """

    title: str
    trainer: str | None = None
    dice: tuple[float, float, float] | None = None
    mean: float | None = None


COMPARISON = (
    PublishedRow("3D U-Net", None, (68.76, 84.11, 79.06), 77.31),
    PublishedRow("nnU-Net", "nnUNetTrainer", (79.89, 91.24, 85.06), 85.40),
    PublishedRow("TransBTS", None, (78.73, 90.09, 81.73), 83.52),
    PublishedRow("UNETR", None, (78.80, 89.90, 84.20), 84.30),
    PublishedRow("TransBTSV2", None, (79.63, 90.56, 84.50), 84.90),
    PublishedRow("S2CA-Net", "nnUNetTrainerS2CA", (80.41, 91.37, 85.21), 85.66),
)
ABLATION = (
    PublishedRow("B", "nnUNetTrainerS2CA_B", (72.42, 88.68, 79.46)),
    PublishedRow("+ LGSM", "nnUNetTrainerS2CA_B_LGSM", (78.01, 90.36, 80.52)),
    PublishedRow("+ MCA", "nnUNetTrainerS2CA_B_LGSM_MCA", (79.43, 90.74, 82.64)),
    PublishedRow("+ MS-ADC", "nnUNetTrainerS2CA_noWDS", (79.77, 90.61, 84.03)),
    PublishedRow("+ WDS", "nnUNetTrainerS2CA", (80.27, 91.13, 84.70)),
)
SIZES = (
    PublishedRow("S2CA-Net-S", "nnUNetTrainerS2CA_S", None, 84.07),
    PublishedRow("S2CA-Net", "nnUNetTrainerS2CA", None, 85.66),
    PublishedRow("S2CA-Net-L", "nnUNetTrainerS2CA_L", None, 86.12),
)
TABLES = {"Comparison": COMPARISON, "Ablation": ABLATION, "Sizes": SIZES}
TRAINERS = tuple(
    dict.fromkeys(row.trainer for table in TABLES.values() for row in table if row.trainer)
)
