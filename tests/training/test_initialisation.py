"""What the weights start from in short runs."""

from __future__ import annotations

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.training import TRAINERS
from nnunetv2_s2ca.training.initialisation import start_from_prior

SIZE = (16, 16, 16)
PLAIN_LABELS = {"background": 0, "oedema": 1, "necrosis": 2, "enhancing": 3}
SMALL = {
    "features_per_stage": (16, 32, 64, 128),
    "encoder_branches": ((32, 1), (32, 1)),
    "decoder_branches": ((32, 1), (32, 1)),
}


def s2ca_net(classes: int) -> S2CANet:
    torch.manual_seed(0)
    return S2CANet(4, classes, patch_size=SIZE, deep_supervision=True, **SMALL)


def nnunet(classes: int) -> PlainConvUNet:
    torch.manual_seed(0)
    return PlainConvUNet(
        *(4, 2, (8, 16), torch.nn.Conv3d, 3, (1, 2), 1, classes, 1),
        **{"conv_bias": True, "deep_supervision": True},
        **{"norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU},
    )


def silence_weights(network: torch.nn.Module) -> None:
    """What is left of a head is its bias."""
    for head in network.decoder.seg_layers:
        torch.nn.init.zeros_(head.weight)


@pytest.mark.parametrize("make", [s2ca_net, nnunet])
@pytest.mark.parametrize("prior", [0.001, 0.02, 0.5])
def test_each_region_starts_at_the_prior(make, prior):
    network = make(3)
    start_from_prior(network, prior, regions=True)
    silence_weights(network)
    for logits in network(torch.randn(1, 4, *SIZE)):
        torch.testing.assert_close(logits.sigmoid(), torch.full_like(logits, prior))


def test_labels_start_as_rare_beside_background():
    network = s2ca_net(4)
    start_from_prior(network, 0.02, regions=False)
    silence_weights(network)
    for logits in network(torch.randn(1, 4, *SIZE)):
        probabilities = logits.softmax(1)
        pairs = probabilities[:, 1:] / (probabilities[:, 1:] + probabilities[:, :1])
        torch.testing.assert_close(pairs, torch.full_like(pairs, 0.02))


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_prior_is_a_probability(prior):
    with pytest.raises(ValueError, match="is not between 0 and 1"):
        start_from_prior(s2ca_net(3), prior, regions=True)


@pytest.mark.parametrize(
    ("trainer", "regions", "expected"),
    [
        ("nnUNetTrainerS2CA_short", True, [-3.8918] * 3),
        ("nnUNetTrainerS2CA_short", False, [0.0, *[-3.8918] * 3]),
        ("nnUNetTrainerS2CA_demo", True, [-3.8918] * 3),
    ],
)
def test_the_short_recipe_starts_from_two_percent(trainer, regions, expected, make_trainer):
    labels = None if regions else PLAIN_LABELS
    made = make_trainer(TRAINERS[trainer], small=True, labels=labels)
    made.initialize()
    for head in made.network.decoder.seg_layers:
        torch.testing.assert_close(head.bias.data, torch.tensor(expected), atol=1e-4, rtol=0)


def test_the_papers_recipe_has_no_prior():
    assert TRAINERS["nnUNetTrainerS2CA"].foreground_prior is None
