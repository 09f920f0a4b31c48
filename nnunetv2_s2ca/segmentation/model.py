"""A trained model, loaded into nnU-Net's predictor, with what it takes and gives."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from nnunetv2_s2ca.brats.regions import LabelScheme, Region, scheme_of_dataset
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.text import excerpt
from nnunetv2_s2ca.evaluation.nested_regions import nested_regions
from nnunetv2_s2ca.models.archive import unpack_for_prediction
from nnunetv2_s2ca.models.folder import (
    CHECKPOINT,
    ModelFolder,
    read_model_folder,
    sequences_of,
    training_orientation,
)
from nnunetv2_s2ca.postprocessing.rules import DEFAULT_FILE, PostprocessingRules, read_rules
from nnunetv2_s2ca.segmentation.predictor import MemberPredictor

DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class PredictorSettings:
    """How nnU-Net predicts; the names of its options are in brackets.

    Attributes:
        folds: Such as `("0", "1")` (`-f`); all that the model has if None.
        checkpoint: Name of the checkpoints (`-chk`).
        device: One of `DEVICES` (`-device`); if None, a GPU if there is one.
        mirroring: Predict mirrored images too (`--disable_tta`).
        step_size: Of the sliding window, as a share of the patch (`-step_size`).
    """

    folds: tuple[str, ...] | None = None
    checkpoint: str = CHECKPOINT
    device: str | None = None
    mirroring: bool = True
    step_size: float = 0.5


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to predict.

    Attributes:
        name: Where it was read from.
        predictor: nnU-Net's.
        sequences: The sequences that it takes, in the order of its channels.
        orientation: Of its training images, such as `LPS`.
        orientation_source: How that is known.
        scheme: Its labels, and its regions as `dataset.json` declares them.
        folds: The folds that are averaged.
        rules: The post-processing that is packed with it, or lies in its folder.
        card: The model card; empty without one.
    """

    name: Path
    predictor: MemberPredictor
    sequences: tuple[str, ...]
    orientation: str
    orientation_source: str
    scheme: LabelScheme
    folds: tuple[str, ...]
    rules: PostprocessingRules | None
    card: dict

    @property
    def regions(self) -> tuple[Region, ...]:
        """WT, TC and ET, and further regions that the model has."""
        return nested_regions(self.scheme.regions)

    @cached_property
    def sha256(self) -> str:
        """A digest of weights, plans and labels, the same in a folder and in a packed file."""
        digest = hashlib.sha256()
        predictor = self.predictor
        for parameters in predictor.list_of_parameters:
            for name in sorted(parameters):
                value = parameters[name].detach().cpu().contiguous()
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.flatten().view(torch.uint8).numpy())
        settings = [predictor.plans_manager.plans, predictor.dataset_json["labels"], self.sequences]
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        return digest.hexdigest()


def load_model(path: Path, settings: PredictorSettings) -> LoadedModel:
    """Load a trained model.

    Args:
        path: A trained model's folder, or a zip file of `s2ca model pack` or
            `nnUNetv2_export_model_to_zip`.
        settings: Which of it to use, and how.

    Raises:
        UserError: There is no model or several, a fold is missing, the file is damaged, the
            device is not there, or nnU-Net cannot build the network.
    """
    _check(settings)
    with _as_folder(path, settings) as folder:
        model = read_model_folder(folder, folds=settings.folds, checkpoint=settings.checkpoint)
        sequences = sequences_of(model)
        orientation, source = training_orientation(model)
        scheme = scheme_of_dataset(model.path / "dataset.json")
        predictor = _predictor(model, path, settings)
        rules_file = model.path / DEFAULT_FILE
        rules = read_rules(rules_file) if rules_file.is_file() else None
    if predictor.configuration_manager.previous_stage_name is not None:
        raise UserError(
            f"{path} is the second stage of a cascade, which needs the first one's predictions; "
            "use nnUNetv2_predict"
        )
    return LoadedModel(
        name=path,
        predictor=predictor,
        sequences=sequences,
        orientation=orientation,
        orientation_source=source,
        scheme=scheme,
        folds=model.folds,
        rules=rules,
        card=model.card,
    )


@contextmanager
def _as_folder(path: Path, settings: PredictorSettings) -> Iterator[Path]:
    if path.is_dir() or not path.exists():
        yield path
        return
    with TemporaryDirectory(prefix="s2ca_model_") as folder:
        yield unpack_for_prediction(
            path, Path(folder), folds=settings.folds, checkpoint=settings.checkpoint
        )


def _predictor(model: ModelFolder, path: Path, settings: PredictorSettings) -> MemberPredictor:
    device = torch.device(settings.device or _best_device())
    shown = sys.stderr is not None and sys.stderr.isatty()
    said = StringIO()
    try:
        with redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predictor = MemberPredictor(
                tile_step_size=settings.step_size,
                use_mirroring=settings.mirroring,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=shown,
            )
            predictor.initialize_from_trained_model_folder(
                str(model.path), list(model.folds), model.checkpoint
            )
    except Exception as error:  # nnU-Net checks by assertions, and damaged files raise anything
        reason = str(error).strip().splitlines()
        raise UserError(
            f"{path} cannot be loaded by nnU-Net: "
            f"{excerpt(reason[0] if reason else type(error).__name__)}"
        ) from error
    return predictor


def _check(settings: PredictorSettings) -> None:
    if not 0 < settings.step_size <= 1:
        raise UserError(f"`step_size` is {settings.step_size:g}; expected more than 0, at most 1")
    device = settings.device
    if device is None:
        return
    if device not in DEVICES:
        raise UserError(f"`device` is {device!r}; expected one of {', '.join(DEVICES)}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if not there[device]:
        raise UserError(f"`device={device}`: PyTorch finds no such device here; use `device=cpu`")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if _has_mps() else "cpu"


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())
