"""Every config builds at full size, and trains one iteration at reduced size."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image

import mmebm  # noqa: F401

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    p.relative_to(ROOT).as_posix() for p in ROOT.glob('configs/*/*.py') if '_base_' not in p.parts
)
MILLIONS = {'small': 21.7, 'base': 85.8, 'large': 303.3, 'nano': 0.42, 'micro': 2.7}  # parameters


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for part in ('train', 'val', 'test', 'held_out'):
        (folder / part).mkdir()
        for i in range(2):
            pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f'{i}.png')
    return folder


@pytest.mark.parametrize('path', CONFIGS)
def test_header_holds_the_command_of_this_very_file(path):
    text = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert path in text or 'make quickstart' in text
    assert 'paper' in text.lower()


@pytest.mark.parametrize('path', CONFIGS)
def test_builds_at_full_size(path):
    config = Config.fromfile(ROOT / path)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    size = next(name for name in MILLIONS if f'vit-{name}' in path)
    assert millions == pytest.approx(MILLIONS[size], rel=0.02)


@pytest.mark.parametrize('path', CONFIGS)
def test_trains_one_iteration_at_reduced_size(path, folder, tmp_path):
    config = Config.fromfile(ROOT / path)
    config.model.backbone.arch = dict(
        embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16
    )
    config.model.head.in_channels = 16
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(folder)
    config.train_cfg.max_epochs = 1
    config.train_dataloader.dataset.repeats = 1
    config.work_dir = str(tmp_path)
    config.visualizer.name = path
    runner = Runner.from_cfg(config)
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    assert runner.iter == len(runner.train_dataloader) > 0
    after = runner.model.state_dict()
    assert not torch.equal(after['head.fc.weight'], before['head.fc.weight'])
    assert all(torch.isfinite(v).all() for v in after.values())
    figure = config.default_hooks.checkpoint.save_best
    assert math.isfinite(runner.message_hub.get_scalar(f'val/{figure}').current())
    assert list(tmp_path.glob('epoch_1.pth'))
    assert list(tmp_path.rglob('restoration_1.png'))
