"""Every pretraining config: its samples; one iteration at reduced size of each kind."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS

from tests.tools import write_images

from .common import PRETRAINING, one_of_each, read, shorten, structure, train, without_memory

pytestmark = pytest.mark.slow  # all configs

# The small configs of other methods have our data and schedule, the large ones MMPretrain's; small
# ViTs start with the sin-cos position embedding.
OTHERS = (
    *('configs/small/beit_', 'configs/small/mae_', 'configs/small/simmim_'),
    *('configs/small/energy-mixed_vit', 'configs/small/ae-denoising_vit'),
    'configs/small/energy-inpainting',
)
# the further tasks last, since their configs are small ones with a start of their own
TRAINED = one_of_each(sorted(PRETRAINING, key=lambda path: 'further_tasks' in path)) + [
    path for path in PRETRAINING if path.startswith(OTHERS)
]
# parameters of the backbone
MILLIONS = {
    'vit-small': 21.7,
    'vit-base': 85.8,
    'vit-large': 303.3,
    'plain-convnet-small': 0.88,
    'vit-micro': 2.7,
    'swin-base': 86.7,
    'swin-micro': 2.64,
    'convnext-tiny': 27.8,
    'swin-tiny': 27.5,
    'convnext-micro': 2.74,
    'plain-convnet': 1.56,
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for part in ('train', 'val', 'test', 'held_out'):
        write_images(folder / part, 2, side=80)
    return folder


@pytest.mark.parametrize('path', PRETRAINING)
def test_builds_at_full_size(path):
    config = read(path)
    with without_memory():
        model = MODELS.build(config.model)
    millions = sum(p.numel() for p in model.backbone.parameters()) / 1e6
    size = next(name for name in MILLIONS if name in path)
    assert millions == pytest.approx(MILLIONS[size], rel=0.02)
    if 'energy' in path:  # compiling takes a minute, so it is for long runs
        short = path.split('/')[1] in ('small', 'further_tasks', 'quickstart', 'network')
        assert config.model.get('compile_step', False) != short


# one for each task, kind of network and size of images; the numbers are options of a corruption
SAMPLES = {
    re.sub(r'\d+|-small|-base|-large', '', Path(path).name.replace('small32', 'thumbnails')): path
    for path in PRETRAINING
}


@pytest.mark.parametrize('path', SAMPLES.values())
def test_samples_fit_the_network(path, folder):
    config = read(path)
    for loader in filter(None, (config.train_dataloader, config.get('val_dataloader'))):
        dataset = DATASETS.build(dict(loader.dataset, data_root=str(folder)))
        inputs = dataset[0]['inputs']
        images = inputs if isinstance(inputs, list) else [inputs]
        size = config.model.backbone.get('img_size', 32 if 'small32' in path else 224)
        size = config.get('size', size)  # of crops, where the network takes any
        # BEiT's second image is the tokenizer's
        assert images[0].shape == (3, size, size)
        assert all(torch.isfinite(image.float()).all() for image in images)


def test_every_combination_of_classes_is_trained():
    trained = set(map(structure, TRAINED))
    others = (path for path in PRETRAINING if 'quickstart' not in path)  # its tool has a test
    assert [path for path in others if structure(path) not in trained] == []


VIT = dict(arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16))
DECODER = dict(embed_dim=16, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
SMALL = {
    'VisionTransformer': VIT,
    'EnergyHead': dict(in_channels=16),
    'PatchEnergyHead': dict(in_channels=16, embed_dims=16, num_layers=1, num_heads=2),
    'MAEViT': VIT,
    'MAEPretrainDecoder': DECODER,
    'PositionDecoder': DECODER,
    'BEiTPretrainViT': VIT,
    'BEiTV1Head': dict(embed_dims=16),
    'PlainConvNet': dict(dims=(8, 16)),
    'ConvNeXt': dict(arch=dict(depths=[1] * 4, channels=[8, 8, 8, 16])),
    'DALL-E': dict(n_hid=8, n_blk_per_group=1, init_cfg=None),  # its weights would be downloaded
}


def shrink(model: Config) -> None:
    """Make the network of a config small; its images and patches keep their size."""
    if 'compile_step' in model:
        model.compile_step = False  # compiling takes a minute at any size
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


@pytest.mark.slow
@pytest.mark.parametrize('path', TRAINED)
def test_trains_one_iteration_at_reduced_size(path, folder, tmp_path):
    config = read(path)
    shrink(config.model)
    shorten(config, folder, tmp_path, batch_size=2)
    config.train_cfg.max_epochs = 1
    config.train_dataloader.dataset.repeats = 1
    runner, before, after = train(config)
    assert runner.iter == len(runner.train_dataloader) > 0
    # the energy's head starts at zero, and so do the gradients of the backbone behind it
    part = 'head' if 'energy' in path else 'backbone'
    assert any(
        not torch.equal(after[name], before[name]) for name in after if name.startswith(part)
    )
    assert list(tmp_path.glob('*.pth'))
    best = config.default_hooks.checkpoint.get('save_best')
    assert (best is None) == (config.get('val_cfg') is None)
    assert best is None or f'val/{best}' in runner.message_hub.log_scalars
    assert bool(list(tmp_path.rglob('restoration_1.png'))) == ('energy' in path)
