"""Finding the network that a state dict of the authors belongs to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunetv2_s2ca.checkpoints.network import translate_checkpoint
from nnunetv2_s2ca.checkpoints.reading import AuthorsCheckpoint
from nnunetv2_s2ca.errors import UserError
from tests import golden
from tests.checkpoints import authors


def _translate(state):
    return translate_checkpoint(AuthorsCheckpoint("a.pkl", state, False, (), None))


@pytest.mark.parametrize(
    ("name", "level2_encoder", "level2_decoder", "parameters"),
    [
        ("s2ca_net", (256, 6), (256, 4), 21_445_012),
        ("s2ca_net_release", (360, 6), (360, 6), 29_726_920),
    ],
)
def test_authors_networks_are_recognised(name, level2_encoder, level2_decoder, parameters):
    translated = _translate(golden.state_dict(name))
    architecture = translated.architecture
    assert architecture.input_channels == 4
    assert architecture.num_classes == 4
    assert architecture.patch_size == (128, 128, 128)
    assert architecture.features_per_stage == (16, 32, 64, 128)
    assert architecture.encoder_branches == (level2_encoder, (512, 2))
    assert architecture.decoder_branches == (level2_decoder, (512, 2))
    assert architecture.network_arguments()["swap_axes"]
    trained = set(dict(architecture.build().named_parameters()))
    assert sum(translated.weights[n].numel() for n in trained) == parameters


pairs = st.tuples(st.integers(1, 4).map(lambda n: 16 * n), st.integers(1, 3))


@settings(max_examples=15, deadline=None)
@given(
    features=st.lists(st.integers(5, 40), min_size=4, max_size=4, unique=True).map(tuple),
    encoder=st.tuples(pairs, pairs.map(lambda pair: (pair[0], min(pair[1], 2)))),
    decoder=st.tuples(pairs, pairs.map(lambda pair: (pair[0], min(pair[1], 2)))),
    patch_size=st.sampled_from([16, 32, 48, 96]),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 5),
)
def test_every_size_is_found_from_shapes(features, encoder, decoder, patch_size, inputs, outputs):
    state = authors.small_state_dict(
        patch_size=patch_size,
        inputs=inputs,
        outputs=outputs,
        features_per_stage=features,
        encoder_branches=encoder,
        decoder_branches=decoder,
    )
    architecture = _translate(state).architecture
    assert architecture.features_per_stage == features
    assert architecture.encoder_branches == encoder
    assert architecture.decoder_branches == decoder
    assert architecture.patch_size == (patch_size,) * 3
    assert (architecture.input_channels, architecture.num_classes) == (inputs, outputs)


def test_missing_and_left_over_entries_are_listed():
    state = authors.small_state_dict()
    del state["ca.fc.0.weight"]
    del state["convds2.bias"]
    state["extra.weight"] = torch.ones(2)
    state["conv2_1.conv3.pwconv.weight"] = torch.ones(2)
    with pytest.raises(UserError) as caught:
        _translate(state)
    message = str(caught.value)
    assert "2 missing: " in message
    assert "bottleneck.channel_attention.reduce.weight" in message
    assert "decoder.seg_layers.2.bias" in message
    assert "2 left over: " in message
    # under the names that the file has
    assert "extra.weight" in message
    assert "conv2_1.conv3.pwconv.weight" in message


def test_wrong_shape_is_told_with_both_shapes():
    state = authors.small_state_dict()
    state["sa.conv.weight"] = torch.ones(1, 2, 3, 3, 3)
    with pytest.raises(UserError, match=r"sa\.conv\.weight \[1, 2, 3, 3, 3\] instead of \[1, 2, 1"):
        _translate(state)


def test_projections_of_another_patch_size_than_the_rest_are_refused():
    state = authors.small_state_dict()
    name = "backbone.former3_0.conv1x1_down.weight"
    state[name] = torch.ones(64, 64 * 8, 1, 1)
    with pytest.raises(UserError, match=r"missing.*\n.*left over: .*backbone\.former3_0"):
        _translate(state)


def test_weights_that_are_not_finite_are_refused():
    state = authors.small_state_dict()
    state["convds0.bias"][1] = float("nan")
    with pytest.raises(UserError, match=r"1 not finite: convds0\.bias"):
        _translate(state)


@pytest.mark.parametrize(
    "state",
    [
        torch.nn.Sequential(torch.nn.Conv3d(4, 8, 3), torch.nn.Linear(2, 3)).state_dict(),
        {"backbone.conv0_0.conv1.dwconv.weight": torch.tensor(1.0)},
        {
            name: tensor
            for name, tensor in authors.small_state_dict().items()
            if "former2_1" not in name
        },
        {name: tensor.flatten() for name, tensor in authors.small_state_dict().items()},
        {name: torch.tensor(0.0) for name in authors.small_state_dict()},
        {name: torch.zeros(0) for name in authors.small_state_dict()},
    ],
)
def test_state_dict_of_another_network_is_refused(state):
    with pytest.raises(UserError, match=r"a\.pkl"):
        _translate(state)
