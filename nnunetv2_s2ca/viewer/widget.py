"""The viewer in a notebook: a widget of ipyniivue."""

from __future__ import annotations

from typing import Any

from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.viewer.cases import ViewedCase

OVERLAY_OPACITY = 0.6
COLOURS = {"truth": "green", "prediction": "red", "uncertainty": "inferno"}
SHOWN = ("prediction", "truth", "uncertainty")


def notebook_widget(case: ViewedCase) -> Any:
    """The widget for one case: its first sequence, with the prediction (or truth) over it.

    Raises:
        UserError: ipyniivue is not installed.
    """
    try:
        from ipyniivue import NiiVue
    except ImportError as error:
        raise UserError(
            "the viewer in notebooks needs ipyniivue: pip install ipyniivue. Without it, "
            "`static` writes a page, and `s2ca view` opens one in the browser"
        ) from error
    widget = NiiVue()
    sequences = dict(case.files.images)
    chosen = "FLAIR" if "FLAIR" in sequences else next(iter(sequences), None)
    volumes = []
    if chosen is not None:
        volumes.append({"path": sequences[chosen], "colormap": "gray"})
    overlay = next((layer for layer in SHOWN if layer in case.paths), None)
    if overlay is not None:
        opacity = OVERLAY_OPACITY if volumes else 1.0
        volumes.append(
            {"path": case.paths[overlay], "colormap": COLOURS[overlay], "opacity": opacity}
        )
    widget.load_volumes(volumes)
    return widget
