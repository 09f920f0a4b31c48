"""Starting from another S2CA-Net's weights, by nnU-Net's own `-pretrained_weights`."""

from __future__ import annotations

import sys

import pytest
import torch
from nnunetv2.run import run_training

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.training import TRAINERS
from nnunetv2_s2ca.training.network_from_plans import PLANS_KEY
from nnunetv2_s2ca.training.pretrained import adapt_weights, use_lenient_loader

TINY = {
    "encoder_branches": ((16, 1), (16, 1)),
    "decoder_branches": ((16, 1), (16, 1)),
    "features_per_stage": (8, 16, 32, 64),
}


def _network(*, patch_size=(32, 32, 32), outputs=3, **arguments):
    return S2CANet(4, outputs, patch_size=patch_size, **{**TINY, **arguments})


def test_weights_of_an_equal_network_are_taken_but_for_the_heads():
    source, target = _network(), _network()
    weights, kept = adapt_weights(source.state_dict(), target)
    assert kept
    assert all(".seg_layers." in name for name in kept)
    for name, tensor in source.state_dict().items():
        if name not in kept:
            assert weights[name] is tensor or torch.equal(weights[name], tensor)


def test_projections_of_another_patch_are_reinitialised():
    weights, kept = adapt_weights(
        _network().state_dict(), target := _network(patch_size=(32, 48, 48))
    )
    own = {name for name in kept if ".seg_layers." not in name}
    # 48 voxels become 12 and 6 at the levels with branches; 32 become 8 and 4, which both have
    assert {name.split(".")[-2] for name in own} == {"12", "6"}
    target.load_state_dict(weights)


def test_other_number_of_outputs_is_fine():
    weights, _ = adapt_weights(_network(outputs=5).state_dict(), target := _network(outputs=2))
    target.load_state_dict(weights)


@pytest.mark.parametrize(
    "arguments",
    [
        {"features_per_stage": (16, 32, 64, 128)},
        {"deformable_skips": False},
        {"encoder_branches": ()},
    ],
)
def test_another_kind_of_network_is_refused_by_name(arguments):
    with pytest.raises(ValueError, match=r"differ in .* entries"):
        adapt_weights(_network(**arguments).state_dict(), _network())


def test_kernels_of_another_stride_start_anew():
    anisotropic = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    target = _network(strides=anisotropic, patch_size=(16, 32, 32))
    weights, kept = adapt_weights(_network().state_dict(), target)
    target.load_state_dict(weights)
    own = {name for name in kept if ".seg_layers." not in name}
    assert "bottleneck.down.0.weight" in own
    assert "skips.to_skips.0.weight" in own
    assert "bottleneck.down.2.weight" not in own  # behind the stride that differs


def test_other_number_of_input_channels_is_refused_by_number():
    source = S2CANet(1, 3, patch_size=(32, 32, 32), **TINY)
    with pytest.raises(ValueError, match="differ: 1 in the pretrained network, 4 in this one"):
        adapt_weights(source.state_dict(), _network())


@pytest.fixture
def loader(monkeypatch):
    """What nnU-Net's command calls once a trainer of ours has been initialised."""
    monkeypatch.setattr(
        run_training, "load_pretrained_weights", run_training.load_pretrained_weights
    )
    use_lenient_loader(print)
    return run_training.load_pretrained_weights


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"net": {}}, "s2ca import-checkpoint"),
        ([1, 2], "not a checkpoint of nnU-Net"),
        (b"no pickle at all", "damaged or not a checkpoint"),
        (b"garbage\n", "damaged or not a checkpoint"),
    ],
    ids=["authors", "something else", "garbage", "text that begins as a pickle could"],
)
def test_file_that_is_no_checkpoint_is_named(loader, tmp_path, content, message):
    file = tmp_path / "other.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=rf"other\.pth: .*{message}"):
        loader(_network(), str(file))


def test_networks_of_other_trainers_keep_nnunets_loader(loader, tmp_path):
    network = torch.nn.Linear(2, 2)
    file = tmp_path / "other.pth"
    more = {"weight": torch.ones(2, 2), "bias": torch.ones(2), "no.such.layer": torch.ones(1)}
    torch.save({"network_weights": more}, file)  # nnU-Net ignores additional entries
    loader(network, str(file))
    assert torch.equal(network.weight, more["weight"])


def test_command_run_as_main_module_gets_the_loader_too(monkeypatch):
    monkeypatch.setattr(
        run_training, "load_pretrained_weights", run_training.load_pretrained_weights
    )
    monkeypatch.setattr(sys.modules["__main__"], "load_pretrained_weights", None, raising=False)
    use_lenient_loader(print)
    assert sys.modules["__main__"].load_pretrained_weights is run_training.load_pretrained_weights


def test_nnunets_command_loads_them_and_says_what_starts_anew(make_trainer, tmp_path, capsys):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_S"], shape=(32, 32, 32))
    source = S2CANet(4, 5, patch_size=(48, 48, 48), features_per_stage=(8, 16, 32, 64))
    trainer.initialize()
    own = trainer.network.state_dict()["encoder.branches.2.squeeze.8.weight"].clone()
    file = tmp_path / "other.pth"
    torch.save({"network_weights": source.state_dict()}, file)
    run_training.maybe_load_checkpoint(trainer, False, False, str(file))
    loaded = trainer.network.state_dict()
    name = "encoder.stages.1.unit1.pointwise.weight"
    assert torch.equal(loaded[name], source.state_dict()[name])
    # 48 voxels are 12 at that level, and 32 are 8
    assert torch.equal(loaded["encoder.branches.2.squeeze.8.weight"], own)
    said = capsys.readouterr().out
    assert "decoder.seg_layers.0.weight" in said
    assert "encoder.branches.2.squeeze.8.weight" in said


@pytest.mark.parametrize("swap_axes", [True, False])
def test_network_that_sees_other_axes_is_refused_with_its_plans(loader, tmp_path, swap_axes):
    source = _network(swap_axes=swap_axes)
    # plans without the key mean a network that does not swap
    arguments = {"swap_axes": True} if swap_axes else {}
    configuration = {"architecture": {}, PLANS_KEY: arguments}
    plans = {"plans_name": "S2CAImportedPlans", "configurations": {"3d_fullres": configuration}}
    init_args = {"plans": plans, "configuration": "3d_fullres"}
    file = tmp_path / "other.pth"
    torch.save({"network_weights": source.state_dict(), "init_args": init_args}, file)
    loader(_network(swap_axes=swap_axes), str(file))
    target = _network(swap_axes=not swap_axes)
    before = target.encoder.stages[0].unit1.depthwise.weight.clone()
    with pytest.raises(ValueError, match=r"two axes .* -p S2CAImportedPlans"):
        loader(target, str(file))
    assert torch.equal(target.encoder.stages[0].unit1.depthwise.weight, before)
