"""Models in nnU-Net's folders, and the state of their folds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import read_json
from nnunetv2_s2ca.core.nnunet import RESULTS, nnunet_folder


class FoldState(Enum):
    """The state of a fold, and the option with which `nnUNetv2_train` continues from there."""

    NEW = ()
    STARTED = ("--c",)
    TRAINED = ("--val",)
    FINISHED = None


@dataclass(frozen=True)
class Model:
    """A configuration of a dataset with its trainer and plans, trained or not.

    Attributes:
        dataset: Full name, `Dataset043_BraTS2019`.
        configuration: `3d_fullres` and the like.
        trainer: Name of the trainer's class.
        plans: Identifier of the plans.
    """

    dataset: str
    configuration: str
    trainer: str
    plans: str = "nnUNetPlans"

    @property
    def folder(self) -> Path:
        """Its folder in `nnUNet_results`."""
        name = f"{self.trainer}__{self.plans}__{self.configuration}"
        return nnunet_folder(RESULTS, missing_ok=True) / self.dataset / name

    def fold(self, fold: int) -> Path:
        """The folder of one of its folds."""
        return self.folder / f"fold_{fold}"


def fold_state(folder: Path) -> FoldState:
    """The state of a fold, by nnU-Net's files in its folder."""
    if (folder / "checkpoint_final.pth").is_file():
        return FoldState.FINISHED if _is_validated(folder / "validation") else FoldState.TRAINED
    # the two from which nnU-Net's --c resumes
    checkpoints = ("checkpoint_latest.pth", "checkpoint_best.pth")
    started = any((folder / name).is_file() for name in checkpoints)
    return FoldState.STARTED if started else FoldState.NEW


def _is_validated(validation: Path) -> bool:
    """Whether nnU-Net has scored the fold's cases and saved the probabilities of each."""
    try:
        content = read_json(validation / "summary.json")
        names = [Path(case["prediction_file"]).name for case in content["metric_per_case"]]
    except (UserError, KeyError, TypeError):
        return False
    kept = {path.stem for path in validation.glob("*.npz")}
    # file endings have one suffix or two
    return all(kept & {Path(name).stem, Path(Path(name).stem).stem} for name in names)
