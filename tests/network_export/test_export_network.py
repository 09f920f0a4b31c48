"""Exported networks: what is written, what programs without this package make of it, refusals."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

import nnunetv2_s2ca
from nnunetv2_s2ca import UserError, cli, export_network
from nnunetv2_s2ca.network_export import exporting, formats
from tests.checkpoints import authors
from tests.network_export.models import STATISTICS, write_model

# Runs a network as a program would that has never heard of this package or of nnU-Net: both are
# hidden, so that an import, by an unpickler as well, fails.
FOREIGN = """
import sys
for hidden in ("nnunetv2", "nnunetv2_s2ca"):
    sys.modules[hidden] = None
import json, numpy as np
path, patch, out = sys.argv[1:]
known = json.loads(open(path + ".json").read())["network"]
patch = np.load(patch)
assert list(patch.shape) == known["input"]["shape"] and patch.dtype == known["input"]["dtype"]
if known["format"] == "onnx":
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run([known["output"]["name"]], {known["input"]["name"]: patch})
    assert "torch" not in sys.modules
else:
    import torch
    logits = torch.export.load(path).module()(torch.from_numpy(patch)).detach().numpy()
assert list(logits.shape) == known["output"]["shape"] and logits.dtype == known["output"]["dtype"]
np.save(out, logits)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """Format → what was exported."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        name: export_network(model, folder, format=name)
        for name, form in formats.FORMATS.items()
        if all(map(importlib.util.find_spec, form.needs))
    }


@pytest.fixture
def exported(files, request):
    if request.param not in files:
        pytest.skip("needs the extra `onnx`")
    return files[request.param]


@pytest.fixture
def cheap_format(monkeypatch):
    """Put into the place of pt2 a format that is written at once: the logits themselves.

    Call it with what becomes of the logits when they are read.
    """

    def provide(distortion=lambda logits: logits) -> None:
        form = formats.Format(
            "pt2",
            write=lambda network, patch, path: torch.save(network(patch), path),
            run=lambda path, patch: distortion(torch.load(path)).detach(),
            needs=(),
            made_with=dict,
        )
        monkeypatch.setitem(formats.FORMATS, "pt2", form)

    provide()
    return provide


both_formats = pytest.mark.parametrize("exported", ["onnx", "pt2"], indirect=True)


def largest_difference(model: Path, exported, folder: Path) -> float:
    """Between the network as nnU-Net loads it and the file in another program, on a new patch."""
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    size = predictor.configuration_manager.patch_size
    rng = np.random.default_rng(5)
    patch = rng.normal(0, 1, (1, len(predictor.dataset_json["channel_names"]), *size))
    np.save(folder / "patch.npy", patch.astype(np.float32))
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", FOREIGN),
            *map(str, (exported.network, folder / "patch.npy", folder / "logits.npy")),
        ],
        check=True,
        cwd=folder,
    )
    with torch.no_grad():
        ours = predictor.network.eval()(torch.from_numpy(patch).float())
    assert ours.std() > 0.01
    return float(np.abs(ours.numpy() - np.load(folder / "logits.npy")).max())


@both_formats
def test_another_program_computes_the_same_logits(exported, model, tmp_path):
    assert largest_difference(model, exported, tmp_path) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["nnUNetTrainerS2CA", "nnUNetTrainerS2CA_S"])
def test_whole_networks_compute_the_same_logits_in_another_program(trainer, tmp_path):
    pytest.importorskip("onnxruntime")
    model = write_model(tmp_path / "model", trainer=trainer, patch_size=(64,) * 3, network=None)
    for name in formats.FORMATS:
        exported = export_network(model, tmp_path / "out", format=name)
        assert largest_difference(model, exported, tmp_path) < 1e-4


@both_formats
def test_the_description_says_how_to_prepare_an_image(exported):
    description = json.loads(exported.description.read_text())
    assert description["channels"] == ["MRI 0", "MRI 1", "MRI 2", "MRI 3"]
    assert description["preprocessing"] == {
        "preprocessor": "DefaultPreprocessor",
        "reader": "SimpleITKIO",
        "orientation": {
            "axes": "LPS",
            "known_from": "BraTS' convention, since the model does not tell",
        },
        "transpose_forward": [2, 0, 1],
        "crop": "nonzero",
        "least_extent_mm": None,
        "normalization": [{"scheme": "ZScoreNormalization", "inside_mask_only": True}] * 4,
        "spacing_mm": [2.5, 1.0, 0.75],
        "resampling": {
            "function": "resample_data_or_seg_to_shape",
            "arguments": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        },
    }
    assert description["export"]["transpose_backward"] == [1, 2, 0]
    assert description["export"]["resampling"]["arguments"]["order"] == 1


@both_formats
def test_the_description_says_how_windows_and_outputs_are_used(exported):
    description = json.loads(exported.description.read_text())
    assert description["sliding_window"] == {
        "patch_size": [16, 16, 16],
        "step_size": 0.5,
        "gaussian_sigma": 0.125,
        "padding_value": 0,
        "mirroring_axes": [0, 1],
    }
    outputs = description["outputs"]
    assert outputs["nonlinearity"] == "sigmoid"
    assert outputs["channels"] == [
        {"name": "whole tumor", "labels": [1, 2, 3]},
        {"name": "tumor core", "labels": [2, 3]},
        {"name": "enhancing tumor", "labels": [3]},
    ]
    assert outputs["regions"]
    assert outputs["regions_class_order"] == [1, 2, 3]
    assert outputs["threshold"] == 0.5
    assert description["network"]["largest_difference"] == exported.largest_difference < 1e-4


def test_labels_and_statistics_of_other_datasets_are_described(cheap_format, tmp_path):
    model = write_model(
        tmp_path / "model",
        labels={"background": 0, "edema": 1, "core": 2, "ignore": 3},
        schemes=("CTNormalization", "RescaleTo01Normalization"),
        fold="all",
    )
    exported = export_network(model, tmp_path / "out", format="pt2", fold="all")
    assert exported.network.name == "fold_all.pt2"
    description = json.loads(exported.description.read_text())
    assert description["outputs"] == {
        "nonlinearity": "softmax",
        "channels": [
            {"name": "background", "labels": [0]},
            {"name": "edema", "labels": [1]},
            {"name": "core", "labels": [2]},
        ],
        "regions": False,
        "regions_class_order": None,
        "threshold": None,
        "labels": {"background": 0, "edema": 1, "core": 2, "ignore": 3},
    }
    assert description["preprocessing"]["normalization"] == [
        {"scheme": "CTNormalization", "inside_mask_only": False, "statistics": STATISTICS},
        {"scheme": "RescaleTo01Normalization", "inside_mask_only": False},
    ]
    assert description["network"]["output"]["shape"] == [1, 3, 16, 16, 16]


def test_imported_weights_are_exported_with_their_own_preprocessing(cheap_format, tmp_path):
    file = authors.save(tmp_path / "fold_0.pkl", authors.small_state_dict(patch_size=16))
    imported = nnunetv2_s2ca.import_checkpoints([file], output=tmp_path / "model").folder
    exported = export_network(imported, tmp_path / "out", format="pt2")
    preprocessing = json.loads(exported.description.read_text())["preprocessing"]
    assert preprocessing["crop"] is None
    assert preprocessing["least_extent_mm"] == [240, 240, 160]
    normalization = {"scheme": "ZScoreNormalization", "inside_mask_only": False}
    assert preprocessing["normalization"] == [normalization] * 4


def test_nnunets_own_network_is_exported_too(tmp_path):
    model = write_model(tmp_path / "model", trainer="nnUNetTrainer")
    exported = export_network(model, tmp_path / "out", format="pt2")
    assert largest_difference(model, exported, tmp_path) < 1e-4


def test_the_command_prints_what_it_wrote_and_keeps_other_files(
    model, cheap_format, tmp_path, capfd
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    command = ["export-network", "-m", str(model), "-o", str(tmp_path / "out"), "--format", "pt2"]
    assert cli.main(command) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[0] == f"wrote {tmp_path}/out/fold_0.pt2 and {tmp_path}/out/fold_0.pt2.json"
    assert len(printed) == 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"fold_0.pt2", "fold_0.pt2.json", "notes.txt"} <= names
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"

    before = (tmp_path / "out" / "fold_0.pt2").stat().st_mtime_ns
    assert cli.main(command) == 1
    assert "--overwrite" in capfd.readouterr().err
    assert (tmp_path / "out" / "fold_0.pt2").stat().st_mtime_ns == before
    assert cli.main([*command, "--overwrite"]) == 0
    assert (tmp_path / "out" / "fold_0.pt2").stat().st_mtime_ns > before


@pytest.mark.parametrize(
    "distortion",
    [
        lambda y: y + 3e-4 * max(1, float(y.detach().abs().max())),
        lambda y: y * float("nan"),
        lambda y: y[:, :2],
    ],
    ids=["shifted", "not a number", "fewer channels"],
)
def test_a_file_that_computes_something_else_is_not_left(model, tmp_path, cheap_format, distortion):
    cheap_format(distortion)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="nothing is written"):
        export_network(model, tmp_path / "out", format="pt2")
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == []


@pytest.mark.parametrize("step", ["write", "run"])
def test_a_network_that_cannot_be_exported_is_refused_and_leaves_nothing(
    model, tmp_path, monkeypatch, step
):
    def fail(*_):
        raise RuntimeError("Could not guard on u0 == 1\nand much more")

    form = formats.Format(
        **{
            "name": "pt2",
            "write": lambda network, patch, path: path.touch(),
            "run": fail,
            "needs": (),
            "made_with": dict,
            step: fail,
        }
    )
    monkeypatch.setitem(formats.FORMATS, "pt2", form)
    with pytest.raises(UserError, match=r"cannot be exported as pt2 .*u0 == 1") as error:
        export_network(model, tmp_path / "out", format="pt2")
    assert "much more" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_large_logits_may_differ_by_their_rounding_and_no_more():
    ours = torch.tensor([1000.0, -3.0])
    assert exporting._largest_difference(ours, ours + 0.05, "pt2") == pytest.approx(0.05, rel=0.01)
    with pytest.raises(UserError, match=r"0\.2 where 0\.1 is allowed"):
        exporting._largest_difference(ours, ours + 0.2, "pt2")
    with pytest.raises(UserError, match=r"\(1,\) instead of \(2,\)"):
        exporting._largest_difference(ours, ours[:1], "pt2")


def test_damaged_weights_are_refused(cheap_format, tmp_path):
    model = write_model(tmp_path / "model")
    path = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["network_weights"]["decoder.seg_layers.0.bias"][0] = float("nan")
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match="not finite"):
        export_network(model, tmp_path / "out", format="pt2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", formats.ONNX_PACKAGES)
def test_without_the_extra_onnx_is_refused_with_the_command_that_installs_it(
    model, tmp_path, monkeypatch, name
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: None if asked == name else real(asked)
    )
    with pytest.raises(UserError, match=f"pip install .*{name}") as error:
        export_network(model, tmp_path / "out")
    assert "nnunetv2-s2ca[onnx]" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_operations_of_this_package_are_refused():
    class Fused(torch.nn.Module):
        def forward(self, x):
            return torch.ops.s2ca_test_export.twice(x)

    @torch.library.custom_op("s2ca_test_export::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    twice.register_fake(torch.empty_like)
    with pytest.raises(UserError, match=r"s2ca_test_export\.twice"):
        formats._traced(Fused(), torch.zeros(2))


def _no_folder(model):
    return {"model": model / "none"}, "does not exist"


def _no_plans(model):
    (model / "plans.json").unlink()
    return {}, "holds no trained model"


def _damaged_plans(model):
    (model / "plans.json").write_text("{")
    return {}, "is not a JSON file"


def _no_fold(model):
    return {"fold": 3}, "of fold 3; there are 0"


def _strange_fold(model):
    return {"fold": "0_old"}, "of fold 0_old; there are 0"


def _no_checkpoint(model):
    return {"checkpoint": "checkpoint_best.pth"}, "has no fold with checkpoint_best.pth"


def _cut_checkpoint(model):
    path = model / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:5000])
    return {}, "cannot be loaded"


def _other_weights(model):
    path = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["network_weights"].popitem()
    torch.save(checkpoint, path)
    return {}, "cannot be loaded"


def _unknown_trainer(model):
    path = model / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(path, weights_only=False), "trainer_name": "Unknown"}, path)
    return {}, "Unknown"


def _unknown_format(model):
    return {"format": "tflite"}, "the formats are onnx, pt2"


@pytest.mark.parametrize(
    "spoil",
    [
        _no_folder,
        _no_plans,
        _damaged_plans,
        _no_fold,
        _strange_fold,
        _no_checkpoint,
        _cut_checkpoint,
        _other_weights,
        _unknown_trainer,
        _unknown_format,
    ],
)
def test_bad_models_are_refused_by_name(spoil, tmp_path):
    model = write_model(tmp_path / "model")
    arguments, message = spoil(model)
    with pytest.raises(UserError, match=message):
        export_network(**{"model": model, "output": tmp_path / "out", "format": "pt2", **arguments})
    assert not (tmp_path / "out").exists()
