"""Hostile files and folders for `s2ca import-checkpoint`."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch

from nnunetv2_s2ca.checkpoints.manifest import MANIFEST
from nnunetv2_s2ca.checkpoints.reading import read_checkpoint
from nnunetv2_s2ca.cli import main
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.lock import output_lock
from tests.checkpoints import authors
from tests.robustness.limits import files_of_at_most

INPUT_CONVOLUTION = "backbone.conv0_0.conv1.dwconv.weight"


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """nnU-Net's folders and an empty current folder, all in one that shows what was written."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "here"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    # which nnU-Net reads when it is imported, and not again
    monkeypatch.setattr("nnunetv2.paths.nnUNet_results._path", None, raising=False)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@cache
def weights() -> dict[str, torch.Tensor]:
    return authors.small_state_dict()


@cache
def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/version", "3\n")
        with archive.open("archive/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(1500):
                entry.write(bytes(10**6))
    return file.getvalue()


def write_zip_bomb(file: Path) -> None:
    file.write_bytes(zip_bomb())


def write_many_entries_of_the_same_bytes(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
        archive.filelist *= 1000


def claim_channels(file: Path) -> None:
    first = weights()[INPUT_CONVOLUTION][:1]
    authors.save(file, weights() | {INPUT_CONVOLUTION: first.expand(2**40, *first.shape[1:])})


def claim_channels_without_voxels(file: Path) -> None:
    authors.save(file, weights() | {INPUT_CONVOLUTION: torch.zeros(2**40, 0)})


def claim_channels_of_nothing(file: Path) -> None:
    huge = torch.zeros(2**40, 1, 7, 7, 7, device="meta")
    authors.save(file, weights() | {INPUT_CONVOLUTION: huge})


def flip_a_byte(file: Path) -> None:
    authors.save(file, weights())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def encrypt(file: Path) -> None:
    authors.save(file, weights())
    content = bytearray(file.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # flag of an entry in the directory
    file.write_bytes(content)


def name_with_escapes(file: Path) -> None:
    authors.save(file, weights() | {"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e": torch.ones(1)})


def name_without_end(file: Path) -> None:
    authors.save(file, weights() | {"a" * 100_000: torch.ones(1)})


def keys_without_end(file: Path) -> None:
    torch.save({("a",) * 100_000: 1, "b" * 100_000: 2, "\x1b[31m": 3}, file)


def names_of_another_network(file: Path) -> None:
    torch.save({"\x1b[31m" + "x" * 100_000: torch.ones(1)}, file)


FILES = {
    "zip bomb: data.pkl of 1.5 GB zeros": (write_zip_bomb, r"inflate to 1,500,000,002"),
    "the same megabyte a thousand times": (
        write_many_entries_of_the_same_bytes,
        r"inflate to 1,000,000,000",
    ),
    "input conv claims 2^40 channels": (claim_channels, rf"fewer numbers.*{INPUT_CONVOLUTION}"),
    "2^40 channels of 0 voxels": (claim_channels_without_voxels, "a.pkl"),
    "2^40 channels of no memory": (claim_channels_of_nothing, "a.pkl"),
    "one byte of a tensor flipped": (flip_a_byte, r"checksum of \S+/data/\d+ is wrong"),
    "an encrypted entry": (encrypt, "damaged .*encrypted"),
    "a FIFO as file": (os.mkfifo, "is a pipe or device; expected a file"),
    "a device as file": (lambda file: file.symlink_to("/dev/zero"), "is a pipe or device"),
    "a folder as file": (Path.mkdir, "is a folder; expected a file"),
    "a link to itself": (lambda file: file.symlink_to(file), "a.pkl"),
    "a key of 100 000 characters": (name_without_end, r"unknown: a{100}… \(100,000 characters\)"),
    "a key with terminal escapes": (name_with_escapes, r"unknown: \\x1b\[2J\\x1b\]0;owned\\x07"),
    "keys of a dict without end": (keys_without_end, r"keys a tuple, b{100}….*, \\x1b\[31m"),
    "names of another network without end": (names_of_another_network, r"1 entries, such as \\x1b"),
}


@pytest.mark.parametrize("options", [["--describe"], ["-o", "model"]], ids=["describe", "import"])
@pytest.mark.parametrize(("write", "message"), FILES.values(), ids=FILES)
def test_hostile_file_is_refused_in_few_words(work, capsys, write, message, options):
    write(work / "a.pkl")
    before = sorted(work.rglob("*"))
    assert main(["import-checkpoint", str(work / "a.pkl"), *options]) == 1
    error = capsys.readouterr().err
    assert_matches(error, message)
    assert len(error) < 3000
    assert error.replace("\n", "").isprintable()
    assert sorted(work.rglob("*")) == before


def assert_matches(text: str, pattern: str) -> None:
    with pytest.raises(UserError, match=pattern):
        raise UserError(text)


def test_zip_bomb_is_refused_where_memory_is_short(work):
    write_zip_bomb(work / "a.pkl")
    program = (
        "import resource, sys, psutil; import nnunetv2_s2ca.checkpoints.importing; "
        "most = psutil.Process().memory_info().vms + 10**9; "
        "resource.setrlimit(resource.RLIMIT_AS, (most, most)); "
        "from nnunetv2_s2ca.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["import-checkpoint", str(work / "a.pkl"), "-o", "model"]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 1
    assert "inflate" in run.stderr


def test_a_flipped_byte_anywhere_is_refused_or_changes_nothing(tmp_path):
    state = {"conv.weight": torch.arange(24.0).reshape(4, 6), "conv.bias": torch.ones(4)}
    content = authors.save(tmp_path / "whole.pkl", state).read_bytes()
    file = tmp_path / "flipped.pkl"
    refused = 0
    rng = random.Random(0)
    places = rng.sample(range(len(content)), 200)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            found = read_checkpoint(file).weights
        except UserError:
            refused += 1
        else:
            assert found.keys() == state.keys()
            assert all(torch.equal(found[name], state[name]) for name in state)
    assert refused > 50


DATASETS = [
    "Dataset001_../../../x",
    "Dataset001_/../../../escaped",
    "Dataset001_a/b",
    "Dataset001_a\\b",
    "../escaped",
    "Dataset1_short",
    "-1",
    "1.5",
    "1e3",
    "9" * 5000,
    "",
]


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda name: name[:20])
def test_dataset_that_is_no_datasets_name_writes_nowhere(work, capsys, dataset):
    (work / "nnUNet_results" / "Dataset001_").mkdir()
    file = authors.save(work / "a.pkl", weights())
    before = snapshot(work)
    assert main(["import-checkpoint", str(file), f"--dataset={dataset}"]) == 1
    assert "nnU-Net has no such dataset" in capsys.readouterr().err
    assert snapshot(work) == before


def put_manifest(folder: Path, files: object) -> None:
    (folder / MANIFEST).write_text(json.dumps({"sha256": files}))


FOLDERS = {
    "a dataset.json that names the importer": lambda folder: (folder / "dataset.json").write_text(
        json.dumps({"converted_by": "s2ca import-checkpoint"})
    ),
    "an empty manifest": lambda folder: put_manifest(folder, {}),
    "a manifest that is no object": lambda folder: put_manifest(folder, ["thesis.tex"]),
    "a manifest with another checksum": lambda folder: put_manifest(
        folder, {"thesis.tex": "0" * 64}
    ),
    "a manifest that cannot be read": lambda folder: (folder / MANIFEST).write_text("{" * 100_000),
}


@pytest.mark.parametrize("disguise", FOLDERS.values(), ids=FOLDERS)
def test_overwrite_deletes_no_folder_that_only_looks_imported(work, capsys, disguise):
    file = authors.save(work / "a.pkl", weights())
    folder = work / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years")
    disguise(folder)
    before = snapshot(work)
    assert main(["import-checkpoint", str(file), "-o", str(folder), "--overwrite"]) == 1
    assert "mine" in capsys.readouterr().err
    assert snapshot(work) == before


CHANGES = {
    "a file": lambda model: (model / "notes.txt").write_text("mine"),
    "a file of a fold": lambda model: (model / "fold_0/checkpoint_best.pth").write_text("mine"),
    "an empty folder": lambda model: (model / "predictions").mkdir(),
    "a hidden file": lambda model: (model / ".notes").write_text("mine"),
    "a link": lambda model: (model / "link").symlink_to(model.parent),
    "a pipe": lambda model: os.mkfifo(model / "pipe"),
    "plans that were changed": lambda model: (model / "plans.json").write_text("{}"),
    "weights that were trained": lambda model: (model / "fold_0/checkpoint_final.pth").write_text(
        ""
    ),
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> tuple[Path, Path]:
    """A file and the model that was imported from it."""
    folder = tmp_path_factory.mktemp("imported")
    file = authors.save(folder / "a.pkl", weights())
    assert main(["import-checkpoint", str(file), "-o", str(folder / "model")]) == 0
    return file, folder / "model"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_overwrite_deletes_nothing_that_was_added_or_changed(tmp_path, capsys, imported, change):
    file, original = imported
    model = tmp_path / "model"
    for path in sorted(original.rglob("*")):
        copy = model / path.relative_to(original)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            copy.write_bytes(path.read_bytes())
    change(model)
    before = snapshot(tmp_path)
    assert main(["import-checkpoint", str(file), "-o", str(model), "--overwrite"]) == 1
    assert "was added or changed since the model was imported" in capsys.readouterr().err
    assert snapshot(tmp_path) == before


def test_a_file_in_the_model_that_it_would_replace_is_refused(imported, capsys):
    file, model = imported
    inside = model / "b.pkl"
    inside.symlink_to(file)
    try:
        assert main(["import-checkpoint", str(inside), "-o", str(model.parent), "--overwrite"]) == 1
    finally:
        inside.unlink()
    assert "overlap" in capsys.readouterr().err
    assert file.exists()


def test_two_imports_into_one_folder_do_not_mix(tmp_path, imported, capsys):
    with output_lock(tmp_path / "model"):
        assert main(["import-checkpoint", str(imported[0]), "-o", str(tmp_path / "model")]) == 1
    assert "model is already being written, by process" in capsys.readouterr().err


@pytest.mark.parametrize("size", [2000, 5000, 10**6])
def test_disk_without_room_is_named_and_nothing_is_left(tmp_path, imported, capsys, size):
    file, _ = imported
    with files_of_at_most(size):
        code = main(["import-checkpoint", str(file), "-o", str(tmp_path / "new" / "model")])
    assert code == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "new") in error
    assert "cannot be written" in error
    assert not list(tmp_path.iterdir())


def test_current_folder_that_is_gone_is_named(work, imported, capsys):
    (work / "here").rmdir()
    assert main(["import-checkpoint", str(imported[0]), "-o", "model"]) == 1
    assert "cannot be resolved: No such file or directory" in capsys.readouterr().err


def test_names_that_are_no_utf8_are_names(tmp_path, imported, capsys):
    file = tmp_path / "caf\udce9.pkl"
    file.write_bytes(imported[0].read_bytes())
    model = tmp_path / "mod\udce9l"
    for _ in range(2):
        assert main(["import-checkpoint", str(file), "-o", str(model), "--overwrite"]) == 0
    assert torch.load(model / "fold_0/checkpoint_final.pth", weights_only=False)["network_weights"]
