"""Tables on a terminal: no cell is cut, whatever the width."""

import csv
import io

import pytest
from rich.console import Console

from mmebm.utils.tables import markdown_table, print_table, write_csv

COLUMNS = ('image', 'corruption', 'PSNR corrupted', 'PSNR restored')
LONG = 'holidays/2024 in the mountains/a long name of a photograph [1] (edited).jpeg'
ROWS = [[LONG, 'SuperResolution', '21.54', '1.25e+03'], ['山.png', 'Colorization', '9.10', '–']]


@pytest.mark.parametrize('width', [40, 60, 80, 120, 200])
def test_nothing_is_cut_at_any_width(width):
    out = io.StringIO()
    print_table(Console(file=out, width=width), COLUMNS, ROWS, 'PSNR in [dB]', left=2)
    printed = out.getvalue()
    assert '…' not in printed
    assert 'PSNR in [dB]' in printed
    shown = sorted(printed.replace('─', '').replace('PSNR in [dB]', ''))
    wanted = sorted(''.join([*COLUMNS, *(cell for row in ROWS for cell in row)]))
    assert [c for c in shown if not c.isspace()] == [c for c in wanted if not c.isspace()]
    assert max(map(len, printed.splitlines())) <= width


def test_as_files(tmp_path):
    rows = [dict(name='Größe, groß', share=0.5), dict(name='b', share=1)]
    write_csv(rows, tmp_path / 'rows.csv')
    with open(tmp_path / 'rows.csv', encoding='utf-8', newline='') as file:
        assert list(csv.reader(file)) == [['name', 'share'], ['Größe, groß', '0.5'], ['b', '1']]
    assert markdown_table([('a', 'b'), ('-', '-'), (1, 2.5)]) == '| a | b |\n| - | - |\n| 1 | 2.5 |'
