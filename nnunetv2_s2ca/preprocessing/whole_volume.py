"""nnU-Net's preprocessor without cropping, and with normalisation over the whole volume."""

from __future__ import annotations

import numpy as np
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

# minimum extent of a volume in a configuration of the plans, in mm on the plans' axes
EXTENT_KEY = "s2ca_extent"


class S2CAPreprocessorWholeVolume(DefaultPreprocessor):
    """Zero mean and unit variance over each whole volume, background included, and no cropping.

    The authors of S2CA-Net trained on such volumes, with a background of −mean / std. nnU-Net crops
    to the brain and pads with zeros, which their weights have not seen.

    A volume smaller than the plans' extent, 240×240×160 mm for these weights, is first padded with
    zeros on both sides, as by TorchIO's `CropOrPad`: BraTS' 155 slices get three below and two
    above. nnU-Net's export removes them. The plans name `NoNormalization`.
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
            data: (C, *axes), from the reader.
            seg: (1, *axes), or None.
            properties: The reader's properties, to which nnU-Net's are added.
            plans_manager: The plans.
            configuration_manager: The configuration, with the extent.
            dataset_json: The dataset's description.
        """
        shape = data.shape[1:]
        extent = configuration_manager.configuration[EXTENT_KEY]
        # the extent's axes are in the plans' order, the data's still in the reader's
        least = [
            round(extent[axis] / spacing)
            for axis, spacing in zip(
                plans_manager.transpose_backward, properties["spacing"], strict=True
            )
        ]
        missing = [max(n - size, 0) for n, size in zip(least, shape, strict=True)]
        # the larger half of an odd number comes first
        padding = [(0, 0), *((n - n // 2, n // 2) for n in missing)]
        data = np.pad(data.astype(np.float32), padding)
        normalization = ZScoreNormalization(use_mask_for_norm=False, intensityproperties={})
        for channel in data:
            normalization.run(channel)  # in place
        if seg is not None:
            seg = np.pad(seg, padding)
        # crops nothing, since no voxel is zero any more
        data, seg, properties = super().run_case_npy(
            data, seg, properties, plans_manager, configuration_manager, dataset_json
        )
        # nnU-Net's export keeps the part of the bounding box within the image
        forward = plans_manager.transpose_forward
        properties["shape_before_cropping"] = tuple(shape[i] for i in forward)
        properties["bbox_used_for_cropping"] = [
            [start - padding[1 + i][0], end - padding[1 + i][0]]
            for i, (start, end) in zip(forward, properties["bbox_used_for_cropping"], strict=True)
        ]
        return data, seg, properties
