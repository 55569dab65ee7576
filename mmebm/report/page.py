"""What the pages share: one file each, with its style, charts and pictures inside, no network."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from ..utils.whole_files import WholeFilesBackend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 200  # of a curve
MARKED = 30  # a curve of at most so many points shows each of them
INK = '#010203'  # becomes the colour of the page's text, dark or light
COLOURS = '#1f77b4', '#d95f02', '#1b9e77', '#cc5fa8', '#8c7a00', '#1699b1', '#8070c8', '#a5683f'
DASHES = '-', '--', ':', '-.'  # so that curves differ without their colours too


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name('templates')),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **content: object) -> str:
    """HTML of a file in ``templates/``. Text is escaped, ``Markup`` is not.

    What UTF-8 cannot hold, as file names may, is shown as ``\\udcXX``.
    """
    content |= dict(line_chart=line_chart)
    page = _ENVIRONMENT.get_template(template).render(content)
    return page.encode('utf-8', errors='backslashreplace').decode()


def write_page(path: str | Path, page: str) -> None:
    """Write a page so that a reader sees the old one or the new one, never half of it."""
    WholeFilesBackend().put(page.encode(), path)


def add_loading_lines(path: Path, lines: Sequence[str]) -> None:
    """Put lines of Python into the page of a run, if it is there and has none."""
    shown = '<h2>Load the backbone</h2>\n<pre>' + escape('\n'.join(lines)) + '</pre>'
    if path.is_file():
        write_page(path, path.read_text('utf-8').replace('<!-- loading lines -->', shown))


def data_uri(image: np.ndarray, most: int) -> str:
    """An image ``(H, W, 3)`` uint8 RGB inside a URI, reduced to at most ``most`` pixels a side."""
    found, file = Image.fromarray(image), io.BytesIO()
    found.thumbnail((most, most), Image.Resampling.LANCZOS)
    found.save(file, format='JPEG', quality=85)
    return f'data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'


class Chart(NamedTuple):
    """Curves with the same axes: name → finite points (x, y) from left to right.

    ``unit`` stands behind each value of y; ``level`` is a horizontal line, with its name.
    """

    title: str
    curves: dict[str, Sequence[tuple[float, float]]]
    unit: str = ''
    note: str = ''
    level: tuple[str, float] | None = None


def line_chart(chart: Chart) -> Markup:
    """A chart as SVG, with the last value of each curve in its legend; empty without a point."""
    shown = {name: points for name, points in chart.curves.items() if points}
    labels = [f'{name} {number(p[-1][1], chart.unit)}' for name, p in shown.items()]

    def draw(axes: 'Axes') -> None:
        for n, (label, points) in enumerate(zip(labels, shown.values(), strict=True)):
            groups = min(len(points), MOST_POINTS)  # means of as many neighbours each
            x, y = np.array([g.mean(0) for g in np.array_split(np.array(points), groups)]).T
            style = dict(color=COLOURS[n % len(COLOURS)], linestyle=DASHES[n % len(DASHES)])
            axes.plot(x, y, marker='.' if len(x) <= MARKED else '', label=label, **style)
        if chart.level is not None:
            name, value = chart.level
            label = f'{name} {number(value, chart.unit)}'
            axes.axhline(value, label=label, color=INK, linestyle=(0, (1, 2)), linewidth=1)
        axes.set_xlabel('iterations')
        axes.xaxis.get_major_locator().set_params(integer=True)

    description = f'{chart.title} over iterations, last {"; ".join(labels)}'
    return _svg(draw, description) if shown else Markup('')


def _svg(draw: Callable[['Axes'], None], description: str) -> Markup:
    """A chart of a page's width and in its colours."""
    import matplotlib  # slow to import
    from matplotlib.figure import Figure

    style = {
        'svg.fonttype': 'none', 'font.family': 'sans-serif', 'font.size': 11, 'text.color': INK,
        'axes.labelcolor': INK, 'axes.edgecolor': INK, 'xtick.color': INK, 'ytick.color': INK,
        'axes.grid': True, 'grid.alpha': 0.2, 'grid.color': INK, 'axes.axisbelow': True,
        'axes.spines.right': False, 'axes.spines.top': False, 'legend.frameon': False,
    }  # fmt: skip
    file = io.StringIO()
    with matplotlib.rc_context(style):
        figure = Figure((4.8, 3.0), layout='constrained')
        axes = figure.subplots()
        draw(axes)
        figure.legend(loc='outside lower left', ncols=2, fontsize=10)
        figure.savefig(file, format='svg', transparent=True, metadata=dict(Date=None))
    svg = file.getvalue()[file.getvalue().index('<svg') :].replace(INK, 'currentColor')
    return Markup(f'<div class="plot" role="img" aria-label="{escape(description)}">{svg}</div>')


def number(value: float, unit: str = '') -> str:
    """Three significant digits, but no power of ten below a million; decibels have two decimals."""
    text = f'{value:,.0f}' if 100 <= abs(value) < 1e6 else f'{value:.3g}'
    text = f'{round(value, 2) + 0.0:.2f}' if 'dB' in unit else text
    return text.replace('-', '−') + unit
