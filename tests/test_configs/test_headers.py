"""The text at the top of every config: its command, what the paper has, what is ours."""

import ast

import pytest

from .common import CLASSIFICATION, CONFIGS, ROOT, SEGMENTATION


@pytest.mark.parametrize('path', CONFIGS)
def test_header_holds_the_command_of_this_very_file(path):
    text = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert path in text or 'make quickstart' in text
    assert 'paper' in text.lower()
    if path in CLASSIFICATION + SEGMENTATION:
        assert 'Paper:' in text
        assert ('PRETRAINED=FILE' in text) == ('/scratch_' not in path)
        # one config serves many rows, whose runs must not share a folder
        assert ('--work-dir work_dirs/ROW/' in text) == ('/scratch_' not in path)
    if path in SEGMENTATION:
        assert 'Ours' in text
