"""Rendering a report as one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnunetv2_s2ca.core.text import printable
from nnunetv2_s2ca.reporting.svg import attributes

PACKAGE, TEMPLATES = "nnunetv2_s2ca.reporting", "templates"
_UNUSUAL = re.compile(r"[^\n\t -~]+")


def render(
    name: str,
    context: Mapping[str, Any],
    *,
    styles: tuple[str, ...],
    script: str,
    package: str = PACKAGE,
) -> str:
    """An HTML page from a template, with its style sheets and script inside.

    Text from files is escaped by jinja2; the script's hash goes into the page's security policy, so
    that no other script runs.

    Args:
        name: template.
        context: what it shows.
        styles: text of the style sheets, in order.
        script: text of the script.
        package: package that holds the template.
    """
    digest = hashlib.sha256(script.encode()).digest()
    html = (
        _environment(package)
        .get_template(name)
        .render(
            **context,
            style=Markup("\n".join(styles)),
            script=Markup(script),
            script_hash=f"sha256-{base64.b64encode(digest).decode()}",
        )
    )
    # control characters are no valid HTML, and some reorder the text around them
    return _UNUSUAL.sub(lambda match: printable(match[0]), html)


def asset(name: str, package: str = PACKAGE) -> str:
    """The text of a file among the templates."""
    return resources.files(package).joinpath(TEMPLATES).joinpath(name).read_text(encoding="utf-8")


def number(value: float | None, digits: int) -> str:
    """A number with `digits` decimal places; a dash for none, ∞ for an infinite one.

    A positive number is never shown as zero.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if 0 < value < 10**-digits / 2:
        return f"< {10**-digits:.{digits}f}"
    return f"{value:.{digits}f}".replace("-", "−")


def data_attributes(data: Mapping[str, object], value: float | None = None) -> Markup:
    """Attributes `data-…`, and `data-value` with a number in full precision."""
    return attributes({**data, "value": value})


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(package, TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {"number": number, "data_attributes": data_attributes}
    return environment
