"""`nnUNetv2_plan_experiment -pl S2CAPlanner`: what it plans for which images and cards."""

from __future__ import annotations

import json
from pathlib import Path

import nnunetv2
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_s2ca import UserError, startup
from nnunetv2_s2ca.planning import S2CAPlanner
from nnunetv2_s2ca.training import nnUNetTrainerS2CA
from tests.commands import TWO_STEPS, provide_short_trainer, run
from tests.training import tiny_dataset

BRATS = (138, 170, 138)
CASES = 3


@pytest.fixture
def plan(nnunet_folders):
    """Plan for a dataset of images of a shape and spacing; returns the plans."""

    def make(shape=BRATS, spacing=(1.0, 1.0, 1.0), *, cases=1000, **arguments) -> dict:
        name = "Dataset777_Planned"
        raw = nnunet_folders / "nnUNet_raw" / name
        for sub in ("imagesTr", "labelsTr"):
            (raw / sub).mkdir(parents=True)
        for case in range(CASES):
            (raw / "labelsTr" / f"case_{case}.nii.gz").touch()
            (raw / "imagesTr" / f"case_{case}_0000.nii.gz").touch()
        (raw / "dataset.json").write_text(json.dumps(_dataset(cases)))
        preprocessed = nnunet_folders / "nnUNet_preprocessed" / name
        preprocessed.mkdir()
        (preprocessed / "dataset_fingerprint.json").write_text(
            json.dumps(_fingerprint(shape, spacing))
        )
        startup.register()
        identifier = plan_experiments([777], "S2CAPlanner", **arguments)
        return json.loads((preprocessed / f"{identifier}.json").read_text())

    return make


def _dataset(cases: int) -> dict:
    return {
        "channel_names": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"},
        "labels": {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": 3},
        "regions_class_order": [1, 2, 3],
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }


def _fingerprint(shape, spacing) -> dict:
    return {
        "spacings": [list(spacing)] * CASES,
        "shapes_after_crop": [list(shape)] * CASES,
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(4)},
        "median_relative_size_after_cropping": 0.3,
    }


def _network(plans: dict, configuration: str = "3d_fullres") -> torch.nn.Module:
    manager = PlansManager(plans)
    with torch.device("meta"):
        return nnUNetTrainerS2CA.build_network_architecture(
            manager, manager.get_configuration(configuration), 4, 3
        )


def _shapes(plans: dict) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in _network(plans).state_dict().items()}


def test_nnunet_finds_the_planner_and_its_own_as_before():
    startup.register()
    where = str(Path(nnunetv2.__path__[0], "experiment_planning")), "nnunetv2.experiment_planning"
    find = {
        name: recursive_find_python_class(where[0], name, where[1])
        for name in ("S2CAPlanner", "ExperimentPlanner", "S2CAPlannerNonsense", "Nonsense")
    }
    assert find["S2CAPlanner"] is S2CAPlanner
    assert find["ExperimentPlanner"] is ExperimentPlanner
    assert find["S2CAPlannerNonsense"] is find["Nonsense"] is None


def test_brats_gets_the_papers_patch_in_a_file_of_its_own(plan, nnunet_folders):
    plans = plan()
    assert plans["plans_name"] == "S2CAPlans"
    assert plans["experiment_planner_used"] == "S2CAPlanner"
    assert list(plans["configurations"]) == ["3d_fullres"]
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [128, 128, 128]
    assert configuration["batch_size"] == 2
    assert configuration["data_identifier"] == "S2CAPlans_3d_fullres"
    assert configuration["architecture"]["arch_kwargs"]["strides"] == [
        [1, 1, 1],
        [2, 2, 2],
        [2, 2, 2],
        [2, 2, 2],
    ]
    # the paper's network, with the bias of a region less at each of four heads than for four
    network = _network(plans)
    assert not network.checkpointing
    parameters = sum(weight.numel() for weight in network.parameters())
    assert parameters == 21_445_012 - (16 + 32 + 64 + 128 + 4)


def test_what_nnunet_decides_is_as_nnunet_decides_it(plan, nnunet_folders, monkeypatch):
    ours = plan()
    # the patch of its U-Net, which takes long, is of no interest here
    monkeypatch.setattr(ExperimentPlanner, "static_estimate_VRAM_usage", lambda *_: 1)
    plan_experiments([777])
    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset777_Planned"
    theirs = json.loads((folder / "nnUNetPlans.json").read_text())
    ours_3d, theirs_3d = (side["configurations"]["3d_fullres"] for side in (ours, theirs))
    assert ours_3d.keys() == theirs_3d.keys()
    differ = {key for key in ours_3d if ours_3d[key] != theirs_3d[key]}
    assert differ <= {"data_identifier", "patch_size", "batch_size", "architecture"}
    del ours["configurations"], theirs["configurations"]
    assert {key for key in ours if ours[key] != theirs[key]} == {
        "plans_name",
        "experiment_planner_used",
    }


def test_the_plans_name_can_be_chosen(plan):
    assert plan(overwrite_plans_name="Mine")["plans_name"] == "Mine"


def test_weights_fit_from_one_edition_to_the_next(plan, nnunet_folders, tmp_path):
    larger = _shapes(plan())
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        (nnunet_folders / name / "Dataset777_Planned").rename(tmp_path / f"{name}_first")
    assert _shapes(plan((122, 160, 117))) == larger


@pytest.mark.parametrize("memory", [5, 7, 9])
def test_with_less_memory_parts_of_the_network_are_computed_twice(plan, memory):
    plans = plan(gpu_memory_target_in_gb=memory)
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [128, 128, 128]
    assert configuration["batch_size"] == 2
    assert _network(plans).checkpointing


@pytest.mark.parametrize("memory", [1.7, 2.5, 4])
def test_with_even_less_memory_cubes_are_smaller(plan, memory):
    plans = plan(gpu_memory_target_in_gb=memory)
    configuration = plans["configurations"]["3d_fullres"]
    (length,) = set(configuration["patch_size"])
    assert 32 <= length < 128
    _network(plans)


def test_more_memory_makes_larger_batches_of_the_same_patch(plan):
    configuration = plan(gpu_memory_target_in_gb=80)["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [128, 128, 128]
    assert configuration["batch_size"] > 8


def test_a_batch_covers_no_more_of_the_dataset_than_nnunet_allows(plan):
    # 5 % of 60 cases of 1.5 patches each
    configuration = plan(cases=60, gpu_memory_target_in_gb=80)["configurations"]["3d_fullres"]
    assert configuration["batch_size"] == round(60 * 0.05 * 138 * 170 * 138 / 128**3)


def test_too_little_memory_is_refused_with_what_is_needed(plan, nnunet_folders):
    with pytest.raises(UserError, match=r"-gpu_memory_target 0\.5 is too little: S2CA-Net needs"):
        plan(gpu_memory_target_in_gb=0.5)
    assert not list(nnunet_folders.rglob("S2CAPlans.json"))


def test_flat_images_are_refused_before_anything_is_written(plan, nnunet_folders):
    with pytest.raises(UserError, match="Dataset777_Planned are 2D"):
        plan((1, 300, 300), (999.0, 1.0, 1.0))
    assert not list(nnunet_folders.rglob("S2CAPlans.json"))


def test_large_images_get_nnunets_low_resolution_and_cascade(plan):
    plans = plan((400, 400, 400))
    assert set(plans["configurations"]) == {"3d_fullres", "3d_lowres", "3d_cascade_fullres"}
    for name in ("3d_fullres", "3d_lowres"):
        assert plans["configurations"][name]["patch_size"] == [128, 128, 128]
    _network(plans, "3d_cascade_fullres")


def test_small_and_anisotropic_images_get_patches_that_the_network_takes(plan):
    plans = plan((24, 320, 256), (6.0, 0.5, 0.7))
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["patch_size"][1:] == [128, 128]
    assert configuration["patch_size"][0] < 32
    assert configuration["batch_size"] > 2
    _network(plans)


@pytest.mark.slow
def test_nnunet_preprocesses_trains_and_predicts_with_the_plans(nnunet_folders, monkeypatch):
    name = tiny_dataset.make_dataset(nnunet_folders, shape=(16, 16, 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "1")  # planning takes this for its number of threads
        run("nnUNetv2_plan_experiment", "-d", 777, "-pl", "S2CAPlanner")
    preprocess([777], "S2CAPlans", ["3d_fullres"], [1], show_progress_bar=False)
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / name
    assert len(list((preprocessed / "S2CAPlans_3d_fullres").glob("*.pkl"))) == tiny_dataset.CASES

    provide_short_trainer(nnunet_folders, monkeypatch, base="nnUNetTrainerS2CA_demo")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # no workers
    monkeypatch.setenv("nnUNet_compile", "f")
    run_training("777", "3d_fullres", 0, TWO_STEPS, "S2CAPlans", device=torch.device("cpu"))
    model = nnunet_folders / "nnUNet_results" / name / f"{TWO_STEPS}__S2CAPlans__3d_fullres"
    assert len(list((model / "fold_0" / "validation").glob("*.nii.gz"))) == 1

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    assert predictor.network.patch_size == (16, 16, 16)
    images = sorted((nnunet_folders / "nnUNet_raw" / name / "imagesTr").glob("case_0_*"))
    predicted = nnunet_folders / "case_0.nii.gz"
    predictor.predict_from_files_sequential([[*map(str, images)]], [str(predicted)[:-7]])
    assert predicted.is_file()
