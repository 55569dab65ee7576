"""The arms of the comparison in docs/small_data.md: networks of 0.5 M parameters with one start."""

import re
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, init_default_scope
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image
from torch.utils.data import DataLoader

from mmebm.backbones.weights import load_backbone
from mmebm.benchmark.configs import find_configs, stage_config, write_start
from mmebm.benchmark.options import BenchmarkOptions
from mmebm.models.energy_inpainting import EnergyInpaintingAlgorithm

BACKBONES = {
    'vit-mini-p4': (
        'ae-denoising ae-sorting ae-sr8 barlowtwins energy-colorization energy-denoising '
        'energy-gridded4-50 energy-inpainting4-75 energy-inpainting4-75-hog energy-mixed '
        'energy-sorting energy-sr8 mae-hog mae-shallow maskfeat'
    ),
    'swin-mini-p2': 'barlowtwins energy-gridded4-50 energy-mixed simmim',
    'convnext-mini-p2': 'barlowtwins energy-gridded4-50 energy-mixed spark',
    'resnet-mini': 'barlowtwins energy-gridded4-50 energy-mixed spark',
    'resnet-gn-mini': 'barlowtwins energy-gridded4-50 energy-mixed',
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for i in range(16):
        file = folder / 'train' / 'ab'[i % 2] / f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    files = sorted((folder / 'train').rglob('*.png'))
    (folder / 'unlabelled.txt').write_text(
        '\n'.join(f'{path.parent.name}/{path.name}' for path in files)
    )
    (folder / 'labelled.txt').write_text(
        '\n'.join(
            f'{path.parent.name}/{path.name} {"ab".index(path.parent.name)}' for path in files
        )
    )
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
    assert sorted(methods) == sorted(['scratch', *BACKBONES[backbone].split()])
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
