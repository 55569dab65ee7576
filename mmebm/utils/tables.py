"""Tables of measurements: as CSV, as Markdown, and on a terminal."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from .whole_files import WholeFilesBackend

GAP = 2  # columns of the terminal between two columns of a table


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
    """Print :func:`text_table` for the console's width; the terminal wraps what is wider."""
    if title is not None:
        console.print(Text(title, 'italic'), soft_wrap=True)
    text = Text(text_table(columns, rows, console.width, left))
    console.print(text, soft_wrap=True, highlight=False)


def text_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, left: int = 1
) -> str:
    """Lay out a table for a terminal without cutting a word, whatever the width.

    Uses the first of these layouts that fits, else the last:

    1. one line per row;
    2. the same, with headings of several words on several lines;
    3. as 2, the first cell of a row on a line of its own above the others;
    4. one line per cell, ``heading  cell``, below the first cell of the row.

    Args:
        columns: headings.
        rows: cells, as many per row as there are columns.
        width: of the terminal, in characters.
        left: columns that are aligned to the left, counted from the first; numbers follow.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f'a row must have {len(columns)} cells, got {len(row)}: {row}')
    words = [column.split(' ') for column in columns]
    for headings in ([[column] for column in columns], words):
        head, body = _laid_out(headings, rows, left)
        if _width([*head, *body]) <= width:
            return '\n'.join([*head, *body])
    indent = ' ' * GAP
    head, body = _laid_out(words[1:], [row[1:] for row in rows], left - 1)
    lines = [columns[0], *(indent + line for line in head)]
    for row, line in zip(rows, body, strict=True):
        lines += [row[0], indent + line]
    if _width([*head, *body]) + GAP <= width:
        return '\n'.join(lines)
    longest = _width(columns[1:])
    lines = []
    for row in rows:
        lines.append(row[0])
        for column, cell in zip(columns[1:], row[1:], strict=True):
            lines.append(f'{indent}{_padded(column, longest, True)}{indent}{cell}')
    return '\n'.join(lines)


def _laid_out(
    headings: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], left: int
) -> tuple[list[str], list[str]]:
    """Lines of the head, rule included, and one line per row; a heading is a list of lines."""
    height = max(map(len, headings), default=0)
    above = [[''] * (height - len(heading)) + list(heading) for heading in headings]
    head = [list(line) for line in zip(*above, strict=True)]
    widths = [_width(column) for column in zip(*head, *rows, strict=True)]

    def joined(cells: Sequence[str]) -> str:
        padded = [_padded(cells[n], widths[n], n < left) for n in range(len(widths))]
        return (' ' * GAP).join(padded).rstrip()

    rule = (' ' * GAP).join('─' * width for width in widths)
    return [*map(joined, head), rule], [*map(joined, rows)]


def _padded(text: str, width: int, left: bool) -> str:
    space = ' ' * (width - cell_len(text))
    return text + space if left else space + text


def _width(texts: Iterable[str]) -> int:
    """Of the widest text, in columns of the terminal; some characters take two."""
    return max(map(cell_len, texts), default=0)
