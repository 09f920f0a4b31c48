"""NiiVue, which draws volumes in the browser; nilearn ships its script (BSD licence)."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version

from nnunetv2_s2ca.core.errors import UserError

SCRIPT = "niivue.umd.js"


def niivue_script() -> str:
    """NiiVue's script, which defines the global `niivue`.

    Raises:
        UserError: The installed nilearn does not hold it.
    """
    import nilearn

    # searched for, since nilearn has no public name for the place
    folder = resources.files(nilearn).joinpath("_assets")
    places = [folder, folder.joinpath("js")] if folder.is_dir() else []
    for place in places:
        file = place.joinpath(SCRIPT)
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise UserError(
        f"nilearn {version('nilearn')} does not hold NiiVue's {SCRIPT}; install nilearn 0.14 "
        "(pip install 'nilearn>=0.14')"
    )
