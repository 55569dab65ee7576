"""The arms of the comparison in docs/small_data.md: networks of 0.5 M parameters with one start."""

import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, init_default_scope
from mmpretrain.registry import DATASETS, MODELS
from torch.utils.data import DataLoader

from mmebm.backbones.weights import load_backbone
from mmebm.benchmark.configs import find_configs, stage_config, write_start
from mmebm.benchmark.options import BenchmarkOptions
from mmebm.models.energy_inpainting import EnergyInpaintingAlgorithm
from tests.tools import write_images

from .common import CONFIGS, HUE_FAILS

BACKBONES = ('vit-mini-p4', 'swin-mini-p2', 'convnext-mini-p2', 'resnet-mini')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp('images'), []
    for label, name in enumerate('ab'):
        files = write_images(folder / 'train' / name, 8, side=32, seed=label)
        lines += [f'{name}/{file.name} {label}\n' for file in files]
    (folder / 'labelled.txt').write_text(''.join(lines))
    (folder / 'unlabelled.txt').write_text(''.join(line[:-3] + '\n' for line in lines))
    return folder


def train(config, start, steps=2):
    """Two iterations of a config, from a start; its losses and its backbone's weights."""
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    load_backbone(model.backbone, start)
    config.optim_wrapper.update(type='OptimWrapper')
    config.optim_wrapper.pop('dtype', None)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    collate = FUNCTIONS.get(config.train_dataloader.collate_fn.type)
    losses = []
    for batch in islice(DataLoader(dataset, 4, collate_fn=collate), steps):
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        optimizer.update_params(loss)
        losses.append(loss.item())
    return losses, {k: v for k, v in model.backbone.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize('backbone', BACKBONES)
def test_every_arm_learns_from_the_same_start(backbone, images, tmp_path):
    init_default_scope('mmpretrain')
    asked = BenchmarkOptions(data_root=str(images), out='out', backbone=backbone, workers=0)
    methods, finetuning = find_configs(asked)
    named = {Path(path).name.split('_')[0] for path in CONFIGS if f'_{backbone}_' in path}
    assert methods.keys() == named - {'finetune'} | {'scratch'}
    start = tmp_path / 'start.pth'
    labelled = images / 'labelled.txt'
    config = stage_config(finetuning, asked, 2, labelled, 2, lr=1e-3, start=start)
    write_start(config, 0, start)
    before = torch.load(start)['state_dict']
    parameters = sum(v.numel() for k, v in before.items() if not re.search('running|num_b', k))
    assert 0.45e6 < parameters < 0.57e6
    configs = dict(finetuning=config)
    for method in methods:
        if methods[method] is not None:
            images_ = images / 'unlabelled.txt'
            configs[method] = stage_config(methods[method], asked, 2, images_, lr=1e-3, start=start)
    for method, config in configs.items():
        if HUE_FAILS and 'ColorJitter' in config.pretty_text:
            continue
        losses, weights = train(config, start)
        assert len(losses) == 2
        assert np.isfinite(losses).all(), method
        name = next(k for k in weights if 'weight' in k and weights[k].dim() > 1)
        assert not torch.equal(weights[name], before[f'backbone.{name}']), method


def test_mae_with_hog_has_the_targets_of_the_energy():
    """Of normalised pixels and edges; the energy's are patches in another order of pixels."""
    asked = BenchmarkOptions(data_root='.', out='out', backbone='vit-mini-p4')
    methods, _ = find_configs(asked)
    config = Config.fromfile(methods['mae-hog'])
    head = MODELS.build(config.model.head)
    model = MODELS.build(Config.fromfile(methods['energy-inpainting4-75-hog']).model)
    assert isinstance(model, EnergyInpaintingAlgorithm)
    torch.manual_seed(0)
    clean = torch.randn(2, 3, 32, 32)
    ours = model.target(clean, torch.arange(64).expand(2, 64))
    mae = head.construct_target(clean)
    assert mae.shape == ours.shape == (2, 64, 75)
    pixels = ours[..., :48].unflatten(-1, (3, 16)).movedim(-1, -2).flatten(-2)
    torch.testing.assert_close(mae[..., :48], pixels, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(mae[..., 48:], ours[..., 48:])
