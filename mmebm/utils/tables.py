"""Tables of measurements: as CSV, as Markdown, and on a terminal."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .whole_files import WholeFilesBackend


def write_csv(rows: Sequence[dict], path: Path) -> None:
    """Write a header, the keys of the first row, and one line per row; UTF-8, all or nothing."""
    lines = io.StringIO(newline='')
    writer = csv.DictWriter(lines, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    # names of files may hold what UTF-8 does not
    WholeFilesBackend().put(lines.getvalue().encode(errors='backslashreplace'), path)


def markdown_table(lines: Iterable[Sequence]) -> str:
    """Lines of cells, header and rule included, as Markdown, without a trailing newline."""
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
    left: int = 1,
) -> None:
    """Print headings and rows of cells; on a narrow terminal cells wrap, none is cut.

    The first ``left`` columns are aligned to the left; numbers follow.
    """
    if title is not None:
        console.print(Text(title, 'italic'))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)  # Text: brackets are no markup
    for number, column in enumerate(columns):
        justify = 'left' if number < left else 'right'
        table.add_column(Text(column), justify=justify, overflow='fold')
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
