"""Starting from another S2CA-Net's weights, by nnU-Net's own `-pretrained_weights`."""

from __future__ import annotations

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


def test_projections_of_another_patch_start_anew():
    weights, kept = adapt_weights(
        _network().state_dict(), target := _network(patch_size=(32, 48, 48))
    )
    anew = {name for name in kept if ".seg_layers." not in name}
    # 48 voxels become 12 and 6 at the levels with branches; 32 become 8 and 4, which both have
    assert {name.split(".")[-2] for name in anew} == {"12", "6"}
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
    with pytest.raises(ValueError, match="another kind of network"):
        adapt_weights(_network(**arguments).state_dict(), _network())


def test_nnunets_command_loads_them_and_says_what_starts_anew(make_trainer, tmp_path, capsys):
    trainer = make_trainer(TRAINERS["nnUNetTrainerS2CA_S"], shape=(32, 32, 32))
    source = S2CANet(4, 5, patch_size=(64, 32, 32), features_per_stage=(8, 16, 32, 64))
    file = tmp_path / "other.pth"
    torch.save({"network_weights": source.state_dict()}, file)
    run_training.maybe_load_checkpoint(trainer, False, False, str(file))
    loaded = trainer.network.state_dict()
    name = "encoder.stages.1.unit1.pointwise.weight"
    assert torch.equal(loaded[name], source.state_dict()[name])
    shared = "encoder.branches.2.squeeze.8.weight"
    assert torch.equal(loaded[shared], source.state_dict()[shared])
    assert "decoder.seg_layers.0.weight" in capsys.readouterr().out


@pytest.mark.parametrize("swap_axes", [True, False])
def test_network_that_sees_other_axes_is_refused_with_its_plans(monkeypatch, tmp_path, swap_axes):
    source = _network(swap_axes=swap_axes)
    # plans that say nothing of it stand for a network that does not
    arguments = {"swap_axes": True} if swap_axes else {}
    configuration = {"architecture": {}, PLANS_KEY: arguments}
    plans = {"plans_name": "S2CAImportedPlans", "configurations": {"3d_fullres": configuration}}
    init_args = {"plans": plans, "configuration": "3d_fullres"}
    file = tmp_path / "other.pth"
    torch.save({"network_weights": source.state_dict(), "init_args": init_args}, file)
    monkeypatch.setattr(run_training, "load_pretrained_weights", None)  # put back afterwards
    use_lenient_loader(print)
    run_training.load_pretrained_weights(_network(swap_axes=swap_axes), str(file))
    target = _network(swap_axes=not swap_axes)
    before = target.encoder.stages[0].unit1.depthwise.weight.clone()
    with pytest.raises(ValueError, match=r"two axes .* -p S2CAImportedPlans"):
        run_training.load_pretrained_weights(target, str(file))
    assert torch.equal(target.encoder.stages[0].unit1.depthwise.weight, before)
