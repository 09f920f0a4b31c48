"""Writing a model's labels as an edition of BraTS defines them."""

from __future__ import annotations

import numpy as np

from nnunetv2_s2ca.brats.editions import Edition
from nnunetv2_s2ca.brats.labels import relabel
from nnunetv2_s2ca.brats.regions import scheme_of_regions
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.segmentation.model import LoadedModel


def check_edition(model: LoadedModel, edition: Edition) -> None:
    """Refuse an edition whose labels cannot say what the model finds.

    Raises:
        UserError: A region of the model is another in the edition, or none.
    """
    theirs = {
        region.name: set(region.labels) for region in scheme_of_regions(edition.regions).regions
    }
    for region in model.regions:
        if theirs.get(region.name) != set(region.labels):
            raise UserError(
                f"{model.name} segments {region.name} as its labels "
                f"{', '.join(map(str, region.labels))}, which {edition.name} does not know so. "
                "Choose the edition that the model was trained on (`edition`)"
            )


def in_edition(labels: np.ndarray, edition: Edition) -> np.ndarray:
    """The labels of a model in the edition's own; uint8, any shape."""
    return relabel(labels, edition.source_labels)[0]
