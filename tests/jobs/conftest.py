"""A stand-in for nnU-Net's two commands, and the folders that they would find."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_s2ca.cli import main

DATASET = "Dataset043_Demo"
CASES = [f"case_{number}" for number in range(5)]

# Leaves the files that nnU-Net leaves, does what its trainer's name says, and keeps a record.
TRAINING = """
import json, multiprocessing, os, sys, time
from pathlib import Path


def run_training_entry():
    arguments = sys.argv[1:]
    dataset, configuration, fold = arguments[:3]
    option = {a: b for a, b in zip(arguments, arguments[1:]) if a in ("-tr", "-p")}
    name = f"{option['-tr']}__{option['-p']}__{configuration}"
    folder = Path(os.environ["nnUNet_results"]) / dataset / name / f"fold_{fold}"
    record = {
        "arguments": arguments,
        "pid": os.getpid(),
        "cores": multiprocessing.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "workers": os.environ.get("nnUNet_n_proc_DA"),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    (folder / "validation").mkdir(parents=True, exist_ok=True)
    if "--val" not in arguments:
        (folder / "checkpoint_latest.pth").touch()
    with open(os.environ["RECORD"], "a") as file:
        print(json.dumps(record), file=file)
    if "Failing" in name and fold == "1":
        sys.exit("the fake training failed")
    if "Long" in name and "--c" not in arguments:
        os.fork()  # a worker, as nnU-Net has them
        time.sleep(3600)
    if "Meeting" in name:  # another fold, which trains at the same time
        end = time.monotonic() + 600
        while len(Path(os.environ["RECORD"]).read_text().splitlines()) < 2:
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)
    (folder / "checkpoint_final.pth").touch()
    (folder / "checkpoint_latest.pth").unlink(missing_ok=True)
    dice = {"Dice": 0.5 + 0.1 * int(fold)}
    case = folder / f"validation/case_{fold}"
    summary = {
        "mean": {"(1, 2, 3)": dice, "(2, 3)": dice, "3": dice},
        "foreground_mean": dice,
        "metric_per_case": [{"prediction_file": f"{case}.nii.gz"}],
    }
    prediction = Path(os.environ["RECORD"]).parent / option["-tr"] / f"{case.name}.nii.gz"
    content = prediction.read_bytes() if prediction.exists() else b""
    case.with_suffix(".nii.gz").write_bytes(content)
    if "--npz" in arguments:
        case.with_suffix(".npz").touch()
    (folder / "validation/summary.json").write_text(json.dumps(summary))
"""

PREDICTION = """
import json, os, shutil, sys, time
from pathlib import Path


def predict_entry_point():
    arguments = sys.argv[1:]
    option = dict(zip(arguments, arguments[1:]))
    with open(os.environ["RECORD"], "a") as file:
        print(json.dumps({"arguments": arguments, "pid": os.getpid()}), file=file)
    Path(option["-o"]).mkdir(parents=True, exist_ok=True)
    cases = sorted(Path(option["-i"]).glob("*_0000.nii.gz"))
    for path in cases[int(option["-part_id"]) :: int(option["-num_parts"])]:
        target = Path(option["-o"]) / path.name.replace("_0000", "")
        probabilities = Path(str(target).replace(".nii.gz", ".npz"))
        wanted = [target, probabilities] if "--save_probabilities" in arguments else [target]
        forgotten = "--forget" in arguments and "case_3" in path.name
        if forgotten or all(file.exists() for file in wanted):
            continue
        if "--wait" in arguments:
            os.fork()  # a worker, as nnU-Net has them
            target.touch()
            time.sleep(3600)
        shutil.copy(os.environ["PREDICTED"], target)
        if "--save_probabilities" in arguments:
            shutil.copy(os.environ["PREDICTED"].replace(".nii.gz", ".npz"), probabilities)
"""


@pytest.fixture
def nnunet(tmp_path, monkeypatch) -> Path:
    """nnU-Net's folders with a preprocessed dataset, and the stand-in first on the path."""
    package = tmp_path / "stand_in/nnunetv2"
    for module, text in (
        ("run/run_training", TRAINING),
        ("inference/predict_from_raw_data", PREDICTION),
    ):
        path = package / f"{module}.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    preprocessed = tmp_path / "preprocessed" / DATASET
    preprocessed.mkdir(parents=True)
    labels = {
        "background": 0,
        "whole tumor": [1, 2, 3],
        "tumor core": [2, 3],
        "enhancing tumor": [3],
    }
    (preprocessed / "dataset.json").write_text(json.dumps({"labels": labels}))
    splits = [{"train": [c for c in CASES if c != case], "val": [case]} for case in CASES]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    predicted = tmp_path / "predicted.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), predicted)
    np.savez(tmp_path / "predicted.npz", probabilities=np.ones((4, 4, 4)))
    monkeypatch.setenv("PREDICTED", str(predicted))
    monkeypatch.setenv("RECORD", str(tmp_path / "record.jsonl"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand_in"), prepend=os.pathsep)
    for name in ("nnUNet_n_proc_DA", "nnUNet_def_n_proc"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def calls(nnunet):
    """The calls of the stand-in so far, as a function."""

    def read() -> list[dict]:
        record = nnunet / "record.jsonl"
        return (
            [json.loads(line) for line in record.read_text().splitlines()]
            if record.exists()
            else []
        )

    return read


@pytest.fixture
def images(nnunet):
    folder = nnunet / "images"
    folder.mkdir()
    for case in range(5):
        for channel in range(4):
            (folder / f"case_{case}_{channel:04d}.nii.gz").touch()
    return folder


def predict(nnunet, *options: str) -> int:
    return main(
        [
            *("predict", "-i", str(nnunet / "images"), "-o", str(nnunet / "out")),
            *("-d", "43", "-c", "3d_fullres", "-f", "0", "1", "-device", "cpu"),
            *options,
        ]
    )
