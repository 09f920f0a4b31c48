"""The imported model as nnU-Net sees it: its folder, its predictions, its fine-tuning."""

from __future__ import annotations

import errno
import itertools
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing import entry_points
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_s2ca import startup
from nnunetv2_s2ca.checkpoints.importing import (
    MODEL_NAME,
    NO_DATASET,
    import_checkpoints,
    prediction_command,
)
from nnunetv2_s2ca.checkpoints.model_folder import PLANS_NAME
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.preprocessing.whole_volume import EXTENT_KEY
from nnunetv2_s2ca.training import TRAINERS
from tests.checkpoints import authors
from tests.training import tiny_dataset

startup.register()

# as of BraTS' files
AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def file(tmp_path) -> Path:
    return authors.save(tmp_path / "BraTS2020_fold_0.pkl", authors.small_state_dict())


def _shrink_extent(model: Path, extent: tuple[int, int, int]) -> None:
    """Pad volumes to less than BraTS' size, so that small ones are predicted in one window."""
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["3d_fullres"][EXTENT_KEY] = extent
    (model / "plans.json").write_text(json.dumps(plans))


def test_model_folder_is_complete(tmp_path, file):
    model = import_checkpoints([file, file], output=tmp_path / "model")
    assert {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()} == {
        "plans.json",
        "dataset.json",
        "dataset_fingerprint.json",
        "s2ca_import.json",
        *(
            f"fold_{fold}/{name}"
            for fold in (0, 1)
            for name in ("checkpoint_final.pth", "progress.png", "validation/summary.json")
        ),
    }


def test_nnunet_builds_the_authors_network_from_the_folder(tmp_path, file):
    model = import_checkpoints([file], output=tmp_path / "model")
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    assert predictor.trainer_name == "nnUNetTrainerS2CA"
    assert predictor.allowed_mirroring_axes == (0, 1, 2)
    assert predictor.label_manager.foreground_regions == [(1, 2, 3), (2, 3), (3,)]
    assert predictor.network.patch_size == (32, 32, 32)
    assert predictor.network.bottleneck.shifted_mlp.swap_axes
    assert not predictor.network.decoder.deep_supervision
    plans = json.loads((model / "plans.json").read_text())
    assert plans["configurations"]["3d_fullres"]["s2ca_net"] == {
        "features_per_stage": [8, 16, 32, 64],
        "encoder_branches": [[32, 2], [48, 1]],
        "decoder_branches": [[32, 1], [48, 1]],
        "swap_axes": True,
    }


def _write_case(folder: Path, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """T1, T1ce, T2, FLAIR of (x, y, z) voxels, with a margin of background; returns them."""
    rng = np.random.default_rng(len(name))
    folder.mkdir(exist_ok=True)
    images = np.zeros((4, *shape), np.float32)
    images[:, 5:-3, 4:-6, 2:-5] = rng.gamma(4, 100, images[:, 5:-3, 4:-6, 2:-5].shape)
    for channel, image in enumerate(images):
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"{name}_{channel:04d}.nii.gz")
    return images


def _authors_logits(states, images):
    """WT, TC, ET logits as the authors get them, mean over networks and mirrorings."""
    missing = 32 - images.shape[-1]  # half on either side, one more below if it is odd
    below = -(-missing // 2)
    t1, t1ce, t2, flair = np.pad(images, ((0, 0), (0, 0), (0, 0), (below, missing - below)))
    volumes = [(v - v.mean()) / v.std() for v in (t1, t2, t1ce, flair)]
    x = torch.from_numpy(np.stack(volumes))[None].float()
    flips = [axes for n in range(4) for axes in itertools.combinations((2, 3, 4), n)]
    with torch.no_grad():
        logits = torch.stack(
            [
                authors.network_of(state)(x.flip(axes))[0].flip(axes)
                for state in states
                for axes in flips
            ]
        ).mean(0)
    _background, et, tc, wt = logits[0, ..., below : below + images.shape[-1]].numpy()
    return wt, tc, et


@pytest.mark.slow
def test_command_predicts_what_the_authors_networks_say(nnunet_folders):
    # all at once, since nnU-Net's processes take long to start: files to segmentation, axes,
    # normalisation, padding, channels, regions, folds, mirroring, and a model from a zip file
    states = [authors.small_state_dict(seed=seed) for seed in (0, 3)]
    files = [authors.save(nnunet_folders / f"{i}.pkl", state) for i, state in enumerate(states)]
    dataset = nnunet_folders / "nnUNet_results" / "Dataset555_Test"
    _shrink_extent(import_checkpoints(files, output=dataset), (32, 32, 32))
    zip_file = str(nnunet_folders / "model.zip")
    _call(
        entry_points.export_pretrained_model_entry,
        *("-d", "555", "-o", zip_file, "-tr", "nnUNetTrainerS2CA", "-p", PLANS_NAME),
        *("-c", "3d_fullres", "-f", "0", "1"),
    )
    command = prediction_command(dataset / MODEL_NAME)
    shutil.rmtree(dataset)
    _call(entry_points.install_from_zip_entry_point, zip_file)

    images = _write_case(nnunet_folders / "in", "case", (32, 32, 27))
    command = command.replace("INPUT_FOLDER", str(nnunet_folders / "in"))
    command = command.replace("OUTPUT_FOLDER", str(nnunet_folders / "out"))
    program, *arguments = shlex.split(command)
    assert program == "nnUNetv2_predict_from_modelfolder"
    # what that script runs; a process of its own, where only Python's start shows our names
    start = (
        "from nnunetv2.inference.predict_from_raw_data import *; predict_entry_point_modelfolder()"
    )
    arguments += ["-device", "cpu", "-npp", "1", "-nps", "1", "--save_probabilities"]
    subprocess.run([sys.executable, "-c", start, *arguments], check=True)
    prediction = nib.load(nnunet_folders / "out" / "case.nii.gz")
    np.testing.assert_allclose(prediction.affine, AFFINE)
    expected = _authors_logits(states, images)
    with np.load(nnunet_folders / "out" / "case.npz") as archive:
        probabilities = archive["probabilities"].transpose(0, 3, 2, 1)  # from z, y, x
    error = np.abs(probabilities - 1 / (1 + np.exp(-np.stack(expected))))
    # nnU-Net sums weighted logits in half precision, whose weights vanish toward the corners
    assert np.quantile(error[:, 8:-8, 8:-8, 8:-8], 0.99) < 2e-3
    assert np.quantile(error, 0.99) < 0.02
    labels = np.zeros(images.shape[1:])
    for label, logits in zip((1, 2, 3), expected, strict=True):
        labels[logits > 0] = label
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert (prediction.get_fdata() == labels).mean() > 0.98


def _call(entry_point, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *arguments])
        entry_point()


def test_checkpoint_holds_what_nnunets_trainer_saves(nnunet_folders, file):
    name = tiny_dataset.make_dataset(nnunet_folders)
    model = import_checkpoints([file], output=nnunet_folders / "model", dataset=name)
    imported = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    trainer = _trainer("nnUNetTrainerS2CA", model)
    preprocessed = Path(trainer.preprocessed_dataset_folder)
    preprocessed.mkdir()
    (preprocessed / "case.b2nd").touch()  # nnU-Net asks for the kind of the files
    trainer.initialize()
    trainer.save_checkpoint(str(nnunet_folders / "own.pth"))
    own = torch.load(nnunet_folders / "own.pth", weights_only=False)
    assert imported.keys() == own.keys()
    assert imported["init_args"].keys() == own["init_args"].keys()
    assert imported["logging"].keys() == own["logging"].keys()
    for group, own_group in zip(
        imported["optimizer_state"]["param_groups"],
        own["optimizer_state"]["param_groups"],
        strict=True,
    ):
        for key in ("params", "weight_decay", "betas", "eps"):
            assert group[key] == own_group[key]
    # what `nnUNetv2_train --val` does
    trainer.load_checkpoint(str(model / "fold_0" / "checkpoint_final.pth"))
    weights = trainer.network.state_dict()
    assert all(torch.equal(weights[n], t) for n, t in imported["network_weights"].items())


@pytest.mark.slow
def test_finetuning_starts_from_the_imported_weights(nnunet_folders, file):
    name = tiny_dataset.make_dataset(nnunet_folders)
    model = import_checkpoints([file], output=nnunet_folders / "model", dataset=name)
    _shrink_extent(model, (40, 40, 40))
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / name
    # as the README says: copy the plans, preprocess, train
    shutil.copy(model / "plans.json", preprocessed / f"{PLANS_NAME}.json")
    manager = PlansManager(str(preprocessed / f"{PLANS_NAME}.json"))
    preprocessor = manager.get_configuration("3d_fullres").preprocessor_class(verbose=False)
    preprocessor.run(name, "3d_fullres", PLANS_NAME, num_processes=1)
    trainer = _trainer("nnUNetTrainerS2CA_50epochs", model)
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    trainer.initialize()
    maybe_load_checkpoint(trainer, False, False, str(checkpoint))
    imported = torch.load(checkpoint, weights_only=False)["network_weights"]
    for entry, tensor in trainer.network.state_dict().items():
        if ".seg_layers." not in entry:  # heads are reinitialised, as in nnU-Net
            assert torch.equal(tensor, imported[entry]), entry
    assert trainer.network.bottleneck.shifted_mlp.swap_axes
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    assert batch["data"].shape[1:] == (4, 32, 32, 32)
    trainer.on_train_epoch_start()
    assert np.isfinite(trainer.train_step(batch)["loss"])


def _trainer(name: str, model: Path):
    plans = json.loads((model / "plans.json").read_text())
    dataset_json = json.loads((model / "dataset.json").read_text())
    return TRAINERS[name](
        plans={**plans, "continue_training": False},
        configuration="3d_fullres",
        fold=0,
        dataset_json={**dataset_json, "numTraining": tiny_dataset.CASES},
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("output", [None, "nnUNet_results"])
def test_model_goes_to_nnunets_place_for_a_dataset(nnunet_folders, file, output):
    (nnunet_folders / "nnUNet_raw" / "Dataset043_BraTS2019").mkdir()
    folder = None if output is None else nnunet_folders / output
    model = import_checkpoints([file], output=folder, dataset="43")
    assert model == nnunet_folders / "nnUNet_results" / "Dataset043_BraTS2019" / MODEL_NAME
    assert json.loads((model / "plans.json").read_text())["dataset_name"] == "Dataset043_BraTS2019"


@pytest.mark.parametrize(
    ("output", "dataset", "model", "name"),
    [
        ("model", None, "model", NO_DATASET),
        ("model", "Dataset137_BraTS2021", "model", "Dataset137_BraTS2021"),
        ("Dataset043_A", None, f"Dataset043_A/{MODEL_NAME}", "Dataset043_A"),
        ("Dataset043_A/a__b__c", None, "Dataset043_A/a__b__c", "Dataset043_A"),
        ("Dataset043_A/a__b__c", "Dataset044_B", "Dataset043_A/a__b__c", "Dataset044_B"),
    ],
)
def test_output_and_dataset_decide_folder_and_name(tmp_path, file, output, dataset, model, name):
    written = import_checkpoints([file], output=tmp_path / output, dataset=dataset)
    assert written == tmp_path / model
    assert json.loads((written / "plans.json").read_text())["dataset_name"] == name


def test_place_that_cannot_be_is_refused(nnunet_folders, file, monkeypatch):
    with pytest.raises(UserError, match="dataset=43`: nnU-Net has no such"):
        import_checkpoints([file], output=nnunet_folders / "model", dataset="43")
    with pytest.raises(UserError, match="dataset=BraTS`: nnU-Net has no such"):
        import_checkpoints([file], output=nnunet_folders / "model", dataset="BraTS")
    with pytest.raises(UserError, match=r"\(`output`\) or its `dataset`"):
        import_checkpoints([file])
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(UserError, match="nnUNet_results is not set"):
        import_checkpoints([file], dataset="Dataset043_BraTS2019")
    (nnunet_folders / "occupied").write_text("")
    with pytest.raises(UserError, match="occupied"):
        import_checkpoints([file], output=nnunet_folders / "occupied" / "model")
    with pytest.raises(UserError, match=r"cannot be .*: File name too long"):
        import_checkpoints([file], output=nnunet_folders / ("m" * 300))


def test_existing_model_is_replaced_only_if_asked(tmp_path, file):
    model = import_checkpoints([file, file], output=tmp_path / "model")
    with pytest.raises(UserError, match="overwrite=True"):
        import_checkpoints([file], output=model)
    assert (model / "fold_1").exists()
    import_checkpoints([file], output=model, overwrite=True)
    assert not (model / "fold_1").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"model", file.name}


def test_overwrite_spares_what_is_no_imported_model(tmp_path, file):
    model = import_checkpoints([file], output=tmp_path / "model")
    # a training with the imported plans puts its own dataset.json there
    (model / "dataset.json").write_bytes(b'{"name": "\xfc"}')
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("")
    message = {model: "dataset.json was added or changed", tmp_path / "papers": "something other"}
    for folder, words in message.items():
        with pytest.raises(UserError, match=words):
            import_checkpoints([file], output=folder, overwrite=True)
    assert (tmp_path / "papers" / "thesis.tex").exists()


def test_neighbours_are_left_alone(tmp_path, file):
    for name in ("model.old", "model.unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("")
    model = import_checkpoints([file], output=tmp_path / "model")
    import_checkpoints([file], output=model, overwrite=True)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*.tex")} == {
        "model.old/thesis.tex",
        "model.unfinished/thesis.tex",
    }
    assert len(list(tmp_path.iterdir())) == 4  # with the model and the file


def test_old_model_is_put_back_if_the_new_one_cannot_take_its_place(tmp_path, file, monkeypatch):
    model = import_checkpoints([file, file], output=tmp_path / "model")
    rename = Path.rename

    def rename_no_new_model(path, target):
        if path.name == ".model.partial":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_no_new_model)
    with pytest.raises(UserError, match="cannot be written: Input/output error"):
        import_checkpoints([file], output=model, overwrite=True)
    assert (model / "fold_1").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"model", file.name}


def test_model_behind_a_link_is_replaced(tmp_path, file):
    (tmp_path / "link").symlink_to(tmp_path / "models" / "first")
    model = import_checkpoints([file, file], output=tmp_path / "link")
    assert model == tmp_path / "link"
    import_checkpoints([file], output=model, overwrite=True)
    assert model.is_symlink()
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["first"]
    assert len(list(model.glob("fold_*"))) == 1


def test_empty_folder_is_used(tmp_path, file):
    (tmp_path / "model").mkdir()
    import_checkpoints([file], output=tmp_path / "model")
    assert (tmp_path / "model" / "plans.json").exists()


def test_nothing_is_left_if_a_later_file_is_broken(tmp_path, file):
    (tmp_path / "broken.pkl").write_bytes(file.read_bytes()[:10_000])
    with pytest.raises(UserError, match=r"broken\.pkl"):
        import_checkpoints([file, tmp_path / "broken.pkl"], output=tmp_path / "models" / "1")
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "broken.pkl"}


def test_model_stays_if_its_replacement_is_broken(tmp_path, file):
    model = import_checkpoints([file], output=tmp_path / "model")
    (tmp_path / "broken.pkl").write_bytes(b"")
    with pytest.raises(UserError, match=r"broken\.pkl"):
        import_checkpoints([tmp_path / "broken.pkl"], output=model, overwrite=True)
    assert (model / "fold_0" / "checkpoint_final.pth").exists()


def test_files_of_different_networks_make_no_model(tmp_path, file):
    other = authors.small_state_dict(encoder_branches=((48, 2), (48, 1)))
    authors.save(tmp_path / "other.pkl", other)
    with pytest.raises(UserError, match=r"other\.pkl .* encoder_branches: \(\(48, 2\)"):
        import_checkpoints([file, tmp_path / "other.pkl"], output=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_command_imports_and_says_how_to_predict(tmp_path, file, capsys):
    model = tmp_path / "my model"
    assert main(["import-checkpoint", str(file), "-o", str(model)]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {model}" in printed
    assert (
        f"nnUNetv2_predict_from_modelfolder -i INPUT_FOLDER -o OUTPUT_FOLDER -m '{model}' -f 0"
        in printed
    )
    assert main(["import-checkpoint", str(file), "-o", str(model)]) == 1
    assert "s2ca import-checkpoint: error: " in capsys.readouterr().err


def test_command_describes_without_writing(tmp_path, file, capsys):
    before = set(tmp_path.rglob("*"))
    assert main(["import-checkpoint", "--describe", str(file)]) == 0
    printed = capsys.readouterr().out
    for fact in (
        "a dict with net, optimizer, scheduler, epoch",
        "DataParallel",
        "399",
        "4 channels, patches of 32×32×32",
        "8 16 32 64",
        "level 2: 32 wide, 2 blocks; level 3: 48 wide, 1 block\n",
    ):
        assert fact in printed
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", [["--describe"], ["-o", "model"]])
def test_command_runs_what_a_file_brings_only_if_trusted(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    state = authors.small_state_dict()
    authors.save(tmp_path / "a.pkl", state, scheduler=authors.Malicious("it-ran"))
    assert main(["import-checkpoint", "a.pkl", *command]) == 1
    assert "--trust" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]
    assert main(["import-checkpoint", "a.pkl", *command, "--trust"]) == 0
    assert (tmp_path / "it-ran").exists()


def test_names_of_files_need_not_be_drawn(tmp_path, file, recwarn):
    for name in ("fold$\\frac$.pkl", "中文_fold_0.pkl"):
        file = file.rename(tmp_path / name)
        model = import_checkpoints([file], output=tmp_path / "model", overwrite=True)
        assert (model / "fold_0" / "progress.png").exists()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_full_disk_is_told(tmp_path, file, monkeypatch):
    def save(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match=r"model cannot be written: .*is the disk full"):
        import_checkpoints([file], output=tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_command_prints_no_warning_of_its_dependencies(tmp_path):
    # in a process of its own, since only the first import warns
    command = (
        "from nnunetv2_s2ca.cli import main; main(['import-checkpoint', 'nowhere.pkl', '-o', 'm'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stderr.splitlines() == ["s2ca import-checkpoint: error: nowhere.pkl does not exist"]
