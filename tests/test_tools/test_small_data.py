"""The page of measurements says what its file holds."""

import csv
import shutil
from pathlib import Path

import pytest

from mmebm.utils.tables import write_csv
from tests.tools import load_tool

DOCS = Path(__file__).parents[2] / 'docs'


@pytest.fixture
def docs(tmp_path):
    (tmp_path / 'images').mkdir()
    for name in ('small_data.csv', 'small_data.md'):
        shutil.copy(DOCS / name, tmp_path)
    return tmp_path


def test_page_is_what_its_file_says(docs):
    load_tool('benchmarks/small_data').main([], docs)
    for name in ('small_data.csv', 'small_data.md'):
        assert (docs / name).read_bytes() == (DOCS / name).read_bytes()
    assert (docs / 'images/small_data.png').exists()


def add(docs, *rows):
    write_csv(rows, docs / 'results.csv')
    load_tool('benchmarks/small_data').main([str(docs / 'results.csv')], docs)
    return list(csv.DictReader((docs / 'small_data.csv').read_text().splitlines()))


def test_rows_of_another_comparison(docs):
    rows = list(csv.DictReader((docs / 'small_data.csv').read_text().splitlines()))
    place = next(i for i, row in enumerate(rows) if row['split'] == 'test')
    again = dict(rows[place], accuracy='99.9', lr='0.5', failed='')
    new = dict(again, backbone='another', method='new', accuracy='12.5')
    written = add(docs, again, new, dict(new, seed='5', failed='killed'))
    assert len(written) == len(rows) + 1
    assert written[place]['accuracy'] == '99.9'
    page = (docs / 'small_data.md').read_text()
    assert all(text in page for text in ('**another**', '| 12.5 |'))
    with pytest.raises(ValueError, match=r"'another', .* no row of the method whose cost is 1"):
        add(docs, dict(new, pretraining_cpu_s='5'))
    assert add(docs, again) == written  # of those nothing was kept
