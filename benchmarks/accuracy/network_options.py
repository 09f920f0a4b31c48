"""What a recipe changes about a network before training: initial weights, biases and norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nnunetv2_s2ca.architecture.attention import AttentionGate
from nnunetv2_s2ca.architecture.global_branch import GlobalBranch, LayerScale2d
from nnunetv2_s2ca.architecture.ms_adc import MultiScaleDeformConv
from nnunetv2_s2ca.architecture.shifted_mlp import ShiftedMLP
from nnunetv2_s2ca.training.initialisation import start_from_prior

LEAKINESS = 1e-2  # nnU-Net's, for its initialisation


def apply_options(network: nn.Module, recipe: Mapping[str, Any]) -> nn.Module:
    """Change a network as `Recipe` says; returns it."""
    if recipe["initialisation"] == "he":
        _initialise_as_nnunet(network)
    elif recipe["initialisation"] == "baseline":
        start_from_baseline(network)
    with torch.no_grad():
        if recipe["layer_scale"] is not None:
            for module in network.modules():
                if isinstance(module, LayerScale2d):
                    module.gamma.fill_(recipe["layer_scale"])
    if recipe["prior"] is not None:
        start_from_prior(network, recipe["prior"], regions=True)
    if recipe["gate_norm"] == "instance":
        for module in network.modules():
            if isinstance(module, AttentionGate):
                _replace_batch_norm(module)
    return network


def _initialise_as_nnunet(network: nn.Module) -> None:
    """He's initialisation of the 3D convolutions, except offsets, which start at zero."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and "offset" not in name:
            nn.init.kaiming_normal_(module.weight, a=LEAKINESS)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _replace_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, nn.InstanceNorm3d(child.num_features, affine=True))
        else:
            _replace_batch_norm(child)


def start_from_baseline(network: nn.Module) -> None:
    """Zero the last layer of each module that adds to the baseline of residual blocks.

    LGSM, MCA and MS-ADC then grow from nothing, not from noise. Goyal et al., *Accurate, Large
    Minibatch SGD*, 2017, section 5.1, start residual blocks this way.
    """
    for module in network.modules():
        for layer in _last_layers(module):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)


def _last_layers(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, GlobalBranch | ShiftedMLP):
        return [module.fuse]
    if isinstance(module, MultiScaleDeformConv):
        return list(module.to_skips)
    return []
