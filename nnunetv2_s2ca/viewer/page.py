"""The viewer's page, with or without the volumes inside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from nnunetv2_s2ca.reporting.page import asset, render
from nnunetv2_s2ca.viewer.cases import ViewedCase
from nnunetv2_s2ca.viewer.layers import COLOURS, DIFFERENCE_COLOURS, DIFFERENCES, describe
from nnunetv2_s2ca.viewer.niivue import niivue_script

PACKAGE = "nnunetv2_s2ca.viewer"


def viewer_html(
    cases: Sequence[ViewedCase], address: Callable[[ViewedCase, str], str], *, title: str
) -> str:
    """The page.

    Args:
        cases: the cases, in the order of the list.
        address: gives each layer of a case its address: relative, or a data URI.
        title: heading.
    """
    script = niivue_script()
    data: dict[str, Any] = {
        "cases": [describe(case, address) for case in cases],
        "colours": COLOURS,
        "differences": DIFFERENCES,
        "differenceColours": DIFFERENCE_COLOURS,
    }
    context = {
        "title": title,
        "cases": data["cases"],
        "data": Markup(_harmless(json.dumps(data))),
        "niivue": Markup(script),
        "niivue_hash": _hash(script),
    }
    return render(
        "viewer.html.jinja",
        context,
        styles=(asset("base.css"), asset("viewer.css", PACKAGE)),
        script=asset("viewer.js", PACKAGE),
        package=PACKAGE,
    )


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _harmless(text: str) -> str:
    """JSON that cannot end the element in which it stands."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
