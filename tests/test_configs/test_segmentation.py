"""Every segmentation config: full size, recipe, initial weights, and a few iterations."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from tests.pretrained import ARCH, built, finetuning_config

from .common import SEGMENTATION, read, shorten, train, without_memory

pytestmark = pytest.mark.slow  # all configs

try:
    import mmseg.models  # noqa: F401
except ImportError as error:  # not installed, or OpenMMLab's own without mmcv's compiled ops
    pytest.skip(f'MMSegmentation cannot be imported: {error}', allow_module_level=True)

VIT, BEIT, MICRO, CONVNEXT, SWIN, TIMM = (
    next(path for path in SEGMENTATION if f'_{name}' in path)
    for name in ('vit-base', 'beit-base', 'vit-micro', 'convnext', 'swin', 'timm')
)
# parameters of the backbone in millions: a ViT's position embedding grows with the image, and
# ConvNeXt and Swin have three more norms than as classifiers
MILLIONS = {VIT: 86.4, BEIT: 86.2, MICRO: 2.9, CONVNEXT: 27.8, SWIN: 27.5, TIMM: 23.5}
# backbones of a few thousand parameters: in pretraining, and what segmentation changes
SMALL = {
    'VisionTransformer': (
        finetuning_config('energy', arch=ARCH | dict(num_layers=4)),
        dict(img_size=64, out_type='featmap', out_indices=[0, 1, 2, 3]),
    ),
    'ConvNeXt': (dict(arch=dict(depths=[1, 1, 3, 1], channels=[8, 8, 16, 16])), {}),
    'SwinTransformer': (dict(arch=dict(embed_dims=8, depths=[2] * 4, num_heads=[1] * 4)), {}),
}
SMALL['TIMMBackbone'] = (
    dict(model_name='test_resnet'),
    dict(features_only=True, out_indices=(1, 2, 3, 4)),
)
SMALL['BEiTViT'] = SMALL['VisionTransformer']
CHANNELS = {
    'BEiTViT': [16] * 4,
    'VisionTransformer': [16] * 4,
    'ConvNeXt': [8, 8, 16, 16],
    'SwinTransformer': [8, 16, 32, 64],
    'TIMMBackbone': [32, 48, 192, 96],
}
NEW_NORMS = [f'norm{i}.{name}' for i in range(3) for name in ('weight', 'bias')]


def kind_of(path):
    return read(path).model.backbone.type.removeprefix('mmpretrain.')


def save_pretrained(path, kind):
    """Write a checkpoint as our runs do; return the tensors of its backbone."""
    head = dict(type='EnergyHead', in_channels=CHANNELS[kind][-1])
    backbone = SMALL[kind][0] | dict(type=kind)
    model = built(dict(type='EnergyRestorationAlgorithm', backbone=backbone, head=head))
    torch.save(dict(meta=dict(epoch=1), state_dict=model.state_dict()), path)
    return model.backbone.state_dict()


@pytest.fixture(autouse=True)
def _scope():
    """A runner of MMSegmentation leaves its scope in the process; other tests need MMPretrain's."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images of a white and a black half, in ADE20K's layout: 1, 2 and, on the border, 0."""
    folder = tmp_path_factory.mktemp('ade')
    rng = np.random.default_rng(0)
    for part in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (folder / kind / part).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 100, (70, 90, 3), dtype=np.uint8)
            pixels[:, :40] += 150
            labels = np.full((70, 90), 2, np.uint8)
            labels[:, :40] = 1
            labels[:, 38:42] = 0
            Image.fromarray(pixels).save(folder / 'images' / part / f'{i}.jpg')
            Image.fromarray(labels).save(folder / 'annotations' / part / f'{i}.png')
    return folder


def reduced(path, folder, work_dir, pretrained='none', max_iters=1):
    """The config with a small backbone, small heads and images of 64²."""
    config = read(path)
    kind = kind_of(path)
    small = SMALL[kind][0] | SMALL[kind][1]
    config.model.backbone.update(small | dict(type=config.model.backbone.type))
    if 'neck' in config.model:
        config.model.neck.embed_dim = 16
    config.model.data_preprocessor.size = (64, 64)
    config.model.decode_head.update(in_channels=CHANNELS[kind], channels=8)
    config.model.auxiliary_head.update(in_channels=CHANNELS[kind][2], channels=8)
    if config.model.test_cfg.mode == 'slide':
        config.model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    sizes = {key: dict(scale=(256, 64)) for key in ('RandomResize', 'Resize')}
    shorten(config, folder, work_dir, sizes | dict(RandomCrop=dict(crop_size=(64, 64))))
    config.train_cfg.update(max_iters=max_iters, val_interval=max_iters)
    config.default_hooks.pretrained_backbone.checkpoint = str(pretrained)
    config.default_hooks.logger.interval = 1
    return config


@pytest.mark.parametrize('path', SEGMENTATION)
def test_builds_at_full_size(path):
    config = read(path)
    with without_memory():
        model = MODELS.build(dict(config.model, _scope_='mmseg'))
    millions = sum(p.numel() for p in model.backbone.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[path], abs=0.05)
    assert all(p.requires_grad for p in model.parameters())

    height, width = config.model.data_preprocessor.size
    features = model.extract_feat(torch.empty(2, 3, height, width, device='meta'))
    strides = (2, 4, 8, 16) if path == MICRO else (4, 8, 16, 32)
    assert [f.shape[2:] for f in features] == [(height // s, width // s) for s in strides]
    logits = model.decode_head(features)
    assert logits.shape == (2, 150, height // strides[0], width // strides[0])
    shape = model.auxiliary_head(features).shape
    assert shape == (2, 150, height // strides[2], width // strides[2])


@pytest.mark.slow
@pytest.mark.parametrize('path', [VIT, CONVNEXT, SWIN, TIMM])
def test_starts_from_our_checkpoint_and_trains(path, folder, tmp_path):
    kind = kind_of(path)
    pretrained = save_pretrained(tmp_path / 'a.pth', kind)
    config = reduced(path, folder, tmp_path / 'work', tmp_path / 'a.pth')
    runner, before, _ = train(config)
    assert runner.iter == 1
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100
    assert (tmp_path / 'work/iter_1.pth').is_file()

    names = {name.removeprefix('backbone.') for name in before if name.startswith('backbone.')}
    new = {'pos_embed'} if kind == 'VisionTransformer' else set(NEW_NORMS)  # resized, or random
    for name in names - new:
        assert torch.equal(before[f'backbone.{name}'], pretrained[name]), name
    # at the first learning rate, 1e-10, weights hardly move; but DistributedDataParallel needs a
    # gradient for each
    state = runner.optim_wrapper.optimizer.state
    moments = {n: state[p]['exp_avg'].abs().max() for n, p in runner.model.named_parameters()}
    for part in ('backbone', 'decode_head', 'auxiliary_head'):
        assert max(value for name, value in moments.items() if name.startswith(part)) > 0


@pytest.mark.slow
def test_overfits(folder, tmp_path):
    """The images that it trained on are its validation set."""
    save_pretrained(tmp_path / 'a.pth', 'VisionTransformer')
    config = reduced(MICRO, folder, tmp_path / 'work', tmp_path / 'a.pth', max_iters=40)
    config.param_scheduler = []
    config.optim_wrapper.optimizer.lr = 1e-2
    config.val_dataloader.dataset.data_prefix = config.train_dataloader.dataset.data_prefix
    runner, *_ = train(config)
    assert runner.message_hub.get_scalar('val/aAcc').current() > 90
