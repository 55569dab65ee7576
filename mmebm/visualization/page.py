"""What the pages share: one file each, with its style, charts and pictures inside, no network."""

import base64
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from ..utils.whole_files import WholeFilesBackend

SMALL = 64  # pixels; images up to this side are kept lossless and enlarged without blur
MOST_POINTS = 200  # of a curve
MARKED = 30  # a curve of at most so many points shows each of them
COLOURS = 8
DASHES = ('', '7 3', '2 2', '9 3 2 3')  # so that curves differ without their colours too
WIDTH, HEIGHT = 360, 200  # of a chart, in units that are about a pixel on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 8, 34


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('mmebm', 'visualization/templates'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= dict(line_chart=line_chart, histogram=histogram, legend=legend)
    return environment


def render(template: str, **content: object) -> str:
    """Fill a template of this package.

    Args:
        template: a file in ``templates/``.
        **content: what it names. Text is escaped, ``Markup`` is not.

    Returns:
        HTML. What UTF-8 cannot hold, as file names may, is shown as ``\\udcXX``.
    """
    page = _environment().get_template(template).render(**content)
    return page.encode('utf-8', errors='backslashreplace').decode()


def write_page(path: str | Path, page: str) -> None:
    """Write a page so that a reader sees the old one or the new one, never half of it.

    Raises:
        OSError: it cannot be written.
    """
    WholeFilesBackend().put(page.encode(), path)


# Pictures ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A picture for a page.

    Attributes:
        pixels: ``(H, W, 3)`` uint8 RGB.
        alt: what it shows, in words.
        title: in bold below it.
        lines: figures below the title.
    """

    pixels: np.ndarray
    alt: str
    title: str = ''
    lines: Sequence[str] = ()

    @property
    def small(self) -> bool:
        return max(self.pixels.shape[:2]) <= SMALL

    @property
    def uri(self) -> str:
        return data_uri(self.pixels)


def data_uri(image: np.ndarray, most: int = 224) -> str:
    """An image inside a URI: a PNG if it is small, else a JPEG.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        most: pixels of its longer side, to which a larger one is reduced.
    """
    picture, file = Image.fromarray(image), io.BytesIO()
    kind = 'PNG' if max(picture.size) <= SMALL else 'JPEG'
    picture.thumbnail((most, most), Image.Resampling.LANCZOS)
    picture.save(file, format=kind, quality=85)
    return f'data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}'


# Charts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Points from left to right; those that are not finite are left out.

    Attributes:
        name: for the legend.
        x, y: as many of each.
        error: half the length of the bar at each point, if any.
        style: a number for its colour and dashes; its place in the chart if None.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None
    style: int | None = None


@dataclass(frozen=True)
class Chart:
    """Curves with the same axes.

    Attributes:
        title: above it.
        x_label: below it.
        curves: those without a finite point are left out.
        unit: of y, behind each figure.
        note: a line below the title.
        last: whether the legend gives each curve's last value.
        level: a horizontal line, with its name.
        from_zero: whether the horizontal axis begins at 0.
    """

    title: str
    x_label: str
    curves: Sequence[Curve]
    unit: str = ''
    note: str = ''
    last: bool = True
    level: tuple[str, float] | None = None
    from_zero: bool = False

    @property
    def shown(self) -> list[Curve]:
        return [c for c in self.curves if np.isfinite(np.asarray(c.y, float)).any()]


def thin(x: Sequence[float], y: Sequence[float], most: int = MOST_POINTS):
    """At most ``most`` points: the finite ones, or means of as many neighbouring groups of them.

    Returns:
        x and y, arrays of the same length.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) > most:
        x, y = (np.array([part.mean() for part in np.array_split(v, most)]) for v in (x, y))
    return x, y


def line_chart(chart: Chart) -> Markup:
    """A chart as SVG; nothing for a chart without a finite point."""
    points = [thin(curve.x, curve.y) for curve in chart.shown]
    if not points:
        return Markup('')
    xs, ys = (np.concatenate(parts) for parts in zip(*points, strict=True))
    bars = [
        np.asarray(c.y) + sign * np.asarray(c.error)
        for c in chart.shown
        if c.error is not None
        for sign in (-1, 1)
    ]
    level = [] if chart.level is None else [np.array([chart.level[1]])]
    left = 0.0 if chart.from_zero else xs.min()
    across = _Axis(left, xs.max(), LEFT, WIDTH - RIGHT, integer=bool((xs == xs.round()).all()))
    heights = np.concatenate([ys, *bars, *level])
    up = _Axis(heights.min(), heights.max(), HEIGHT - BOTTOM, TOP)
    summary = '; '.join(f'{c.name}: {number(_last(c))}{chart.unit}' for c in chart.shown)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{chart.title} over {chart.x_label}, last {summary}")}">'
    ]
    parts += _frame(across, up, chart.x_label)
    if chart.level is not None:
        name, value = chart.level
        y = up(value)
        text = escape(f'{name} {number(value)}{chart.unit}')
        parts.append(
            f'<line class="curve level" stroke-dasharray="3 3" x1="{LEFT}" '
            f'x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/><text x="{LEFT + 4}" '
            f'y="{y - 4:.1f}">{text}</text>'
        )
    for n, (curve, (x, y)) in enumerate(zip(chart.shown, points, strict=True)):
        n = n if curve.style is None else curve.style
        path = ' '.join(f'{across(a):.1f},{up(b):.1f}' for a, b in zip(x, y, strict=True))
        parts.append(
            f'<polyline class="curve s{n % COLOURS}" points="{path}"{_dash(n)}>'
            f'<title>{escape(curve.name)}</title></polyline>'
        )
        if curve.error is not None:
            for a, b, e in zip(curve.x, curve.y, curve.error, strict=True):
                parts.append(
                    f'<line class="curve s{n % COLOURS}" x1="{across(a):.1f}" '
                    f'x2="{across(a):.1f}" y1="{up(b - e):.1f}" y2="{up(b + e):.1f}"/>'
                )
        if len(x) <= MARKED:
            for a, b in zip(x, y, strict=True):
                parts.append(
                    f'<circle class="f{n % COLOURS}" cx="{across(a):.1f}" cy="{up(b):.1f}" '
                    f'r="2.6"><title>{escape(curve.name)}: {number(b)}{escape(chart.unit)} at '
                    f'{a:.6g}</title></circle>'
                )
    return Markup(''.join([*parts, '</svg>']))


def legend(chart: Chart) -> Markup:
    """The names of a chart's curves, each with its last value if the chart says so."""
    items = []
    for n, curve in enumerate(chart.shown):
        n = n if curve.style is None else curve.style
        value = f' <b>{number(_last(curve))}{escape(chart.unit)}</b>' if chart.last else ''
        items.append(
            f'<li><svg viewBox="0 0 26 8" aria-hidden="true"><line class="curve s{n % COLOURS}" '
            f'x1="0" x2="26" y1="4" y2="4"{_dash(n)}/></svg>{escape(curve.name)}{value}</li>'
        )
    return Markup(f'<ul class="legend">{"".join(items)}</ul>')


def histogram(
    groups: Sequence[tuple[str, Sequence[float]]], label: str = '', bins: int = 40
) -> Markup:
    """The finite values of one or several groups, on top of each other, as SVG.

    Args:
        groups: name and values of each. The axis leaves out the outermost half percent at either
            end; what lies there counts for the outermost bars.
        label: below the axis.
        bins: ≥ 1.
    """
    values = [np.asarray(v, float)[np.isfinite(np.asarray(v, float))] for _, v in groups]
    together = np.concatenate(values)
    if not len(together):
        return Markup('')
    low, high = np.percentile(together, [0.5, 99.5])
    across = _Axis(low, high, LEFT, WIDTH - RIGHT)
    edges = np.linspace(across.low, across.high, bins + 1)
    counts = [np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] for v in values]
    up = _Axis(0, max(c.max() for c in counts), HEIGHT - BOTTOM, TOP, integer=True, pad=False)
    what = label or 'values'
    names = ' and '.join(f'{name} ({len(v)})' for (name, _), v in zip(groups, values, strict=True))
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"histogram of {what}: {names}")}">',
        *_frame(across, up, label),
    ]
    width = (across.end - across.start) / bins
    for n, ((name, _), heights) in enumerate(zip(groups, counts, strict=True)):
        for i, count in enumerate(heights):
            if count:
                parts.append(
                    f'<rect class="f{n % COLOURS} half" x="{across.start + i * width:.1f}" '
                    f'y="{up(count):.1f}" width="{width - 0.5:.1f}" '
                    f'height="{up(0) - up(count):.1f}"><title>{escape(name)}: {count} in '
                    f'{edges[i]:.4g} to {edges[i + 1]:.4g}</title></rect>'
                )
    return Markup(''.join([*parts, '</svg>']))


@dataclass
class _Axis:
    """Values from ``low`` to ``high`` on positions from ``start`` to ``end``, with ticks."""

    low: float
    high: float
    start: float
    end: float
    integer: bool = False
    pad: bool = True
    ticks: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.low, self.high = float(self.low), float(self.high)
        if self.low == self.high:
            by = abs(self.low) * 0.05 or 1.0
            self.low, self.high = self.low - by * self.pad, self.high + by
        elif self.pad and self.start > self.end:  # upwards: curves do not touch the frame
            by = 0.06 * (self.high - self.low)
            self.low, self.high = self.low - by, self.high + by
        from matplotlib.ticker import MaxNLocator  # slow to import

        ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=self.integer)
        found = ticks.tick_values(self.low, self.high)
        room = 1e-9 * (self.high - self.low)
        self.ticks = [float(t) for t in found if self.low - room <= t <= self.high + room]

    def __call__(self, value: float) -> float:
        share = (float(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _frame(across: _Axis, up: _Axis, x_label: str) -> list[str]:
    """Grid, ticks and the name of the horizontal axis."""
    parts = []
    for tick in up.ticks:
        y = up(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick)}</text>'
        )
    for tick in across.ticks:
        x = across(tick)
        anchor = 'end' if x > WIDTH - RIGHT - 8 else 'middle'
        parts.append(
            f'<text x="{min(x, WIDTH - 1):.1f}" y="{HEIGHT - BOTTOM + 14}" '
            f'text-anchor="{anchor}">{_tick(tick)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return parts


def number(value: float) -> str:
    """Three significant digits, but no power of ten below a million."""
    text = f'{value:,.0f}' if 100 <= abs(value) < 1e6 else f'{value:.3g}'
    return text.replace('-', '−')


def _tick(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return number(value)
    return f'{round(value, 10):,.6g}'.replace('-', '−')


def _dash(n: int) -> str:
    dash = DASHES[n % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ''


def _last(curve: Curve) -> float:
    y = np.asarray(curve.y, float)
    return float(y[np.isfinite(y)][-1])
