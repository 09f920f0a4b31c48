"""nnU-Net's predictor, which can also follow each fold and each mirroring of one run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor, nn

from nnunetv2_s2ca.segmentation.members import MemberStatistics


class MemberPredictor(nnUNetPredictor):
    """nnU-Net's predictor; with `statistics`, it hands on what each member predicts.

    A member is one fold with one mirroring. nnU-Net sums over both as it goes; here a hook takes
    each output of the network on its way, so that nothing is predicted twice and nnU-Net's own
    result is untouched.
    """

    statistics: MemberStatistics | None = None
    _members: list[Tensor]
    _weights: Tensor

    def count_members(self) -> int:
        """Number of folds times mirrorings."""
        return len(self.list_of_parameters) * len(self._mirrorings())

    def _mirrorings(self) -> list[tuple[int, ...]]:
        """The axes of the network's input that nnU-Net flips, in the order of its calls."""
        axes = (self.allowed_mirroring_axes if self.use_mirroring else None) or ()
        shifted = [axis + 2 for axis in axes]
        counts = range(len(shifted) + 1)
        return [some for count in counts for some in itertools.combinations(shifted, count)]

    @torch.inference_mode()
    def predict_sliding_window_return_logits(self, input_image: Tensor) -> Tensor:
        """Predict with one fold; nnU-Net calls this for each."""
        logits = super().predict_sliding_window_return_logits(input_image)
        if self.statistics is not None:
            _, inside = pad_nd_image(
                input_image[:1], self.configuration_manager.patch_size, "constant", {}, True, None
            )
            inside = (slice(None), *inside[1:])
            for member in self._members:
                self.statistics.add((member / self._weights)[inside])
            self._members = []
        return logits

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: Sequence[Any], do_on_device: bool = True
    ) -> Tensor:
        predict = super()._internal_predict_sliding_window_return_logits
        if self.statistics is None:
            return predict(data, slicers, do_on_device)
        device = self.device if do_on_device else torch.device("cpu")
        mirrorings = self._mirrorings()
        # half precision, as nnU-Net sums
        shape = (self.label_manager.num_segmentation_heads, *data.shape[1:])
        self._members = [torch.zeros(shape, dtype=torch.half, device=device) for _ in mirrorings]
        self._weights = torch.zeros(data.shape[1:], dtype=torch.half, device=device)
        gaussian = compute_gaussian(
            tuple(self.configuration_manager.patch_size),
            sigma_scale=1.0 / 8,
            value_scaling_factor=10,
            device=device,
        )
        for window in slicers:
            self._weights[window[1:]] += gaussian
        calls = itertools.product(slicers, range(len(mirrorings)))

        def record(network: nn.Module, given: Any, output: Tensor) -> None:
            window, number = next(calls)
            flipped = torch.flip(output, mirrorings[number])[0].to(device)
            self._members[number][window] += flipped * gaussian

        hook = self.network.register_forward_hook(record)
        try:
            return predict(data, slicers, do_on_device)
        finally:
            hook.remove()
