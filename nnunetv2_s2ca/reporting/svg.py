"""Plots as SVG that follow the page's colours; every mark carries its raw values.

Colours are classes of the page's style sheet (`s0` … `s7`), so that one file serves light, dark and
print. Text from files goes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, ScalarFormatter

SERIES = 8  # colours in the style sheet
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 46  # pixels around the plotting area

# shapes of 9 pixels, so that series are told apart without their colour
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.5 -3.5h7v7h-7z",
    "M0 -4.6L4.4 3.4H-4.4z",
    "M0 -4.9L4.4 0L0 4.9L-4.4 0z",
    "M0 4.6L4.4 -3.4H-4.4z",
    "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "M-4.5 -3h9v6h-9z",
    "M-3 -4.5h6v9h-6z",
)


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        label: quantity and unit.
        low: value at its start.
        high: value at its end.
        ticks: position → text.
        grid: whether lines cross the plot at the ticks.
    """

    label: str
    low: float
    high: float
    ticks: Mapping[float, str]
    grid: bool = True


def numeric_axis(
    label: str, values: Sequence[float], *, within: tuple[float, float] = (math.inf, -math.inf)
) -> Axis:
    """An axis that shows all finite `values`, and at least the range `within`."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([*finite, within[0]]), max([*finite, within[1]])
    if not math.isfinite(low) or not math.isfinite(high):
        low, high = 0.0, 1.0
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    positions = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    step = positions[1] - positions[0]
    first = positions[0] if low < positions[1] else positions[1]
    last = positions[-1] if high > positions[-2] + step * 1e-9 else positions[-2]
    shown = [float(position) for position in positions if first <= position <= last]
    formatter = ScalarFormatter(useOffset=False)
    formatter.create_dummy_axis()
    formatter.set_locs(shown)  # type: ignore[arg-type]
    ticks = {position: formatter(position).replace("\N{MINUS SIGN}", "−") for position in shown}
    return Axis(label, float(first), float(last), ticks)


def named_axis(label: str, names: Sequence[str]) -> Axis:
    """An axis with names at 0, 1, 2 and so on."""
    return Axis(label, -0.5, len(names) - 0.5, dict(enumerate(names)), grid=False)


@dataclass
class Plot:
    """A plot under construction.

    Attributes:
        x: horizontal axis.
        y: vertical axis.
        alt: what a reader who cannot see it should know.
        width: in pixels.
        height: in pixels.
        parts: the SVG elements so far.
    """

    x: Axis
    y: Axis
    alt: str
    width: int = 560
    height: int = 340
    parts: list[Markup] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point in pixels; beyond the axes, the nearest place on them."""
        across = (min(max(x, self.x.low), self.x.high) - self.x.low) / (self.x.high - self.x.low)
        up = (min(max(y, self.y.low), self.y.high) - self.y.low) / (self.y.high - self.y.low)
        return (
            round(LEFT + across * (self.width - LEFT - RIGHT), 2),
            round(self.height - BOTTOM - up * (self.height - TOP - BOTTOM), 2),
        )

    def dot(
        self, x: float, y: float, series: int, *, title: str, data: Mapping[str, object]
    ) -> None:
        """A mark with a tooltip; `data` become its attributes `data-…`."""
        self.parts.append(
            Markup(
                '<path class="dot s{}" d="{}" transform="translate({} {})"{}>'
                "<title>{}</title></path>"
            ).format(
                series % SERIES, SHAPES[series % SERIES], *self.at(x, y), attributes(data), title
            )
        )

    def line(
        self, points: Sequence[tuple[float, float]], series: int, *, kind: str = "line"
    ) -> None:
        """A polyline; NaN interrupts it."""
        path, pen_down = [], False
        for x, y in points:
            if math.isnan(x) or math.isnan(y):
                pen_down = False
                continue
            path.append("{}{} {}".format("L" if pen_down else "M", *self.at(x, y)))
            pen_down = True
        self.parts.append(
            Markup('<path class="{} s{}" d="{}"/>').format(kind, series % SERIES, "".join(path))
        )

    def rule(self, value: float, *, vertical: bool = False, kind: str = "rule") -> None:
        """A line across the whole plot."""
        ends = (
            ((value, self.y.low), (value, self.y.high))
            if vertical
            else ((self.x.low, value), (self.x.high, value))
        )
        self.line(ends, 0, kind=kind)

    def box(self, x: float, quartiles: Sequence[float], series: int, *, half: float) -> None:
        """A box from the first to the third quartile with a line at the median."""
        low, median, high = quartiles
        left, top = self.at(x - half, high)
        right, bottom = self.at(x + half, low)
        self.parts.append(
            Markup('<rect class="box s{}" x="{}" y="{}" width="{}" height="{}" rx="2"/>').format(
                series % SERIES, left, top, round(right - left, 2), round(bottom - top, 2)
            )
        )
        self.line([(x - half, median), (x + half, median)], series, kind="median")

    def text(self, x: float, y: float, text: str, *, anchor: str = "end") -> None:
        """A remark inside the plot, above the point."""
        across, down = self.at(x, y)
        self.parts.append(
            Markup('<text class="note" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                across, down - 5, anchor, text
            )
        )

    def svg(self) -> Markup:
        """The finished plot."""
        return Markup(
            '<svg class="plot" role="img" aria-label="{}" viewBox="0 0 {} {}" '
            'style="max-width:{}px">{}{}</svg>'
        ).format(
            self.alt, self.width, self.height, self.width, self._frame(), Markup().join(self.parts)
        )

    def _frame(self) -> Markup:
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        found = []
        for value, text in self.y.ticks.items():
            down = self.at(self.x.low, value)[1]
            if self.y.grid:
                found.append(_straight("grid", LEFT, down, right, down))
            found.append(_label("tick", LEFT - 8, down + 4, text, "end"))
        for value, text in self.x.ticks.items():
            across = self.at(value, self.y.low)[0]
            if self.x.grid:
                found.append(_straight("grid", across, TOP, across, bottom))
            found.append(_label("tick", across, bottom + 17, text, "middle"))
        found.append(_straight("axis", LEFT, bottom, right, bottom))
        middle = (LEFT + right) / 2
        found.append(_label("name", middle, self.height - 8, self.x.label, "middle"))
        found.append(
            Markup(
                '<text class="name" transform="translate(14 {}) rotate(-90)" '
                'text-anchor="middle">{}</text>'
            ).format((TOP + bottom) / 2, self.y.label)
        )
        return Markup().join(found)


def legend(names: Sequence[str], *, lines: bool = False) -> Markup:
    """The series' marks with their names."""
    items = [
        Markup(
            '<li><svg class="key" aria-hidden="true" viewBox="-7 -7 14 14">'
            '<path class="{} s{}" d="{}"/></svg>{}</li>'
        ).format(
            "line" if lines else "dot",
            number % SERIES,
            "M-7 0H7" if lines else SHAPES[number % SERIES],
            name,
        )
        for number, name in enumerate(names)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup().join(items))


def attributes(data: Mapping[str, object]) -> Markup:
    """HTML attributes `data-…`; floats in full precision, None left out."""
    return Markup().join(
        Markup(' data-{}="{}"').format(
            name, repr(float(value)) if isinstance(value, float) else value
        )
        for name, value in data.items()
        if value is not None
    )


def _straight(kind: str, *ends: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *ends)


def _label(kind: str, x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, round(x, 2), round(y, 2), anchor, text
    )
