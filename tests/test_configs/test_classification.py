"""Every finetuning and probing config: full size, recipe; one iteration of each kind."""

from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.pretrained import ARCH, CONVNEXT, SWIN, expected_start, save_pretrained
from tests.tools import write_images

from .common import CLASSIFICATION, one_of_each, read, shorten, structure, train, without_memory

pytestmark = pytest.mark.slow  # all configs

SMALL = [path for path in CLASSIFICATION if 'configs/small' in path]
FULL = [path for path in CLASSIFICATION if path not in SMALL]
OWN = [path for path in FULL if 'own_folder' in path]  # their own class of data set
TRAINED = one_of_each(SMALL) + one_of_each(FULL) + OWN
# parameters in millions; ViT's also for BEiT, which has layer scales, and relative position biases
# instead of position embeddings
MILLIONS = {
    'vit-small': 22.1,
    'vit-base': 86.6,
    'vit-large': 304.3,
    'vit-micro': 2.7,
    'convnext-tiny': 28.6,
    'convnext-micro': 2.74,
    'swin-tiny': 28.3,
    'swin-micro': 2.64,
}
DEPTHS = {'vit-small': 12, 'vit-base': 12, 'vit-large': 24, 'vit-micro': 6}
METHODS = dict(vit='energy', convnext='energy of ConvNeXt', swin='energy of Swin')


def size_of(path):
    kind, size = Path(path).stem.split('_')[1].split('-')[:2]
    return f'{"vit" if kind == "beit" else kind}-{size}'


def kind_of(path):
    return size_of(path).split('-')[0]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two classes of four images, in class folders and in lists."""
    folder = tmp_path_factory.mktemp('images')
    for part in ('train', 'val', 'test'):
        lines = []
        for label, name in enumerate(('cat', 'dog')):
            files = write_images(folder / part / name, 2, side=32, seed=label)
            lines += [f'{name}/{file.name} {label}' for file in files]
        (folder / f'{part}.txt').write_text('\n'.join(lines))
    return folder


def reduced(path, folder, tmp_path):
    config = read(path)
    vit = dict(arch=dict(ARCH), img_size=32, patch_size=8)
    config.model.backbone.update(
        {'vit': vit, 'convnext': CONVNEXT, 'swin': SWIN}[kind_of(path)]
        | dict(type=config.model.backbone.type)
    )
    if 'frozen_stages' in config.model.backbone:
        last = {'vit': ARCH['num_layers'], 'convnext': 4, 'swin': 2}[kind_of(path)]
        config.model.backbone.frozen_stages = last
        necks = config.model.neck if isinstance(config.model.neck, list) else [config.model.neck]
        necks[-1].input_features = ARCH['embed_dims']
    config.model.head.in_channels = ARCH['embed_dims']
    for loader, part in ((config.train_dataloader, 'train'), (config.val_dataloader, 'val')):
        if loader.dataset.type == 'ImageNet':  # the folder does not have its thousand classes
            loader.dataset.ann_file = f'{part}.txt'
    sizes = {key: dict(scale=32) for key in ('RandomResizedCrop', 'ResizeEdge')}
    shorten(config, folder, tmp_path, sizes | dict(CenterCrop=dict(crop_size=32)), batch_size=4)
    config.train_cfg.max_epochs = 1
    return config


@pytest.mark.parametrize('path', CLASSIFICATION)
def test_builds_at_full_size(path):
    config = read(path)
    size = size_of(path)
    with without_memory():
        model = MODELS.build(config.model).train()  # Swin freezes its stages here
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[size], rel=0.02)
    if size in DEPTHS:
        assert model.backbone.num_layers == DEPTHS[size]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    if 'linear_' in path:
        # ConvNeXt does not freeze this norm; the config gives it a learning rate of zero
        free = {'backbone.norm3.weight', 'backbone.norm3.bias'} if 'convnext' in path else set()
        assert trained == {'head.fc.weight', 'head.fc.bias'} | free
    else:
        assert len(trained) == len(list(model.parameters()))


@pytest.mark.parametrize('path', [p for p in CLASSIFICATION if 'linear_' not in p])
def test_table_a(path):
    config = read(path)
    optimizer = config.optim_wrapper.optimizer
    base = 1e-3 if 'micro' in path else 1e-3 * config.auto_scale_lr.base_batch_size / 256
    assert (optimizer.type, optimizer.weight_decay) == ('AdamW', 0.05)
    assert optimizer.lr == pytest.approx(base)
    assert tuple(optimizer.betas) == (0.9, 0.999)
    assert config.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.75
    assert config.model.backbone.drop_path_rate == 0.1
    assert config.model.head.loss.label_smooth_val == 0.1
    assert [(a.type, a.alpha) for a in config.model.train_cfg.augments] == [
        ('Mixup', 0.8),
        ('CutMix', 1.0),
    ]
    (augment,) = (t for t in config.train_dataloader.dataset.pipeline if t.type == 'RandAugment')
    assert augment.magnitude_std == 0.5
    assert augment.magnitude_level == (4.5 if 'micro' in path else 9)


def test_every_combination_of_classes_is_trained():
    trained = set(map(structure, TRAINED))
    assert [path for path in CLASSIFICATION if structure(path) not in trained] == []


@pytest.mark.slow
@pytest.mark.parametrize('path', TRAINED)
def test_trains_one_iteration_at_reduced_size(path, folder, tmp_path):
    config = reduced(path, folder, tmp_path / 'work')
    pretrained = {}
    if 'scratch_' in path:
        assert 'pretrained_backbone' not in config.default_hooks
    else:
        method = 'beit' if '_beit-' in path else METHODS[kind_of(path)]
        pretrained = save_pretrained(method, tmp_path / 'pretrained.pth')
        assert config.default_hooks.pretrained_backbone.checkpoint == 'none'
        config.default_hooks.pretrained_backbone.checkpoint = str(tmp_path / 'pretrained.pth')
    runner, before, after = train(config)
    assert runner.iter == 1
    assert 0 <= runner.message_hub.get_scalar('val/accuracy/top1').current() <= 100
    assert not torch.equal(after['head.fc.weight'], before['head.fc.weight'])
    for name, value in expected_start(method, pretrained).items() if pretrained else ():
        assert torch.equal(before[f'backbone.{name}'], value), name
    # a linear probe does not change the backbone, the others do
    changed = [k for k in before if 'backbone.' in k and not torch.equal(before[k], after[k])]
    assert bool(changed) != ('linear_' in path)
