"""nnU-Net's preprocessor, but for normalising over the whole volume and cropping nothing."""

from __future__ import annotations

import numpy as np
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

# A configuration of the plan holds the least extent of a volume here, in mm on the plan's axes.
EXTENT_KEY = "s2ca_extent"


class S2CAPreprocessorWholeVolume(DefaultPreprocessor):
    """Zero mean and unit variance over each whole volume, background included, and no cropping.

    So the authors of S2CA-Net showed BraTS to their network: background is −mean / std, not 0, and
    a window beyond the brain is full of it. nnU-Net crops to the brain, and fills up with zeros
    where a window reaches further; for their weights that is another image.

    A volume smaller than the plan's extent, which is 240×240×160 mm for their weights, is filled up
    with zeros on both sides before it is normalised, as TorchIO's `CropOrPad` does for them:
    BraTS' 155 slices get three below and two above. nnU-Net's export cuts them off again. The plan
    names `NoNormalization`, since nothing is left to be done.
    """

    def run_case_npy(
        self,
        data: np.ndarray,
        seg: np.ndarray | None,
        properties: dict,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        dataset_json: dict | str,
    ) -> tuple[np.ndarray, np.ndarray, dict]:
        """Preprocess a case; arguments and results are nnU-Net's.

        Args:
            data: (C, *axes) as the reader gives it.
            seg: (1, *axes), or None.
            properties: what the reader says of the case; gains nnU-Net's entries.
            plans_manager: the plan.
            configuration_manager: the configuration, which holds the extent.
            dataset_json: of the dataset.
        """
        shape = data.shape[1:]
        extent = configuration_manager.configuration[EXTENT_KEY]
        # the extent is in the plan's order of axes, the data still in the reader's
        least = [
            round(extent[axis] / spacing)
            for axis, spacing in zip(
                plans_manager.transpose_backward, properties["spacing"], strict=True
            )
        ]
        missing = [max(n - size, 0) for n, size in zip(least, shape, strict=True)]
        # of an odd number, the larger half comes first
        padding = [(0, 0), *((n - n // 2, n // 2) for n in missing)]
        data = np.pad(data.astype(np.float32), padding)
        normalization = ZScoreNormalization(use_mask_for_norm=False, intensityproperties={})
        for channel in data:
            normalization.run(channel)  # in place
        if seg is not None:
            seg = np.pad(seg, padding)
        # nnU-Net crops to what is not zero, which now is everything
        data, seg, properties = super().run_case_npy(
            data, seg, properties, plans_manager, configuration_manager, dataset_json
        )
        # the way back: nnU-Net's export keeps of the bounding box what lies in the image
        forward = plans_manager.transpose_forward
        properties["shape_before_cropping"] = tuple(shape[i] for i in forward)
        properties["bbox_used_for_cropping"] = [
            [start - padding[1 + i][0], end - padding[1 + i][0]]
            for i, (start, end) in zip(forward, properties["bbox_used_for_cropping"], strict=True)
        ]
        return data, seg, properties
