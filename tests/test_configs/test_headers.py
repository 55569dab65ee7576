"""The command at the top of every config, and what its name says."""

import ast
import re

import pytest

from .common import CONFIGS, ROOT, read


@pytest.mark.parametrize('path', CONFIGS)
def test_header_holds_the_command_of_this_very_file(path):
    text = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert path in text or 'make quickstart' in text


@pytest.mark.parametrize('path', CONFIGS)
def test_the_name_says_batch_and_length(path):
    config = read(path)
    gpus, batch = (int(n) for n in re.search(r'_(\d+)xb(\d+)-', path).groups())
    assert config.train_dataloader.batch_size == batch
    if 'auto_scale_lr' in config:
        assert config.auto_scale_lr.base_batch_size == gpus * batch
    epochs = re.search(r'-(\d+)e_', path)
    if epochs:
        assert config.train_cfg.max_epochs == int(epochs[1])
    warm_up, *rest = config.param_scheduler
    if rest:
        length = config.train_cfg.get('max_epochs') or config.train_cfg.max_iters
        assert warm_up.end == rest[0].begin
        assert rest[-1].get('end', length) == length
