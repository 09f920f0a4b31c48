"""Translate our names of the network's weights to the authors'.

Theirs number the level and the side: `conv2_0` is level 2 of the encoder, `conv2_1` level 2 of the
decoder. Each rule below rewrites one part or one prefix of a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# parts of modules
_PARTS = (
    # residual blocks
    (r"\.unit(\d)\.depthwise\.", r".conv\1.dwconv."),
    (r"\.unit(\d)\.pointwise\.", r".conv\1.pwconv."),
    (r"\.unit(\d)\.act\.", r".conv\1.act."),
    (r"\.shortcut\.0\.", ".identity_mapping.conv."),
    # attention
    (r"\.gate\.0\.", ".W_g.conv."),
    (r"\.gate\.1\.", ".W_g.norm."),
    (r"\.skip\.0\.", ".W_x.conv."),
    (r"\.skip\.1\.", ".W_x.norm."),
    (r"\.psi\.0\.", ".psi.0.conv."),
    (r"\.psi\.1\.", ".psi.0.norm."),
    (r"\.(channel|channel_attention)\.reduce\.", r".\1.fc.0."),
    (r"\.(channel|channel_attention)\.expand\.", r".\1.fc.2."),
    # global branches; our names hold the length of the folded axis
    (r"(\.branches\.\d)\.squeeze\.\d+\.", r"\1.conv1x1_down."),
    (r"(\.branches\.\d)\.expand\.\d+\.", r"\1.conv1x1_up."),
    (r"(\.branches\.\d)\.embed\.", r"\1.poolformer.patch_embed.proj."),
    (r"(\.branches\.\d)\.blocks\.", r"\1.poolformer.network.0."),
    (r"(\.branches\.\d)\.norm\.", r"\1.poolformer.norm."),
    (r"(\.branches\.\d)\.project\.", r"\1.poolformer.conv1x1."),
    (r"(\.branches\.\d)\.fuse\.", r"\1.fuse_conv."),
    (r"\.layer_scale(\d)\.gamma$", r".layer_scale_\1"),
    (r"\.token_mixer\.0\.channel\.", ".token_mixer.att.channel_attention."),
    (r"\.token_mixer\.0\.spatial\.", ".token_mixer.att.spacial_attention."),
    (r"\.token_mixer\.1\.", ".token_mixer.conv."),
    # the axially shifted MLP
    (r"(\.shifted_mlp)\.embed\.", r"\1.aspmlp.patch_embed.proj."),
    (r"(\.shifted_mlp)\.norm\.", r"\1.aspmlp.patch_embed.norm."),
    (r"(\.shifted_mlp)\.blocks\.", r"\1.aspmlp.layers.0.blocks."),
    (r"(\.shifted_mlp)\.project\.", r"\1.aspmlp.conv1x1."),
    (r"(\.shifted_mlp)\.fuse\.", r"\1.fuse_conv."),
    (r"\.axial_shift\.conv_in\.", ".axial_shift.conv1."),
    (r"\.axial_shift\.conv_width_first\.", ".axial_shift.conv2_1."),
    (r"\.axial_shift\.conv_height_first\.", ".axial_shift.conv2_2."),
    (r"\.axial_shift\.conv_out\.", ".axial_shift.conv3."),
    (r"\.axial_shift\.norm_in\.", ".axial_shift.norm1."),
    (r"\.axial_shift\.norm_out\.", ".axial_shift.norm2."),
    # the deformable convolution
    (r"(\.deform_conv)\.reduce\.", r"\1.conv_se."),
    (r"(\.deform_conv)\.offset\.", r"\1.offset_conv_kernel."),
    (r"(\.deform_conv)\.kernel\.", r"\1.conv_kernel."),
    (r"(\.deform_conv)\.spatial_attention\.", r"\1.att."),
)

# whole modules, by prefix
_MODULES = (
    (r"encoder\.stages\.(\d)\.", r"backbone.conv\1_0."),
    (r"encoder\.branches\.(\d)\.", r"backbone.former\1_0."),
    (r"decoder\.stages\.(\d)\.", r"conv\1_1."),
    (r"decoder\.branches\.(\d)\.", r"former\1_1."),
    # theirs hold the level below, which gates, and the level itself
    (r"decoder\.gates\.0\.", "gate1_0."),
    (r"decoder\.gates\.1\.", "gate2_1."),
    (r"decoder\.gates\.2\.", "gate3_2."),
    (r"decoder\.seg_layers\.(\d)\.", r"convds\1."),
    (r"bottleneck\.down\.0\.", "down8Pooling."),
    (r"bottleneck\.down\.1\.", "down4Pooling."),
    (r"bottleneck\.down\.2\.", "down2Pooling."),
    (r"bottleneck\.channel_attention\.", "ca."),
    (r"bottleneck\.spatial_attention\.", "sa."),
    (r"bottleneck\.shifted_mlp\.", "BottomAspmlp_l4."),
    (r"bottleneck\.local\.", "conv_bottom."),
    (r"skips\.down\.", "in_down01."),
    (r"skips\.up\.", "in_up21."),
    (r"skips\.channel_attention\.", "skip_ca."),
    (r"skips\.deform_conv\.", "skip_msadc."),
    (r"skips\.to_skips\.0\.", "out_up10."),
    (r"skips\.to_skips\.1\.", "out_1."),
    (r"skips\.to_skips\.2\.", "out_down12."),
)


def authors_name(name: str) -> str:
    """The authors' name of an entry of our state dict, or of a prefix such as `skips.up.`.

    Names stay distinct if all folded axes of a level have the same length, as in the authors' cubic
    patches.
    """
    for pattern, replacement in _PARTS:
        name = re.sub(pattern, replacement, name)
    for pattern, replacement in _MODULES:
        name = re.sub(f"^{pattern}", replacement, name)
    return name


def unused_names(names: Collection[str]) -> set[str]:
    """The entries of the authors' network that its forward pass never uses.

    These are activations of layers, and a convolution in each residual block's shortcut even where
    the block keeps channels and resolution.

    Args:
        names: All entries in use, under the authors' names.
    """
    unused: set[str] = set()
    for name in names:
        if layer := re.fullmatch(r"(.*\.(?:W_g|W_x|psi\.0))\.conv\.weight", name):
            unused.add(f"{layer[1]}.act.weight")
        elif block := re.fullmatch(r"(.*)\.conv1\.pwconv\.weight", name):
            shortcut = f"{block[1]}.identity_mapping"
            unused |= {f"{shortcut}.act.weight", f"{shortcut}.conv.weight"}
    return unused.difference(names)
