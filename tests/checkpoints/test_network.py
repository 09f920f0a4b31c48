"""Finding the network that a state dict of the authors belongs to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.checkpoints.network import translate_checkpoint
from nnunetv2_s2ca.checkpoints.reading import AuthorsCheckpoint
from nnunetv2_s2ca.core.errors import UserError
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
    # channel attention needs sixteen channels, of which the skips have three levels'
    features=st.lists(st.integers(6, 40), min_size=4, max_size=4).map(tuple),
    encoder=st.tuples(pairs, pairs.map(lambda pair: (pair[0], min(pair[1], 2)))),
    decoder=st.tuples(pairs, pairs.map(lambda pair: (pair[0], min(pair[1], 2)))),
    patch_size=st.sampled_from([16, 32, 48, 96]),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 5),
)
@example((16, 16, 16, 16), ((32, 2), (48, 1)), ((32, 1), (48, 1)), 32, 4, 4)
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


def _trouble(state) -> str:
    with pytest.raises(UserError) as caught:
        _translate(state)
    return str(caught.value)


def test_missing_and_left_over_entries_are_listed_by_the_authors_names():
    state = authors.small_state_dict()
    del state["convds2.bias"]
    # the sizes of the network are read from these
    del state["convds0.weight"]
    del state["backbone.conv3_0.conv1.pwconv.weight"]
    state["extra.weight"] = state["conv2_1.conv3.pwconv.weight"] = torch.ones(2)
    message = _trouble(state)
    missing = ("backbone.conv3_0.conv1.pwconv.weight", "convds0.weight", "convds2.bias")
    assert f"\n  3 missing: {', '.join(missing)}\n" in message
    assert message.endswith("\n  2 unknown: extra.weight, conv2_1.conv3.pwconv.weight")


@pytest.mark.parametrize("module", ["former2_1.", "backbone.former2_0.", "backbone.conv0_0."])
def test_whole_module_that_is_missing_is_listed(module):
    state = authors.small_state_dict(decoder_branches=authors.SMALL["encoder_branches"])
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(module)}
    used = [name for name in state if name not in rest and "identity_mapping.act" not in name]
    message = _trouble(rest)
    assert f"\n  {len(used)} missing: " in message
    assert "unknown" not in message
    assert all(name in message for name in used[:50])


@pytest.mark.parametrize(
    "name",
    [
        "decoder.seg_layers.0.bias",  # ours
        "backbone.conv0_0.unit1.depthwise.weight",  # half ours
        "ca.conv_se.weight",  # another module's
        "gate9_0.W_g.conv.weight",
    ],
)
def test_second_name_for_the_same_entry_is_left_over(name):
    message = _trouble({**authors.small_state_dict(), name: torch.ones(4)})
    assert message.endswith(f"\n  1 unknown: {name}")


def test_wrong_shape_is_told_with_both_shapes():
    state = authors.small_state_dict()
    state["sa.conv.weight"] = torch.ones(1, 2, 3, 3, 3)
    # of another patch size than the rest
    state["backbone.former3_0.conv1x1_down.weight"] = torch.ones(64, 64 * 8, 1, 1)
    message = _trouble(state)
    assert "2 of a wrong shape: " in message
    assert "sa.conv.weight [1, 2, 3, 3, 3] instead of [1, 2, 1, 1, 1]" in message
    assert "former3_0.conv1x1_down.weight [64, 512, 1, 1] instead of [64, 256, 1, 1]" in message


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(4, device="meta"),
        torch.ones(4).to_sparse(),
        torch.ones(4).to(torch.float8_e4m3fn),
        torch.ones(4, dtype=torch.complex64),
        torch.ones(4, dtype=torch.bool),
        torch.ones(4, dtype=torch.int32),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tensor.layout}-{tensor.device}",
)
def test_tensor_that_is_no_weight_is_refused(tensor):
    message = _trouble({**authors.small_state_dict(), "convds0.bias": tensor})
    kind = f"convds0.bias ({tensor.dtype}, {tensor.layout}, on {tensor.device})"
    assert message.endswith(f"\n  1 not a weight: {kind}")


def test_count_that_is_no_integer_is_refused():
    name = "gate1_0.W_g.norm.num_batches_tracked"
    message = _trouble({**authors.small_state_dict(), name: torch.tensor(0.0)})
    assert f"1 not a weight: {name}" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_become_single_precision_without_gradient(dtype):
    state = {
        name: tensor.to(dtype).requires_grad_() if tensor.is_floating_point() else tensor
        for name, tensor in authors.small_state_dict().items()
    }
    weights = _translate(state).weights.values()
    assert {tensor.dtype for tensor in weights} == {torch.float32, torch.int64}
    assert not any(tensor.requires_grad for tensor in weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(value):
    state = authors.small_state_dict()
    state["convds0.bias"] = torch.full((4,), value, dtype=torch.float64)
    assert _trouble(state).endswith("\n  1 not finite: convds0.bias")


@pytest.mark.parametrize(
    "state",
    [
        torch.nn.Sequential(torch.nn.Conv3d(4, 8, 3), torch.nn.Linear(2, 3)).state_dict(),
        {"backbone.conv0_0.conv1.dwconv.weight": torch.tensor(1.0)},
        S2CANet(4, 4, patch_size=(32,) * 3, **authors.SMALL).state_dict(),
        {name: tensor.flatten() for name, tensor in authors.small_state_dict().items()},
        {name: torch.tensor(0.0) for name in authors.small_state_dict()},
        {name: torch.zeros(0) for name in authors.small_state_dict()},
    ],
)
def test_state_dict_of_another_network_is_refused(state):
    assert "a.pkl" in _trouble(state)
