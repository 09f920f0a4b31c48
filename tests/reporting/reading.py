"""Reading a page back: elements with their attributes and text, as a browser would parse them."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

_EMPTY = {"meta", "link", "br", "img", "input", "image", "path", "rect", "line", "use"}


class Page(HTMLParser):
    """All elements of a page as (tag, attributes), and the text of all."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def values(self, *keys: str, value: str = "value", **wanted: str) -> dict[tuple, float]:
        """Numbers of the elements that have all `keys` as `data-…`, by those keys' values."""
        found = {}
        for _, attributes in self.elements:
            names = {name.removeprefix("data-"): text for name, text in attributes.items()}
            if all(names.get(key) == text for key, text in wanted.items()) and all(
                key in names for key in (*keys, value)
            ):
                key = tuple(names[key] for key in keys)
                number = float(names[value])
                # the same number wherever it stands on the page
                assert key not in found or same(found[key], number), key
                found[key] = number
        return found

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))
