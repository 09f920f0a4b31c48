"""A container's folder, and its program under the conditions of the challenge."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import nnunetv2_s2ca
from nnunetv2_s2ca import cli
from nnunetv2_s2ca.synthetic.brats import write_brats2019
from tests.segmentation.tiny_model import SPACING, provide_trainer, write_model

SHAPE = (32, 38, 30)
INSTRUCTIONS = ("FROM", "ENV", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT")
ANYONE = 12345  # a user who has no entry and owns nothing


@pytest.fixture(scope="module")
def place():
    """A folder that any user may enter, with a model, its container, and two patients."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folder.chmod(0o755)
        trainers = provide_trainer(folder)
        patch.setenv("nnUNet_extTrainer", str(trainers))
        model = write_model(folder / "results")
        nnunetv2_s2ca.write_container(model, folder / "container", edition="brats2019")
        cases = write_brats2019(folder / "all", patients=2, seed=3, shape=SHAPE, spacing=SPACING)
        (folder / "input").mkdir()
        for case in cases:
            case.rename(folder / "input" / case.name)
        yield folder


def _run(place: Path, *, user: bool, scratch: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the program without network, in a home that cannot be written."""
    output = place / "output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "PYTHONPATH": str(place / "container" / "package"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "nnUNet_extTrainer": str(place / "trainers"),
        "nnUNet_compile": "false",
        **({} if scratch else {"TMPDIR": "/nonexistent"}),
    }
    command = [sys.executable, str(place / "container" / "entrypoint.py"), "infer"]
    command += [f"--data_path={place / 'input'}", f"--output_path={output}"]
    if user:
        output.chmod(0o777)
        anyone = f"--reuid={ANYONE} --regid={ANYONE} --clear-groups --inh-caps=-all"
        command = ["unshare", "-n", "setpriv", *anyone.split(), *command]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", cwd="/")


AS_ANYONE = pytest.mark.skipif(
    not hasattr(os, "geteuid")
    or os.geteuid() != 0
    or not all(map(shutil.which, ("setpriv", "unshare")))
    or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0,
    reason="only root can run a program as another user and without network",
)


@AS_ANYONE
def test_every_case_gets_an_output_without_rights_and_network(place):
    run = _run(place, user=True)
    assert run.returncode == 0, run.stdout + run.stderr
    outputs = sorted((place / "output").iterdir())
    cases = sorted(case.name for case in (place / "input").iterdir())
    assert [path.name for path in outputs] == [f"{case}.nii.gz" for case in cases]
    for path, case in zip(outputs, cases, strict=True):
        assert path.stat().st_uid == ANYONE
        image = nib.load(place / "input" / case / f"{case}_t1ce.nii.gz")
        written = nib.load(path)
        np.testing.assert_array_equal(written.affine, image.affine)
        assert set(np.unique(written.dataobj)) <= {0, 1, 2, 4}
        assert np.asarray(written.dataobj).any()


@AS_ANYONE
def test_bad_case_loses_no_other_and_is_exit_code_1(place):
    bad, good = sorted((place / "input").iterdir())
    path = bad / f"{bad.name}_t2.nii.gz"
    former = path.read_bytes()
    path.write_bytes(former[:100])
    try:
        run = _run(place, user=True)
    finally:
        path.write_bytes(former)
    assert run.returncode == 1
    assert [path.name for path in (place / "output").iterdir()] == [f"{good.name}.nii.gz"]
    assert path.name in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def test_program_and_segment_agree(place, tmp_path):
    run = _run(place, user=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (case, *_) = sorted((place / "input").iterdir())
    scans = {name: case / f"{case.name}_{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair")}
    nnunetv2_s2ca.segment(
        scans, tmp_path / "seg.nii.gz", model=place / "container" / "model", edition="brats2019"
    )
    ours, theirs = (
        nib.load(tmp_path / "seg.nii.gz"),
        nib.load(place / "output" / f"{case.name}.nii.gz"),
    )
    np.testing.assert_array_equal(ours.dataobj, theirs.dataobj)


def test_folder_holds_all_that_the_build_needs(place):
    folder = place / "container"
    package = folder / "package" / "nnunetv2_s2ca"
    for name in ("startup.py", "nnunetv2-s2ca.pth", "dataset_conversion/export.py", "py.typed"):
        assert (package / name).is_file()
    assert not list(folder.rglob("__pycache__"))
    checkpoints = list((folder / "model").rglob("checkpoint_final.pth"))
    assert len(checkpoints) == 2
    assert json.loads((folder / "settings.json").read_text())["edition"] == "brats2019"
    names = [line.partition("==")[0] for line in (folder / "requirements.txt").open()]
    assert {"torch", "nnunetv2", "SimpleITK"} <= set(names)
    assert "hd-bet" not in names
    assert all("+" not in line for line in (folder / "requirements.txt").open())


def _instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and arguments, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def test_dockerfile_is_well_formed_and_ends_without_rights(place):
    text = (place / "container" / "Dockerfile").read_text()
    parsed = _instructions(text)
    assert [name for name, _ in parsed] == list(INSTRUCTIONS)
    found = dict(parsed)
    assert re.fullmatch(r"python:3\.\d+-slim", found["FROM"])
    assert found["USER"] == "65534:65534"  # by number: another image knows no names
    program, file = json.loads(found["ENTRYPOINT"])
    assert program == "python"
    assert (place / "container" / Path(file).name).is_file()
    environment = dict(item.split("=", 1) for item in shlex.split(found["ENV"]))
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert "--no-cache-dir" in found["RUN"]
    shell = subprocess.run(["sh", "-n"], input=found["RUN"], text=True, capture_output=True)
    assert shell.returncode == 0, shell.stderr


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_linter_finds_nothing_in_the_dockerfile(place):
    file = str(place / "container" / "Dockerfile")
    run = subprocess.run(["hadolint", file], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_apptainer_definition_installs_and_runs_the_same(place):
    text = (place / "container" / "apptainer.def").read_text()
    dockerfile = (place / "container" / "Dockerfile").read_text()
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.DOTALL | re.MULTILINE))
    assert sections.keys() == {"files", "environment", "post", "runscript"}
    assert "entrypoint.py" in sections["runscript"]
    for line in sections["post"].strip().splitlines():
        assert line.strip() in dockerfile
    for line in sections["environment"].strip().splitlines():
        assert line.strip().removeprefix("export ") in dockerfile


def test_missing_input_is_named(tmp_path, place):
    command = [sys.executable, str(place / "container" / "entrypoint.py")]
    run = subprocess.run(
        [*command, f"--data_path={tmp_path / 'none'}", f"--output_path={tmp_path}"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert f"error: {tmp_path / 'none'} is not a folder" in run.stderr


WRONG = {
    "no model": ({"-m": "none"}, "none"),
    "unknown edition": ({"--edition": "brats2077"}, "unknown edition 'brats2077'; expected"),
    "edition that does not fit": ({"--edition": "brats2024-men-rt"}, "brats2024-men-rt"),
    "missing fold": ({"-f": "4"}, "fold"),
    "missing checkpoint": ({"-chk": "checkpoint_best.pth"}, "checkpoint_best"),
    "no post-processing": ({"--postprocess": None}, "no post-processing of its own"),
    "output exists": ({"-o": "full"}, "full exists; pass --overwrite"),
    "output is a file": ({"-o": "file"}, "file is a file"),
    "output in the model": ({"-o": "results/container"}, "overlap"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_named_and_nothing_is_written(
    changes, message, place, tmp_path, monkeypatch, capsys
):
    model = write_model(tmp_path / "results")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    if changes.get("-o", "").startswith("results"):
        changes = {"-o": str(model / "container")}
    options = {"-m": str(model), "--edition": "brats2019", "-o": "new"} | changes
    words = [word for pair in options.items() for word in pair if word is not None]
    assert cli.main(["container", *words]) == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
