"""From the names in the authors' state dicts to ours.

Their program numbers a level and a side: `conv2_0` is level 2 of the encoder, `conv2_1` level 2 of
the decoder. Each rule below rewrites one prefix or one part of a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Whole modules, by the prefix of their entries.
_MODULES = (
    (r"backbone\.conv(\d)_0\.", r"encoder.stages.\1."),
    (r"backbone\.former(\d)_0\.", r"encoder.branches.\1."),
    (r"conv(\d)_1\.", r"decoder.stages.\1."),
    (r"former(\d)_1\.", r"decoder.branches.\1."),
    (r"gate\d_(\d)\.", r"decoder.gates.\1."),
    (r"convds(\d)\.", r"decoder.seg_layers.\1."),
    (r"down8Pooling\.", "bottleneck.down.0."),
    (r"down4Pooling\.", "bottleneck.down.1."),
    (r"down2Pooling\.", "bottleneck.down.2."),
    (r"ca\.", "bottleneck.channel_attention."),
    (r"sa\.", "bottleneck.spatial_attention."),
    (r"BottomAspmlp_l4\.", "bottleneck.shifted_mlp."),
    (r"conv_bottom\.", "bottleneck.local."),
    (r"in_down01\.", "skips.down."),
    (r"in_up21\.", "skips.up."),
    (r"skip_ca\.", "skips.channel_attention."),
    (r"skip_msadc\.", "skips.deform_conv."),
    (r"out_up10\.", "skips.to_skips.0."),
    (r"out_1\.", "skips.to_skips.1."),
    (r"out_down12\.", "skips.to_skips.2."),
)

# Parts inside a module, wherever they stand; the first five serve the residual blocks.
_PARTS = (
    (r"\bconv(\d)\.(act|dwconv|pwconv)\.", r"unit\1.\2."),
    (r"\bdwconv\.", "depthwise."),
    (r"\bpwconv\.", "pointwise."),
    (r"\bidentity_mapping\.conv\.", "shortcut.0."),
    (r"\bW_g\.conv\.", "gate.0."),
    (r"\bW_g\.norm\.", "gate.1."),
    (r"\bW_x\.conv\.", "skip.0."),
    (r"\bW_x\.norm\.", "skip.1."),
    (r"\bpsi\.0\.conv\.", "psi.0."),
    (r"\bpsi\.0\.norm\.", "psi.1."),
    (r"\bfc\.0\.", "reduce."),
    (r"\bfc\.2\.", "expand."),
    (r"\bfuse_conv\.", "fuse."),
    (r"\b(?:poolformer|aspmlp)\.patch_embed\.proj\.", "embed."),
    (r"\baspmlp\.patch_embed\.norm\.", "norm."),
    (r"\bpoolformer\.norm\.", "norm."),
    (r"\b(?:poolformer|aspmlp)\.conv1x1\.", "project."),
    (r"\bpoolformer\.network\.0\.", "blocks."),
    (r"\baspmlp\.layers\.0\.blocks\.", "blocks."),
    (r"\blayer_scale_(\d)$", r"layer_scale\1.gamma"),
    (r"\btoken_mixer\.att\.channel_attention\.", "token_mixer.0.channel."),
    (r"\btoken_mixer\.att\.spacial_attention\.", "token_mixer.0.spatial."),
    (r"\btoken_mixer\.conv\.", "token_mixer.1."),
    (r"\baxial_shift\.conv1\.", "axial_shift.conv_in."),
    (r"\baxial_shift\.conv2_1\.", "axial_shift.conv_width_first."),
    (r"\baxial_shift\.conv2_2\.", "axial_shift.conv_height_first."),
    (r"\baxial_shift\.conv3\.", "axial_shift.conv_out."),
    (r"\baxial_shift\.norm1\.", "axial_shift.norm_in."),
    (r"\baxial_shift\.norm2\.", "axial_shift.norm_out."),
    (r"\bconv_se\.", "reduce."),
    (r"\boffset_conv_kernel\.", "offset."),
    (r"\bconv_kernel\.", "kernel."),
    (r"\batt\.conv\.", "spatial_attention.conv."),
)

# Activations of layers that are built with one and never call it.
_UNUSED = re.compile(r"\b(?:W_g|W_x|psi\.0|identity_mapping)\.act\.")


def translate_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of an authors' state dict to ours, and drop what no forward pass uses.

    Entries that no rule knows keep a name that S2CA-Net does not have, so that loading the result
    strictly lists them. No tensor is copied.
    """
    pairs = ((_translate(name, state), tensor) for name, tensor in state.items())
    translated = {name: tensor for name, tensor in pairs if name is not None}
    return {
        name: tensor
        for name, tensor in translated.items()
        if not _belongs_to_plain_shortcut(name, translated)
    }


def _translate(name: str, state: Mapping[str, Tensor]) -> str | None:
    if _UNUSED.search(name):
        return None
    ours = name
    for pattern, replacement in _MODULES:
        ours, matches = re.subn(f"^{pattern}", replacement, name)
        if matches:
            break
    for pattern, replacement in _PARTS:
        ours = re.sub(pattern, replacement, ours)
    # the projections between C·L and C channels, which we keep by the length L of the folded axis
    if projection := re.fullmatch(r"(.*)\bconv1x1_(down|up)\.(weight|bias)", ours):
        branch, way, parameter = projection.groups()
        squeeze = state.get(name[: name.rindex("conv1x1_")] + "conv1x1_down.weight")
        length = "?" if squeeze is None else squeeze.shape[1] // squeeze.shape[0]
        ours = f"{branch}{'squeeze' if way == 'down' else 'expand'}.{length}.{parameter}"
    return ours


def _belongs_to_plain_shortcut(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a shortcut's convolution stands in a block that keeps its channels: never called."""
    block, shortcut, _ = name.rpartition("shortcut.0.")
    pointwise = state.get(f"{block}unit1.pointwise.weight")
    return bool(shortcut) and pointwise is not None and pointwise.shape[0] == pointwise.shape[1]
