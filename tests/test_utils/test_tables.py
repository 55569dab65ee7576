"""Tables on a terminal: nothing is cut or broken, whatever the width."""

import io

import pytest
from rich.console import Console

from mmebm.utils.tables import print_table, text_table

COLUMNS = (
    'image', 'corruption', 'PSNR corrupted', 'PSNR restored', 'E original', 'E corrupted',
    'E restored',
)  # fmt: skip
LONG = 'holidays/2024 in the mountains/a long name of a photograph [1] (edited).jpeg'


def rows(name):
    return [
        [name, 'SuperResolution', '21.54', '23.02', '-0.0123', '1.25e+03', '0.4'],
        ['b.png', 'Colorization', '9.10', '12.20', '–', '0.345', '0.3'],
    ]


def test_one_line_per_row_if_it_fits():
    rows = [['a', '1.50', '2'], ['bc', '10.25', '']]
    assert text_table(('name', 'top-1', 'of five'), rows, 22) == (
        'name  top-1  of five\n'
        '────  ─────  ───────\n'
        'a      1.50        2\n'
        'bc    10.25'
    )  # fmt: skip


def test_headings_are_broken_between_words_first():
    lines = text_table(COLUMNS, rows('a.png'), 80, left=2).splitlines()
    assert lines[0].split() == ['PSNR', 'PSNR', 'E', 'E', 'E']
    assert lines[1].split() == [
        *('image', 'corruption', 'corrupted', 'restored', 'original', 'corrupted', 'restored')
    ]
    assert lines[3].split() == rows('a.png')[0]
    assert lines[0].index('PSNR') + len('PSNR') == lines[3].index('21.54') + len('21.54')
    assert len(lines) == 5


def test_long_names_stand_above_their_row():
    lines = text_table(COLUMNS, rows(LONG), 80, left=2).splitlines()
    assert lines[0] == 'image'
    assert lines[4:] == [
        LONG,
        '  SuperResolution      21.54     23.02   -0.0123   1.25e+03       0.4',
        'b.png',
        '  Colorization          9.10     12.20         –      0.345       0.3',
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize('width', [40, 60, 80, 120, 200])
@pytest.mark.parametrize('name', ['a.png', LONG, 'x' * 150])
def test_nothing_is_cut_or_broken_at_any_width(width, name):
    out = io.StringIO()
    print_table(Console(file=out, width=width), COLUMNS, rows(name), 'PSNR in dB', left=2)
    printed = out.getvalue()
    lines = printed.splitlines()
    for word in (heading for column in COLUMNS[1:] for heading in column.split(' ')):
        assert word in printed.split()
    for row in rows(name):
        assert any(line.startswith(row[0]) for line in lines)
        assert all(cell in printed for cell in row)
    assert all(len(line) <= width or line == name for line in lines)
    assert '…' not in printed


def test_one_cell_per_line_if_nothing_else_fits():
    columns, cells = ('name', *(f'step {n}' for n in range(1, 21))), [f'{n}.0%' for n in range(20)]
    lines = text_table(columns, [['a.jpg', *cells]], 80).splitlines()
    assert lines[0] == 'a.jpg'
    assert lines[1] == '  step 1   0.0%'
    assert lines[20] == '  step 20  19.0%'


def test_wide_characters_take_two_columns():
    lines = text_table(('name', 'n'), [['山.png', '1'], ['abc.png', '2']], 80).splitlines()
    assert lines[2:] == ['山.png   1', 'abc.png  2']


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match='a row must have 2 cells, got 1'):
        text_table(('a', 'b'), [['1']], 80)
