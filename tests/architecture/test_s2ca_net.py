"""The whole network: sizes, switches, errors, precision, compilation, parallel training."""

from __future__ import annotations

import os

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from benchmarks.memory import KeptForBackward
from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.architecture.fused import slabs
from tests.architecture.tensor_sizes import LargestTensor

SMALL = {
    "features_per_stage": (8, 8, 16, 16),
    "encoder_branches": ((32, 1), (32, 1)),
    "decoder_branches": ((32, 1), (32, 1)),
}


def small_network(patch_size=(16, 16, 16), **arguments) -> S2CANet:
    torch.manual_seed(0)
    arguments = {"num_classes": 3, **SMALL, **arguments}
    network = S2CANet(2, patch_size=patch_size, **arguments)
    for module in network.modules():
        if hasattr(module, "gamma"):  # else the ConvFormers hardly count
            nn.init.constant_(module.gamma, 0.5)
    return network.eval()


def small_input(patch_size=(16, 16, 16), *, batch=1) -> torch.Tensor:
    return torch.randn(batch, 2, *patch_size, generator=torch.Generator().manual_seed(1))


def loss_of(outputs):
    return sum(output.float().square().mean() for output in outputs)


NO_BRANCHES = {"encoder_branches": (), "decoder_branches": ()}
RELEASED = {"encoder_branches": ((360, 6), (512, 2)), "decoder_branches": ((360, 6), (512, 2))}


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        (21_445_012, {}),
        (17_799_424, {"features_per_stage": (8, 16, 32, 64)}),
        (35_491_900, {"features_per_stage": (32, 64, 128, 256)}),
        (29_726_920, RELEASED),
        (21_309_278, {"deformable_skips": False}),
        (20_154_898, {"deformable_skips": False, "context_aggregation": False}),
        (320_822, {"deformable_skips": False, "context_aggregation": False, **NO_BRANCHES}),
    ],
    ids=["S2CA-Net", "S", "L", "released", "B+LGSM+MCA", "B+LGSM", "B"],
)
def test_number_of_parameters(parameters, arguments):
    network = S2CANet(4, 4, patch_size=(128, 128, 128), **arguments)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_deep_supervision_gives_logits_of_four_levels():
    outputs = small_network()(small_input(batch=2))
    assert [tuple(o.shape) for o in outputs] == [(2, 3, n, n, n) for n in (16, 8, 4, 2)]


def test_switching_deep_supervision_off_gives_the_finest_logits():
    network = small_network()
    finest = network(small_input())[0]
    network.decoder.deep_supervision = False
    torch.testing.assert_close(network(small_input()), finest)


@pytest.mark.parametrize(
    ("patch_size", "strides"),
    [
        ((8, 16, 24), ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))),
        ((4, 32, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))),
        ((6, 16, 16), ((1, 1, 1), (1, 2, 2), (1, 2, 2), (3, 2, 2))),
    ],
)
@pytest.mark.usefixtures("both_sizes")
def test_anisotropic_plans_train(patch_size, strides):
    network = small_network(patch_size, strides=strides).train()
    outputs = network(small_input(patch_size))
    assert tuple(outputs[0].shape[2:]) == patch_size
    loss_of(outputs).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_input_of_another_size_names_both():
    with pytest.raises(ValueError, match=r"\(16, 16, 8\).*\(16, 16, 16\)"):
        small_network()(small_input((16, 16, 8)))
    with pytest.raises(ValueError, match=r"takes \(B, C, H, W, D\)"):
        small_network()(small_input()[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("both_sizes")
def test_half_precision_weights_predict(dtype):
    network, x = small_network(), small_input()
    with torch.inference_mode():
        expected = network(x)[0]
        got = network.to(dtype)(x.to(dtype))[0].float()
    assert (got - expected).std() < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": (16, 16)}, "3 axes"),
        ({"patch_size": (16, 16, 20)}, "divisible"),
        ({"patch_size": (8, 8, 8)}, "single voxel"),
        ({"strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2))}, "4 levels"),
        ({"strides": ((2, 2, 2),) * 4}, "first all ones"),
        ({"features_per_stage": (8, 16, 32)}, "4 levels"),
        ({"patch_size": (16, 24, 16), "swap_axes": True}, "swap_axes"),
        ({"patch_size": (0, 16, 16)}, "1 at least"),
        ({"strides": ((1, 1, 1), (2, 0, 2), (2, 2, 2), (2, 2, 2))}, "1 at least"),
        ({"features_per_stage": (8, 4, 16, 16)}, "12 channels are too few"),
        ({"encoder_branches": ((8, 1),)}, "8 channels are too few"),
        ({"decoder_branches": ((32, 1),) * 5}, "one global branch"),
        ({"num_classes": 0}, "a class at least"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_network(**{"patch_size": (16, 16, 16), **arguments})


@pytest.mark.usefixtures("both_sizes")
def test_a_sample_gets_the_same_alone_and_in_a_batch():
    network, x = small_network(), small_input(batch=3)
    together = network(x)
    alone = network(x[1:2])
    for batch, single in zip(together, alone, strict=True):
        torch.testing.assert_close(batch[1:2], single, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("both_sizes")
def test_inference_mode_gives_the_same_and_leaves_the_input():
    network, x = small_network(), small_input()
    expected, before = network(x)[0].detach(), x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[0], expected)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_memory_format_of_the_input_changes_nothing():
    network, x = small_network(), small_input()
    expected = network(x)[0]
    got = network(x.contiguous(memory_format=torch.channels_last_3d))[0]
    torch.testing.assert_close(got, expected)


@pytest.mark.usefixtures("both_sizes")
def test_a_training_step_changes_every_parameter():
    # a ReLU with several hidden units; a single one may be dead
    network = small_network(features_per_stage=(8, 16, 16, 16)).train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=1e-3)
    loss_of(network(small_input(batch=2))).backward()
    optimizer.step()
    unchanged = [n for n, p in network.named_parameters() if torch.equal(p, before[n])]
    assert unchanged == []
    # instance norm cancels the bias before it, which weight decay alone moves
    without_gradient = [n for n, p in network.named_parameters() if not p.grad.any()]
    assert [n for n in without_gradient if not n.endswith("pointwise.bias")] == []


@pytest.mark.usefixtures("as_large_maps")
def test_global_branches_keep_nothing_for_the_backward_pass():
    network, x = small_network(), small_input()
    deeper = {"encoder_branches": ((32, 5), (32, 5)), "decoder_branches": ((32, 5), (32, 5))}
    assert bytes_kept(small_network(**deeper), x) == bytes_kept(network, x)


def test_small_branches_keep_what_computing_again_would_cost():
    network, x = small_network(), small_input()
    deeper = {"encoder_branches": ((32, 5), (32, 5)), "decoder_branches": ((32, 5), (32, 5))}
    assert bytes_kept(small_network(**deeper), x) > bytes_kept(network, x)


@pytest.mark.parametrize("patch_size", [(16, 16, 16), (8, 16, 24)])
@pytest.mark.parametrize("other_way", ["as_large_maps", "as_other_devices"])
def test_every_way_gives_the_same(other_way, patch_size, request):
    network, x = small_network(patch_size).train(), small_input(patch_size, batch=2)
    results = []
    for way in ("as small maps", other_way):
        if way == other_way:
            request.getfixturevalue(way)
        torch.manual_seed(0)  # of stochastic depth
        outputs = network(x)
        gradients = torch.autograd.grad(loss_of(outputs), list(network.parameters()))
        results.append([*outputs, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def bytes_kept(network: S2CANet, x: torch.Tensor) -> int:
    """Memory that a forward pass keeps for the backward pass, besides weights and input."""
    kept = KeptForBackward([x, *network.parameters()])
    with kept:
        network(x)
    return kept.nbytes


@pytest.mark.usefixtures("both_sizes")
def test_checkpointing_changes_no_gradient():
    x = small_input()
    gradients = []
    for checkpointing in (False, True):
        network = small_network(checkpointing=checkpointing)
        loss_of(network(x)).backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.usefixtures("both_sizes")
def test_checkpointing_counts_a_batch_once():
    network = small_network(checkpointing=True).train()
    loss_of(network(small_input())).backward()
    counters = [b for n, b in network.named_buffers() if n.endswith("num_batches_tracked")]
    assert {int(counter) for counter in counters} == {1}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("both_sizes")
def test_autocast_trains(dtype):
    network, x = small_network(), small_input()
    expected = network(x)[0].detach()
    with torch.autocast("cpu", dtype=dtype):
        outputs = network(x)
    loss_of(outputs).backward()
    assert (outputs[0].float() - expected).std() < 0.1 * expected.std()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.slow
@pytest.mark.usefixtures("both_sizes")
def test_compiles_as_one_graph_to_the_same_numbers():
    network, x = small_network(), small_input()
    outputs = network(x)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss_of(outputs), parameters)
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True)
    compiled_outputs = compiled(x)
    compiled_gradients = torch.autograd.grad(loss_of(compiled_outputs), parameters)
    torch.testing.assert_close(compiled_outputs, outputs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(compiled_gradients, gradients, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("as_other_devices")
def test_compiles_as_one_graph_for_other_devices():
    """Layer by layer, as a GPU's compiler gets it; the layers' gradients are tested one by one."""
    network, x = small_network(), small_input()
    torch.compiler.reset()
    with torch.no_grad():
        outputs = torch.compile(network, fullgraph=True, backend="eager")(x)
        torch.testing.assert_close(outputs, network(x), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("as_large_maps")
def test_no_tensor_is_larger_than_a_map_of_the_finest_level(monkeypatch):
    """Four times the input of 4 channels: the 48 channels of the last block never exist at once."""
    monkeypatch.setattr(slabs, "SLAB_VALUES", 2**14)  # as small beside this patch as usual
    network = S2CANet(4, 3, patch_size=(32, 32, 32), encoder_branches=(), decoder_branches=())
    x = torch.randn(1, 4, 32, 32, 32)
    with LargestTensor() as largest:
        loss_of(network(x)).backward()
    assert largest.numel <= 4 * x.numel(), largest.operation


@pytest.mark.usefixtures("as_large_maps")
def test_a_training_step_keeps_little():
    """Some sixty times the input, at any size."""
    for size in (32, 64):
        network = S2CANet(4, 3, patch_size=(size,) * 3)
        x = torch.randn(1, 4, size, size, size)
        assert bytes_kept(network, x) < 65 * x.nbytes


@pytest.mark.slow
def test_patch_that_resenc_l_plans_for_brats():
    network = S2CANet(4, 3, patch_size=(160, 192, 160), **SMALL, deep_supervision=False).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 4, 160, 192, 160)).shape == (1, 3, 160, 192, 160)


def _train_in_parallel(rank: int, world_size: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{path}/store", rank=rank, world_size=world_size
    )
    network = nn.parallel.DistributedDataParallel(small_network().train())
    for _ in range(2):  # parameters without a gradient would stop the second step
        network.zero_grad()
        loss_of(network(small_input() + rank)).backward()
    if rank == 0:
        torch.save([p.grad for p in network.parameters()], f"{path}/gradients.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_data_parallel_training_finds_all_parameters_used(tmp_path):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    mp.spawn(_train_in_parallel, args=(2, str(tmp_path)), nprocs=2)
    assert all(g.isfinite().all() for g in torch.load(tmp_path / "gradients.pt"))
