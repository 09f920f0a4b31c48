"""The trainers inside nnU-Net: network, deep supervision, kinds of labels and plans."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_s2ca import S2CANet, startup, training
from nnunetv2_s2ca.training import TRAINERS
from nnunetv2_s2ca.training.catalogue import count_parameters, describe_trainers
from nnunetv2_s2ca.training.demo import nnUNetTrainerS2CA_demo
from tests.commands import run
from tests.training import tiny_dataset

startup.register()

# The sizes and ablations of the paper with four outputs at 128³, counted on the authors' program;
# BraTS has three regions, which saves one output of each head.
PARAMETERS_WITH_4_OUTPUTS = {
    "nnUNetTrainerS2CA": (21_445_012, (16, 32, 64, 128)),
    "nnUNetTrainerS2CA_SGD": (21_445_012, (16, 32, 64, 128)),
    "nnUNetTrainerS2CA_noWDS": (21_445_012, (16, 32, 64, 128)),
    "nnUNetTrainerS2CA_50epochs": (21_445_012, (16, 32, 64, 128)),
    "nnUNetTrainerS2CA_S": (17_799_424, (8, 16, 32, 64)),
    "nnUNetTrainerS2CA_L": (35_491_900, (32, 64, 128, 256)),
    "nnUNetTrainerS2CA_B_LGSM_MCA": (21_309_278, (16, 32, 64, 128)),
    "nnUNetTrainerS2CA_B_LGSM": (20_154_898, (16, 32, 64, 128)),
    "nnUNetTrainerS2CA_B": (320_822, (16, 32, 64, 128)),
}
# one of each kind, for what all kinds share
KINDS = [name for name in PARAMETERS_WITH_4_OUTPUTS if not name.endswith("epochs")]
SMALL = (32, 32, 32)


@pytest.mark.parametrize("name", PARAMETERS_WITH_4_OUTPUTS)
def test_trainer_has_the_papers_parameters(name):
    total, features = PARAMETERS_WITH_4_OUTPUTS[name]
    one_output = sum(features) + len(features)
    assert count_parameters(TRAINERS[name]) == total - one_output


@pytest.mark.parametrize(
    ("shape", "patch_size"),
    [((138, 169, 138), [128, 128, 128]), ((140, 171, 136), [128, 160, 112])],
)
def test_trainers_build_their_networks_from_nnunets_plan(shape, patch_size, nnunet_folders):
    """For median shapes as BraTS has; from the latter, nnU-Net plans a patch that is no cube."""
    dataset = tiny_dataset.make_dataset(nnunet_folders, planned_shape=shape)
    manager = PlansManager(
        str(nnunet_folders / "nnUNet_preprocessed" / dataset / "nnUNetPlans.json")
    )
    configuration = manager.get_configuration("3d_fullres")
    assert list(configuration.patch_size) == patch_size
    parameters = {}
    for name, trainer in TRAINERS.items():
        with torch.device("meta"):
            network = trainer.build_network_architecture(
                manager, configuration, 4, 4, enable_deep_supervision=True
            )
        assert isinstance(network, S2CANet)
        parameters[name] = sum(p.numel() for p in network.parameters())
    default = parameters["nnUNetTrainerS2CA"]
    if patch_size == [128, 128, 128]:
        expected = {name: total for name, (total, _) in PARAMETERS_WITH_4_OUTPUTS.items()}
        assert parameters == {name: expected.get(name, 21_445_012) for name in TRAINERS}
    else:  # what the lengths of three axes add is the projections'
        assert default == 29_270_932


@pytest.mark.parametrize("name", TRAINERS)
def test_nnunet_finds_each_trainer_by_name(name):
    assert recursive_find_trainer_class_by_name(name) is TRAINERS[name]


@pytest.mark.parametrize("name", TRAINERS)
def test_trainer_can_be_pickled(name):
    assert pickle.loads(pickle.dumps(TRAINERS[name])) is TRAINERS[name]


@pytest.mark.parametrize(
    ("name", "epochs"),
    [(f"nnUNetTrainerS2CA_{n}epochs", n) for n in (5, 10, 20, 50, 100, 250, 500)]
    + [
        ("nnUNetTrainerS2CA_1epoch", 1),
        ("nnUNetTrainerS2CA_short", 10),
        ("nnUNetTrainerS2CA", 1000),
    ],
)
def test_trainer_runs_as_long_as_its_name_says(name, epochs, make_trainer):
    assert make_trainer(TRAINERS[name], prepared=False).num_epochs == epochs


def test_unknown_trainer_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nnUNetTrainerS2CA_XXL"):
        _ = training.nnUNetTrainerS2CA_XXL


def test_trainers_are_listed_with_parameters():
    table = describe_trainers()
    assert all(name in table for name in TRAINERS)
    assert "17.80 M" in table
    rows = _rows_of_the_list()
    assert "Adam 0.001" in rows["nnUNetTrainerS2CA"]
    assert "1000 epochs of 250 iterations" in rows["nnUNetTrainerS2CA"]
    assert "Adam 0.001, warm-up, plateau, cosine" in rows["nnUNetTrainerS2CA"]
    assert "Adam 0.003, warm-up, cosine" in rows["nnUNetTrainerS2CA_short"]
    assert "4 epochs of 80 iterations" in rows["nnUNetTrainerS2CA_demo"]
    assert "1 epoch of" in rows["nnUNetTrainerS2CA_1epoch"]


@pytest.mark.parametrize("kind", ["", "_SGD", "_5epochs", "_short", "_demo"])
def test_listed_recipe_is_what_the_trainer_does(kind, make_trainer):
    name = f"nnUNetTrainerS2CA{kind}"
    trainer = make_trainer(TRAINERS[name], prepared=False, short=False)
    optimizer = "SGD" if kind == "_SGD" else "Adam"
    row = _rows_of_the_list()[name]
    assert f"{optimizer} {trainer.initial_lr:g}," in row
    assert f" {trainer.num_epochs} epochs of {trainer.num_iterations_per_epoch} iterations," in row


def _rows_of_the_list() -> dict[str, str]:
    return {line.split()[0]: line for line in describe_trainers().splitlines()}


def test_recipe_is_the_papers(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA"], prepared=False)
    trainer.network = torch.nn.Linear(1, 1)
    optimizer, _ = trainer.configure_optimizers()
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["lr"] == 1e-3
    assert optimizer.defaults["weight_decay"] == 1e-5


def test_sgd_trainer_keeps_nnunets_recipe(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_SGD"], prepared=False)
    trainer.network = torch.nn.Linear(1, 1)
    optimizer, scheduler = trainer.configure_optimizers()
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["lr"] == 1e-2
    assert type(scheduler).__name__ == "PolyLRScheduler"


def test_loss_is_the_weighted_sum_of_the_outputs(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA"], prepared=False)
    loss = trainer._build_loss()
    assert isinstance(loss, DeepSupervisionWrapper)
    torch.manual_seed(0)
    outputs = [torch.randn(2, 3, n, n, n) for n in (16, 8, 4, 2)]
    targets = [(torch.rand(2, 3, n, n, n) > 0.5).float() for n in (16, 8, 4, 2)]
    by_hand = sum(
        weight / 1.9 * _dice_and_bce(output, target)
        for weight, output, target in zip((0.8, 0.6, 0.3, 0.2), outputs, targets, strict=True)
    )
    torch.testing.assert_close(loss(outputs, targets), by_hand)


def _dice_and_bce(output, target):
    probability = torch.sigmoid(output)
    axes = (2, 3, 4)
    dice = (2 * (probability * target).sum(axes) + 1e-5) / (
        probability.sum(axes) + target.sum(axes) + 1e-5
    )
    bce = torch.nn.functional.binary_cross_entropy_with_logits(output, target)
    return bce - dice.mean()


@pytest.mark.parametrize("row", ["B", "B_LGSM", "B_LGSM_MCA", "noWDS", "short", "demo"])
def test_ablation_before_wds_and_short_runs_have_nnunets_weights(row, make_trainer):
    trainer = make_trainer(TRAINERS[f"nnUNetTrainerS2CA_{row}"], prepared=False)
    weights = np.array(trainer._build_loss().weight_factors)
    np.testing.assert_allclose(weights, np.array([4, 2, 1, 0]) / 7)


def test_deep_supervision_scales_follow_four_strides(make_trainer):
    trainer = make_trainer(
        TRAINERS["nnUNetTrainerS2CA"],
        prepared=False,
        shape=(24, 96, 96),
        spacing=(4, 1, 1),
        memory_gb=0.5,
    )
    assert len(trainer.configuration_manager.pool_op_kernel_sizes) == 5
    assert trainer._get_deep_supervision_scales() == [
        [1, 1, 1],
        [1, 1 / 2, 1 / 2],
        [1, 1 / 4, 1 / 4],
        [1 / 2, 1 / 8, 1 / 8],
    ]


@pytest.mark.parametrize("name", [*KINDS, "nnUNetTrainerS2CA_5epochs"])
def test_one_epoch_trains_and_changes_every_parameter(name, make_trainer):
    trainer = make_trainer(TRAINERS[name], small=True, shape=SMALL)
    _train_one_epoch_and_check(trainer)


DATASETS = {
    "plain labels": {"labels": tiny_dataset.PLAIN},
    "ignore label": {"labels": {**tiny_dataset.PLAIN, "ignore": 4}},
    "regions and ignore label": {"labels": {**tiny_dataset.REGIONS, "ignore": 4}},
    "one channel": {"channels": 1},
    "anisotropic": {"shape": (24, 96, 96), "spacing": (4, 1, 1), "memory_gb": 0.3},
}


@pytest.mark.parametrize("dataset", DATASETS)
def test_one_epoch_trains_on(dataset, make_trainer):
    dataset_of_its_kind = {"shape": SMALL, **DATASETS[dataset]}
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA"], small=True, **dataset_of_its_kind)
    if dataset == "anisotropic":
        assert trainer.configuration_manager.pool_op_kernel_sizes[1] == [1, 2, 2]
    _train_one_epoch_and_check(trainer)


def test_cascade_trains_and_predicts(make_trainer, nnunet_folders, tmp_path):
    dataset = {"shape": (72, 72, 72), "memory_gb": 0.1}
    lowres = make_trainer(
        TRAINERS["nnUNetTrainerS2CA"], configuration="3d_lowres", small=True, **dataset
    )
    _train_one_epoch_and_check(lowres)
    tiny_dataset.preprocess(nnunet_folders, "Dataset777_Tiny", "3d_cascade_fullres")
    cascade = make_trainer(
        TRAINERS["nnUNetTrainerS2CA"], configuration="3d_cascade_fullres", small=True
    )
    _write_predictions_of_previous_stage(cascade)
    _train_one_epoch_and_check(cascade)
    assert cascade.network.encoder.stages[0].unit1.depthwise.in_channels == 4 + 3
    raw = nnunet_folders / "nnUNet_raw" / "Dataset777_Tiny"
    stages = [tmp_path / "lowres", tmp_path / "cascade"]
    for trainer, output, previous in zip((lowres, cascade), stages, (None, stages[0]), strict=True):
        output.mkdir()
        _predict_first_case(trainer, raw, output, previous=previous)
        predicted = nib.load(output / "case_0.nii.gz")
        assert predicted.shape == nib.load(raw / "imagesTr" / "case_0_0000.nii.gz").shape
        assert set(np.unique(predicted.dataobj)) <= {0, 1, 2, 3}


@pytest.mark.slow
def test_lowres_validation_hands_its_predictions_to_the_cascade(make_trainer, nnunet_folders):
    lowres = make_trainer(
        TRAINERS["nnUNetTrainerS2CA_B"],
        configuration="3d_lowres",
        shape=(72, 72, 72),
        memory_gb=0.1,
    )
    tiny_dataset.preprocess(nnunet_folders, "Dataset777_Tiny", "3d_cascade_fullres")
    lowres.initialize()
    lowres.inference_allowed_mirroring_axes = None
    lowres.perform_actual_validation()
    cascade = make_trainer(TRAINERS["nnUNetTrainerS2CA_B"], configuration="3d_cascade_fullres")
    handed = infer_dataset_class(cascade.preprocessed_dataset_folder)(
        cascade.preprocessed_dataset_folder,
        folder_with_segs_from_previous_stage=cascade.folder_with_segs_from_previous_stage,
    )
    _, validated = lowres.do_split()
    for case in validated:
        _, segmentation, previous, _ = handed.load_case(case)
        assert previous.shape == segmentation[0].shape


def test_2d_configuration_is_refused_with_what_works(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA"], configuration="2d", prepared=False)
    with pytest.raises(ValueError, match=r"3D network.*2D patches.*work: 3d_fullres"):
        trainer.initialize()


@pytest.mark.slow
def test_nnunets_command_finds_our_trainer_by_itself(nnunet_folders, monkeypatch):
    tiny_dataset.make_dataset(nnunet_folders)
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    # refusing is the quickest thing that our trainer does; `run` quotes it as it fails
    with pytest.raises(AssertionError, match=r"3D network.*2D patches.*work: 3d_fullres"):
        run("nnUNetv2_train", 777, "2d", 0, "-tr", "nnUNetTrainerS2CA", "-device", "cpu")


def test_arguments_in_the_plan_precede_the_trainers(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA"], prepared=False)
    trainer.configuration_manager.configuration["s2ca_net"] = {"encoder_branches": [[32, 1]]}
    with torch.device("meta"):
        network = trainer.build_network_architecture(
            trainer.plans_manager, trainer.configuration_manager, 4, 3
        )
    assert list(network.encoder.branches) == ["3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features_per_stage": [16, 32, 64, 128]}, "but this trainer as .8, 16, 32, 64"),
        ({"width": 3}, "holds width; it may hold .*features_per_stage"),
        ({"patch_size": [64, 64, 64]}, "holds patch_size; it may hold "),
    ],
)
def test_plan_of_another_network_than_the_trainers_is_refused(arguments, message, make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_S"], prepared=False)
    trainer.configuration_manager.configuration["s2ca_net"] = arguments
    with pytest.raises(ValueError, match=message):
        trainer.build_network_architecture(
            trainer.plans_manager, trainer.configuration_manager, 4, 3
        )


def test_plan_of_the_trainers_own_network_is_fine(make_trainer):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_S"], prepared=False)
    same = {"features_per_stage": [8, 16, 32, 64]}
    trainer.configuration_manager.configuration["s2ca_net"] = same
    with torch.device("meta"):
        trainer.build_network_architecture(
            trainer.plans_manager, trainer.configuration_manager, 4, 3
        )


def test_without_checkpointing_a_leftover_replaces_nothing(make_trainer, tmp_path):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_B"], prepared=False, shape=SMALL)
    trainer.disable_checkpointing = True
    file = tmp_path / "checkpoint_latest.pth"
    file.write_bytes(b"whole")
    file.with_name("checkpoint_latest.pth.unfinished").write_bytes(b"half")
    trainer.save_checkpoint(str(file))
    assert file.read_bytes() == b"whole"


def test_checkpoint_replaces_the_older_one_only_when_whole(make_trainer, monkeypatch, tmp_path):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_B"], shape=SMALL)
    trainer.initialize()
    file = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    whole = file.read_bytes()

    def die_half_way(checkpoint, filename):
        Path(filename).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die_half_way)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == whole
    assert not list(tmp_path.glob("*.unfinished"))


def _train_one_epoch_and_check(trainer):
    trainer.num_epochs = 1
    trainer.initialize()
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    trainer.run_training()
    after = dict(trainer.network.named_parameters())
    # nnU-Net gives the coarsest output no weight
    heads_without_weight = (
        {f"decoder.seg_layers.3.{kind}" for kind in ("weight", "bias")}
        if trainer.deep_supervision_weights is None
        else set()
    )
    # the very last iteration's learning rate is not zero, so every parameter with a gradient moves,
    # unless the step is smaller than what its precision resolves
    unchanged = {
        name
        for name, parameter in after.items()
        if torch.equal(before[name], parameter)
        and (parameter.grad is None or not parameter.grad.any())
    }
    assert unchanged <= heads_without_weight
    assert np.isfinite(trainer.logger.get_value("train_losses", step=-1))
    checkpoint = torch.load(f"{trainer.output_folder}/checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == type(trainer).__name__
    # prediction goes by that name alone
    predictor = _predictor(trainer)
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    predicted = predictor.network.state_dict()
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(predicted[name], tensor), name


def _predictor(trainer) -> nnUNetPredictor:
    predictor = nnUNetPredictor(
        tile_step_size=1, use_mirroring=False, device=torch.device("cpu"), verbose=False
    )
    predictor.initialize_from_trained_model_folder(
        trainer.output_folder_base, (trainer.fold,), "checkpoint_final.pth"
    )
    return predictor


def _predict_first_case(trainer, raw: Path, output: Path, *, previous: Path | None = None) -> None:
    images = [sorted(str(path) for path in (raw / "imagesTr").glob("case_0_*"))]
    _predictor(trainer).predict_from_files_sequential(
        images,
        [str(output / "case_0")],
        save_probabilities=False,
        overwrite=True,
        folder_with_segs_from_prev_stage=None if previous is None else str(previous),
    )


def _write_predictions_of_previous_stage(trainer):
    """Stand in for a trained lowres model: its prediction of each case is the truth."""
    source = infer_dataset_class(trainer.preprocessed_dataset_folder)(
        trainer.preprocessed_dataset_folder
    )
    folder = Path(trainer.folder_with_segs_from_previous_stage)
    folder.mkdir(parents=True)
    for case in source.identifiers:
        _, segmentation, _, _ = source.load_case(case)
        source.save_seg(np.clip(segmentation[:][0], 0, None), str(folder / case))


def test_the_demo_takes_arguments_of_nnunet_by_position_or_name():
    arguments = {
        "patch_size": (8, 8, 8),
        "rotation_for_DA": (0.0, 0.0),
        "deep_supervision_scales": [[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]],
        "mirror_axes": (2,),
        "do_dummy_2d_data_aug": False,
    }
    make = nnUNetTrainerS2CA_demo.get_training_transforms
    named = make(**arguments, use_mask_for_norm=[True])
    placed = make(*arguments.values(), use_mask_for_norm=[True])
    case = {"image": torch.ones(1, 8, 8, 8), "segmentation": torch.ones(1, 8, 8, 8)}
    for transform in (named, placed):
        sizes = [target.shape[1:] for target in transform(**case)["segmentation"]]
        assert sizes == [(8, 8, 8), (4, 4, 4)]
