"""The accuracy experiment keeps its books: rows, records, schedules, and one row end to end."""

from __future__ import annotations

import copy
import inspect
import json
import re
from dataclasses import asdict

import numpy as np
import pytest
import torch

from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.experiment import Experiment, Settings
from benchmarks.accuracy.network_options import apply_options
from benchmarks.accuracy.records import Records
from benchmarks.accuracy.rows import BEST_NNUNET, BEST_S2CA, ROWS, Recipe, chosen_rows
from benchmarks.accuracy.running import Runner, mean_dice, trainer_content
from benchmarks.accuracy.schedule import relative_rate
from benchmarks.accuracy.trainers import row_trainer
from benchmarks.accuracy.trainers.row_trainer import ROW_VARIABLE
from benchmarks.accuracy.weight_average import WeightAverage
from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.architecture.attention import AttentionGate
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.synthetic.brats import write_brats2019
from nnunetv2_s2ca.training import TRAINERS

SCORES = {
    "a": {"WT": {"dice": 0.5}, "TC": {"dice": 0.0}},
    "b": {"WT": {"dice": 1.0}, "TC": {"dice": 0.5}},
}


def test_names_are_unique_as_trainers_and_trainers_exist():
    assert len({(row.trainer, row.configuration) for row in ROWS.values()}) == len(ROWS)
    assert {row.recipe.trainer for row in ROWS.values()} <= {"nnUNetTrainer", *TRAINERS}


def test_final_table_has_both_best_rows_and_the_whole_ablation():
    names = {row.name for row in chosen_rows(None, "final")}
    ablation = {"b-best", "b-lgsm-best", "b-lgsm-mca-best", "no-wds-best", "s-best"}
    assert {BEST_S2CA, BEST_NNUNET, "nnunet-default", "s2ca-paper"} | ablation <= names


def test_rows_in_need_of_another_stand_after_it():
    names = list(ROWS)
    for row in ROWS.values():
        for other in (row.start_from, row.seconds_of, row.previous_stage):
            assert other is None or names.index(other) < names.index(row.name)


def test_a_row_changes_one_of_the_same_network_before_it():
    names = list(ROWS)
    changing = [row for row in ROWS.values() if row.changes]
    assert len(changing) > 15
    for row in changing:
        base = ROWS[row.changes]
        assert names.index(base.name) < names.index(row.name)
        assert base.network == row.network
        assert base.recipe != row.recipe


def test_unknown_row_is_named():
    with pytest.raises(UserError, match="no row is called nonsense"):
        chosen_rows(["nonsense"], None)


def test_finished_row_is_found_again_and_changed_one_refused(tmp_path):
    records, row = Records(tmp_path / "rows"), ROWS[BEST_S2CA]
    conditions = {"row": row.as_json(), "steps": 300, "patients": Settings().patients_as_json()}
    assert records.finished(row.name, 0, conditions) is None
    records.write(row.name, 0, {"conditions": conditions, "seconds": 1.5})
    assert records.finished(row.name, 0, conditions)["seconds"] == 1.5
    assert records.finished(row.name, 1, conditions) is None
    with pytest.raises(UserError, match="other steps; delete"):
        records.finished(row.name, 0, conditions | {"steps": 200})


def test_record_older_than_an_option_counts_only_without_the_option(tmp_path):
    records, row = Records(tmp_path / "rows"), ROWS["s2ca-prior"]
    conditions = {"row": row.as_json(), "steps": 300, "patients": Settings().patients_as_json()}
    older = copy.deepcopy(conditions)
    del older["row"]["recipe"]["wide_rate"]
    records.write(row.name, 0, {"conditions": older, "seconds": 1.5})
    assert records.finished(row.name, 0, conditions)["seconds"] == 1.5
    conditions["row"]["recipe"]["wide_rate"] = 0.1
    with pytest.raises(UserError, match="other row; delete"):
        records.finished(row.name, 0, conditions)


def test_recorded_row_runs_no_command(tmp_path):
    said = []
    experiment = Experiment(tmp_path / "work", Settings(), say=said.append)
    records, row = Records(tmp_path / "rows"), ROWS[BEST_S2CA]
    conditions = {"row": row.as_json(), "steps": 300, "patients": Settings().patients_as_json()}
    record = {"conditions": conditions, "seconds": 1.0, "validation": SCORES, "test": SCORES}
    records.write(row.name, 2, record)
    Runner(experiment, records).run(row, 2, test=True)
    assert said == [
        f"{row.name}, seed 2: 1 s, validation WT 0.750 TC 0.250 mean 0.500, "
        "test WT 0.750 TC 0.250 mean 0.500"
    ]
    assert not (tmp_path / "work").exists()


def test_row_of_equal_seconds_needs_the_others_first(tmp_path):
    records = Records(tmp_path / "rows")
    experiment = Experiment(tmp_path / "work", Settings())
    with pytest.raises(UserError, match=f"{BEST_S2CA} with seed 0 is needed first"):
        Runner(experiment, records).run(ROWS["nnunet-same-seconds"], 0, test=False)


def test_cascade_first_trains_the_folds_that_its_first_stage_lacks(tmp_path):
    records, row, said = Records(tmp_path / "rows"), ROWS["lowres"], []
    conditions = {"row": row.as_json(), "steps": 300, "patients": Settings().patients_as_json()}
    record = {"conditions": conditions, "seconds": 1.0, "validation": SCORES, "test": None}
    for seed in (0, 1, 2, 4):
        records.write(row.name, seed, record)
    experiment = Experiment(tmp_path / "work", Settings(), say=said.append)
    # nothing is prepared
    experiment.prepare_cascade = lambda: None
    with pytest.raises(ValueError, match="unpack"):
        Runner(experiment, records).run(ROWS["cascade"], 0, test=False)
    assert said[-1] == "lowres, seed 3: train 300 steps"


def test_patients_of_other_settings_are_refused(tmp_path):
    content = json.dumps(Settings(patients=50).patients_as_json())
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(UserError, match="patients with other settings"):
        Experiment(tmp_path, Settings()).prepare()


def test_real_patients_need_a_trained_model(tmp_path, capsys):
    folders = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    assert main([*folders, "--real", str(tmp_path)]) == 1
    assert f"no trained model of {BEST_S2CA}; run" in capsys.readouterr().err


def test_mean_dice_is_over_patients():
    assert mean_dice(SCORES) == {"WT": 0.75, "TC": 0.25}


@pytest.mark.parametrize("schedule", ["poly", "cosine", "paper"])
def test_rate_rises_to_its_highest_and_falls_to_nothing(schedule):
    rates = [relative_rate(p, schedule=schedule, warmup=0.1) for p in np.linspace(0, 1, 201)[:-1]]
    assert rates[0] < 0.01
    assert max(rates) == pytest.approx(1, abs=0.15)
    assert (np.diff(rates[20:]) <= 1e-12).all()
    assert rates[-1] < 0.02


def test_average_of_weights_follows_its_formula_and_is_exchanged():
    network = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(network.weight, 0.0)
    average = WeightAverage(network, decay=0.5)
    torch.nn.init.constant_(network.weight, 1.0)
    average.update()  # decay min(0.5, 2/11)
    average.exchange()
    assert network.weight.item() == pytest.approx(1 - 2 / 11)
    average.exchange()
    assert network.weight.item() == 1.0


@pytest.mark.parametrize("name", [BEST_S2CA, "nnunet-default"])
def test_nnunet_recognises_the_signature_of_a_rows_trainer(name, monkeypatch):
    row = ROWS[name]
    monkeypatch.setenv(ROW_VARIABLE, json.dumps(trainer_content(row, steps=2)))
    trainer = getattr(row_trainer, row.trainer)
    parameters = inspect.signature(trainer.build_network_architecture).parameters
    assert "plans_manager" in parameters


@pytest.mark.slow
def test_row_of_two_steps_runs_end_to_end_and_once(tmp_path, capsys):
    results = tmp_path / "results"
    folders = ["--work", str(tmp_path / "work"), "--results", str(results)]
    row = ["--steps", "2", "--patients", "5", "--test", "1", "--table", "final"]
    arguments = [*folders, *row, "--rows", BEST_S2CA]
    assert main(arguments) == 0
    record = Records(results / "rows").read(BEST_S2CA, 0)
    assert len(record["curve"]["losses"]) == 2
    assert record["seconds"] > 0
    assert len(record["validation"]) == len(record["test"]) == 1
    capsys.readouterr()
    assert main(arguments) == 0
    assert "train" not in capsys.readouterr().out
    # its model predicts patients of another folder, at their own spacing, and the report shows both
    others = tmp_path / "others"
    write_brats2019(others, patients=1, first=90, shape=(48, 56, 48), spacing=4.0)
    assert main([*folders, "--real", str(others)]) == 0
    assert main([*folders, *row, "--rows", "cascade"]) == 0
    assert main([*folders, "--report"]) == 0
    report = (results / "README.md").read_text()
    assert re.search(r"\| `BraTS19_SYN_090_1` \| [01]\.\d{3} \|", report)
    assert re.search(r"\| the cascade against one stage \|.*\| 1 \| [+−0]", report)
    assert "slices.png" in report


def test_options_change_where_a_network_starts():
    network = S2CANet(4, 3, patch_size=(16, 16, 16), deep_supervision=True)
    recipe = asdict(Recipe("nnUNetTrainerS2CA", layer_scale=0.1, prior=0.02, gate_norm="instance"))
    apply_options(network, recipe | {"initialisation": "he"})
    scales = [p for name, p in network.named_parameters() if name.endswith("gamma")]
    assert scales
    assert all((scale == torch.tensor(0.1)).all() for scale in scales)
    biases = [p for n, p in network.named_parameters() if "seg_layers" in n and n.endswith("bias")]
    assert len(biases) == 4
    torch.testing.assert_close(torch.sigmoid(torch.cat(biases)), torch.full((12,), 0.02))
    gates = [module for module in network.modules() if isinstance(module, AttentionGate)]
    assert gates
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for gate in gates for m in gate.modules())
    with torch.no_grad():
        assert torch.isfinite(network(torch.zeros(2, 4, 16, 16, 16))[0]).all()
