"""Learning rates by the width of layers."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.training import TRAINERS
from nnunetv2_s2ca.training.parameter_groups import wide_layers_apart


def network(**arguments) -> S2CANet:
    with torch.device("meta"):
        return S2CANet(4, 3, patch_size=(64, 64, 64), deep_supervision=True, **arguments)


def test_every_weight_is_in_one_group():
    net = network()
    groups = wide_layers_apart(net, 3e-3, factor=0.1)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in net.parameters())
    assert [group["lr"] for group in groups] == pytest.approx([3e-3, 3e-4])


def test_wide_layers_are_those_in_2d_and_the_fusions_behind_them():
    net = network()
    _, wide = wide_layers_apart(net, 3e-3, factor=0.1)
    names = {id(p): name for name, p in net.named_parameters()}
    found = {names[id(p)] for p in wide["params"]}
    expected = {
        name
        for name, _ in net.named_parameters()
        if ".branches." in name or name.startswith("bottleneck.shifted_mlp.")
    }
    assert found == expected


def test_a_network_without_such_layers_has_an_empty_group():
    bare = {"encoder_branches": (), "decoder_branches": ()}
    net = network(**bare, context_aggregation=False, deformable_skips=False)
    narrow, wide = wide_layers_apart(net, 1e-3, factor=0.1)
    assert len(narrow["params"]) == len(list(net.parameters()))
    assert wide["params"] == []
    torch.optim.Adam([narrow, wide])


@pytest.mark.parametrize(
    ("name", "factors"), [("nnUNetTrainerS2CA", [1.0]), ("nnUNetTrainerS2CA_short", [1.0, 0.1])]
)
def test_the_trainers_rates_keep_their_proportion(name, factors, make_trainer):
    trainer = make_trainer(TRAINERS[name], small=True)
    trainer.initialize()
    for epoch in (0.0, 0.5, 1.0, 4.0):
        trainer.lr_scheduler.step(epoch)
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        assert len(rates) == len(factors)
        first = rates[0]
        assert rates == pytest.approx([first * factor for factor in factors], abs=1e-6)
