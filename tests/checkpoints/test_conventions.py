"""The authors' channels against ours."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_s2ca import S2CANet
from nnunetv2_s2ca.checkpoints.conventions import to_nnunet_channels
from nnunetv2_s2ca.checkpoints.network import translate_checkpoint
from nnunetv2_s2ca.checkpoints.reading import AuthorsCheckpoint
from nnunetv2_s2ca.core.errors import UserError
from tests.checkpoints import authors


def _import(state):
    return to_nnunet_channels(
        translate_checkpoint(AuthorsCheckpoint("a.pkl", state, False, (), None))
    )


def test_imported_network_takes_our_channels_and_gives_our_regions():
    state = authors.small_state_dict()
    imported = S2CANet(4, 3, patch_size=(32,) * 3, swap_axes=True, **authors.SMALL).eval()
    imported.load_state_dict(_import(state))
    t1, t1ce, t2, flair = torch.randn(4, 1, 32, 32, 32)
    with torch.no_grad():
        heads = imported(torch.stack([t1, t1ce, t2, flair], dim=1))
        their_heads = authors.network_of(state)(torch.stack([t1, t2, t1ce, flair], dim=1))
    for head, theirs in zip(heads, their_heads, strict=True):
        _background, et, tc, wt = theirs.unbind(1)
        error = (head - torch.stack([wt, tc, et], dim=1)).abs()
        # a voxel now and then takes another side of the deformable convolution's jump
        assert torch.quantile(error, 0.99) < 1e-4 * theirs.std()


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 4), (4, 3), (2, 2)])
def test_network_for_other_channels_is_refused(inputs, outputs):
    with pytest.raises(UserError, match=f"has {inputs} input and {outputs} output channels"):
        _import(authors.small_state_dict(inputs=inputs, outputs=outputs))
