"""Reading the authors' files: what is accepted, what is refused, and that nothing runs."""

from __future__ import annotations

import pickle
import random
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from nnunetv2_s2ca.checkpoints.reading import read_checkpoint
from nnunetv2_s2ca.core.errors import UserError
from tests.checkpoints import authors

STATE = {"conv.weight": torch.arange(24.0).reshape(4, 6), "conv.bias": torch.ones(4)}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_dict_with_net_is_read(tmp_path, parallel, zipped):
    file = authors.save(tmp_path / "a.pkl", STATE, parallel=parallel, zipped=zipped)
    checkpoint = read_checkpoint(file)
    assert checkpoint.weights.keys() == STATE.keys()
    assert all(torch.equal(checkpoint.weights[name], STATE[name]) for name in STATE)
    assert checkpoint.parallel == parallel
    assert checkpoint.epoch == 399
    assert checkpoint.keys == ("net", "optimizer", "scheduler", "epoch")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_bare_state_dict_is_read(tmp_path, prefix, zipped):
    state = {f"{prefix}{name}": tensor for name, tensor in STATE.items()}
    torch.save(state, tmp_path / "a.pkl", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(tmp_path / "a.pkl")
    assert checkpoint.weights.keys() == STATE.keys()
    assert checkpoint.epoch is None


def _save_zip(content, path):
    torch.save(content, path)


def _save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _save_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [_save_zip, _save_legacy, _save_pickle])
@pytest.mark.parametrize("place", ["alone", "beside", "within"])
def test_code_in_a_file_does_not_run(tmp_path, save, place):
    trace = tmp_path / "it-ran"
    bomb = authors.Malicious(trace)
    content = {
        "alone": bomb,
        "beside": {"net": STATE, "scheduler": bomb},
        "within": {"net": {**STATE, "bomb": bomb}},
    }[place]
    save(content, tmp_path / "a.pkl")
    message = r"a\.pkl holds more than weights \(\w*io\.open\).* `trust=True`"
    if save is _save_pickle:
        message = r"a\.pkl is not a PyTorch checkpoint"
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "a.pkl")
    assert not trace.exists()


@pytest.mark.parametrize("trust", [False, True])
def test_pickle_that_is_no_checkpoint_does_not_run_even_if_trusted(tmp_path, trust):
    _save_pickle(authors.Malicious(tmp_path / "it-ran"), tmp_path / "a.pkl")
    with pytest.raises(UserError, match="is not a PyTorch checkpoint"):
        read_checkpoint(tmp_path / "a.pkl", trust=trust)
    assert not (tmp_path / "it-ran").exists()


def test_the_trap_of_the_test_above_works(tmp_path):
    _save_zip(authors.Malicious(tmp_path / "it-ran"), tmp_path / "a.pkl")
    with pytest.raises(UserError):  # what it made is no state dict
        read_checkpoint(tmp_path / "a.pkl", trust=True)
    assert (tmp_path / "it-ran").exists()


def test_file_with_more_than_weights_is_read_if_trusted(tmp_path):
    lr = {"lr": np.random.RandomState(0)}
    file = authors.save(tmp_path / "a.pkl", STATE, scheduler=lr)
    with pytest.raises(UserError, match="`trust=True`"):
        read_checkpoint(file)
    checkpoint = read_checkpoint(file, trust=True)
    assert checkpoint.weights.keys() == STATE.keys()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [4, 5])
def test_later_pickle_protocol_is_read_if_trusted(tmp_path, protocol, zipped):
    file = tmp_path / "a.pkl"
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save({"net": STATE}, file, **options)
    with pytest.raises(UserError, match=r"Unsupported operand \d+.* `trust=True`"):
        read_checkpoint(file)
    assert read_checkpoint(file, trust=True).weights.keys() == STATE.keys()


@pytest.mark.parametrize("gone", ["module", "class"])
def test_code_that_a_trusted_file_needs_is_named(tmp_path, monkeypatch, gone):
    module = types.ModuleType("their_models")
    module.Scheduler = type("Scheduler", (), {"__module__": "their_models"})
    monkeypatch.setitem(sys.modules, "their_models", module)
    file = authors.save(tmp_path / "a.pkl", STATE, scheduler=module.Scheduler())
    if gone == "module":
        monkeypatch.delitem(sys.modules, "their_models")
    else:
        del module.Scheduler
    with pytest.raises(UserError, match=r"a\.pkl needs code .*their_models.*; install it"):
        read_checkpoint(file, trust=True)


def test_torchscript_archive_is_refused_without_pytorchs_advice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pkl", "w") as archive:
        for name in ("version", "constants.pkl", "data.pkl"):  # by these, PyTorch takes it for one
            archive.writestr(f"a/{name}", "3")
    with pytest.raises(UserError, match="TorchScript") as caught:
        read_checkpoint(tmp_path / "a.pkl")
    assert "weights_only` set to `False" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_saved_on_a_gpu_are_read_without_one(tmp_path, monkeypatch, zipped):
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:1")
    file = authors.save(tmp_path / "a.pkl", STATE, zipped=zipped)
    assert {t.device.type for t in read_checkpoint(file).weights.values()} == {"cpu"}


def test_state_of_optimizer_and_scheduler_beside_the_weights_needs_no_trust(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter], 1e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    parameter.sum().backward()
    optimizer.step()
    scheduler.step()
    states = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    checkpoint = read_checkpoint(authors.save(tmp_path / "a.pkl", STATE, **states))
    assert checkpoint.weights.keys() == STATE.keys()


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 10, 100, 0.25, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path, kept, zipped, trust):
    file = authors.save(tmp_path / "a.pkl", {"w": torch.randn(3000)}, zipped=zipped)
    content = file.read_bytes()
    file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(UserError, match=r"a\.pkl"):
        read_checkpoint(file, trust=trust)


@pytest.mark.parametrize("seed", range(20))
def test_file_of_another_kind_is_refused(tmp_path, seed):
    file = tmp_path / "a.pkl"
    rng = random.Random(seed)
    beginning = rng.choice([b"", b"PK\x03\x04", b"\x80\x02", b"<!DOCTYPE html>", b"\x1f\x8b"])
    file.write_bytes(beginning + rng.randbytes(rng.randrange(1, 4000)))
    with pytest.raises(UserError, match=r"a\.pkl"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1, 2],
        torch.ones(3),
        {"net": {}},
        {"net": [torch.ones(3)]},
        {"net": {"a": 1.0}},
        {"network_weights": STATE, "trainer_name": "nnUNetTrainer"},
        {0: torch.ones(3)},
    ],
)
def test_checkpoint_without_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pkl")
    with pytest.raises(UserError, match=r"a\.pkl holds .* state dict"):
        read_checkpoint(tmp_path / "a.pkl")


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pkl does not exist"):
        read_checkpoint(tmp_path / "nowhere.pkl")
    with pytest.raises(UserError, match="is a folder; expected a file"):
        read_checkpoint(tmp_path)
