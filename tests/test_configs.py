"""Every config builds at full size, and trains one iteration at reduced size."""

import ast
import re
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
    p.relative_to(ROOT).as_posix()
    for p in ROOT.glob('configs/*/*.py')
    if '_base_' not in p.parts
    # test_evaluation_configs.py, test_segmentation_configs.py
    and not p.name.startswith(('finetune_', 'linear_', 'scratch_', 'upernet_'))
)
# parameters of the backbone
MILLIONS = {
    'vit-small': 21.7,
    'vit-base': 85.8,
    'vit-large': 303.3,
    'vit-nano': 0.42,
    'vit-micro': 2.7,
    'swin-base': 86.7,
    'swin-micro': 2.64,
    'convnext-tiny': 27.8,
    'swin-tiny': 27.5,
    'convnext-micro': 2.74,
}


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
    # Swin and ConvNeXt read numbers out of tensors while they are built
    with torch.device('cpu' if 'swin' in path or 'convnext' in path else 'meta'):
        model = MODELS.build(config.model)
    millions = sum(p.numel() for p in model.backbone.parameters()) / 1e6
    size = next(name for name in MILLIONS if name in path)
    assert millions == pytest.approx(MILLIONS[size], rel=0.02)
    # the metafiles go by the name
    assert config.train_dataloader.batch_size == int(re.search(r'_\d+xb(\d+)-', path)[1])
    assert config.train_cfg.max_epochs == int(re.search(r'-(\d+)e_', path)[1])


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'energy' in path])
def test_the_step_is_compiled_where_training_is_long(path):
    assert Config.fromfile(ROOT / path).model.get('compile_step', False) == (
        not path.startswith(('configs/small', 'configs/quickstart'))
    )


VIT = dict(arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16))
DECODER = dict(embed_dim=16, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
SMALL = {
    'VisionTransformer': VIT,
    'EnergyHead': dict(in_channels=16),
    'MAEViT': VIT,
    'MAEPretrainDecoder': DECODER,
    'PositionDecoder': DECODER,
    'BEiTPretrainViT': VIT,
    'BEiTV1Head': dict(embed_dims=16),
    'ConvNeXt': dict(arch=dict(depths=[1] * 4, channels=[8, 8, 8, 16])),
    'DALL-E': dict(n_hid=8, n_blk_per_group=1, init_cfg=None),  # its weights need a network
}


def shrink(model):
    """Make the network of a config small; its images and patches keep their size."""
    if 'compile_step' in model:
        model.compile_step = False  # which takes a minute even so
    for part in ('backbone', 'neck', 'head', 'target_generator'):
        if model.get(part) is not None:
            model[part].update(SMALL.get(model[part].type, {}))
    if model.backbone.type == 'SimMIMSwinTransformer':
        stages = model.backbone.get('out_indices', (3,))[-1] + 1
        model.backbone.arch = dict(embed_dims=16, depths=[1] * stages, num_heads=[1] * stages)
        model.neck.in_channels = 16 * 2 ** (stages - 1)
    elif model.backbone.type == 'SwinTransformer':
        stages = model.backbone.get('out_indices', (3,))[-1] + 1
        dims = model.head.in_channels // 2 ** (stages - 1)
        model.backbone.arch = dict(embed_dims=dims, depths=[1] * stages, num_heads=[1] * stages)


@pytest.mark.parametrize('path', CONFIGS)
def test_trains_one_iteration_at_reduced_size(path, folder, tmp_path):
    config = Config.fromfile(ROOT / path)
    shrink(config.model)
    for loader in filter(None, (config.train_dataloader, config.get('val_dataloader'))):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(folder)
    config.train_cfg.max_epochs = 1
    config.train_dataloader.dataset.repeats = 1
    config.work_dir = str(tmp_path)
    config.visualizer.name = path
    runner = Runner.from_cfg(config)
    runner.model.init_weights()
    before = {k: v.clone() for k, v in runner.model.named_parameters()}
    runner.train()
    assert runner.iter == len(runner.train_dataloader) > 0
    after = dict(runner.model.named_parameters())
    # the energy's head starts at zero, and so do the gradients of the backbone behind it
    trained = [
        name for name in after if name.startswith('head' if 'energy' in path else 'backbone')
    ]
    assert any(not torch.equal(after[name], before[name]) for name in trained)
    assert all(torch.isfinite(v).all() for v in runner.model.state_dict().values())
    assert list(tmp_path.glob('*.pth'))
    best = config.default_hooks.checkpoint.get('save_best')
    assert (best is None) == (config.get('val_cfg') is None)
    assert best is None or f'val/{best}' in runner.message_hub.log_scalars
    assert bool(list(tmp_path.rglob('restoration_1.png'))) == ('energy' in path)
