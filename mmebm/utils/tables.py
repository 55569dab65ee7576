"""What the tools that measure share: their rows as files."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path


def write_csv(rows: Sequence[dict], path: Path) -> None:
    """A line per row, below the names of the first row's entries."""
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def markdown_table(lines: Iterable[Sequence]) -> str:
    """The lines of cells, header and rule included, as Markdown; without a newline at its end."""
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)
