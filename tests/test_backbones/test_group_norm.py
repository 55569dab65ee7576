"""Batch norm couples the energies of a batch; group norm gives each image its own."""

import pytest
import torch
from mmpretrain.registry import MODELS
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mmebm import EnergyRestorationAlgorithm, GroupNormBackbone, load_backbone
from mmebm.backbones import group_norm as batch_norm
from tests.backbones import VIT

RESNET = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
# a norm fused with its activation, and norms of vectors
BACKBONES = {
    'ResNet': (RESNET, 64),
    'timm': (dict(type='TIMMBackbone', model_name='mobilenetv3_small_050'), 1024),
    'LeViT': (dict(type='LeViT', arch='128s', img_size=64), 384),
}
SOUND = {
    **{
        f'GroupNormBackbone of {name}': (dict(type='GroupNormBackbone', backbone=config), channels)
        for name, (config, channels) in BACKBONES.items()
    },
    'norm_eval': (dict(**RESNET, norm_eval=True), 64),
}


def build(config, channels):
    torch.manual_seed(0)
    model = EnergyRestorationAlgorithm(config, dict(type='EnergyHead', in_channels=channels))
    model.init_weights()
    nn.init.normal_(model.head.fc.weight)
    for module in model.modules():  # drop path is not tested here
        if 'Drop' in type(module).__name__:
            module.p = module.drop_prob = 0.0
    return model.double().train()


def images(batch):
    return torch.randn(batch, 3, 64, 64, dtype=torch.float64)


def gradients(model, x):
    """Of the first image: of the energy of the batch, as in the descent, and of its own energy."""
    x = x.requires_grad_()
    energies = model.energy(x)
    (of_all,) = torch.autograd.grad(energies.sum(), x, retain_graph=True)
    (of_one,) = torch.autograd.grad(energies[0], x)
    return of_all[0], of_one[0]


@pytest.mark.parametrize('name', BACKBONES)
def test_batch_norm_couples_the_images_of_a_batch(name):
    model = build(*BACKBONES[name])
    x = images(4)
    other = torch.cat([x[:1], images(3)])
    energy = model.energy(x)[0]
    assert (model.energy(other)[0] - energy).abs() > 0.01 * energy.abs()
    of_all, of_one = gradients(model, x)
    assert (of_all - of_one).norm() > 0.1 * of_one.norm()
    model.eval()
    assert (model.energy(x)[0] - energy).abs() > 0.01 * energy.abs()


@pytest.mark.parametrize('name', SOUND)
def test_the_sound_ways_do_not(name):
    model = build(*SOUND[name])
    x = images(4)
    energies = model.energy(x)
    assert energies.std() > 0
    for i in range(4):
        torch.testing.assert_close(model.energy(x[i : i + 1])[0], energies[i])
    of_all, of_one = gradients(model, x)
    assert of_one.abs().sum() > 0
    torch.testing.assert_close(of_all, of_one)
    model.eval()
    torch.testing.assert_close(model.energy(x), energies)
    model.train().loss([x, images(4)])['loss'].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ('channels', 'num_groups', 'groups'),
    [(512, 32, 32), (64, 32, 8), (24, 32, 3), (50, 32, 5), (13, 32, 1), (64, 1, 1)],
)
def test_groups(channels, num_groups, groups):
    before = nn.BatchNorm2d(channels, eps=0.1)
    nn.init.normal_(before.weight)
    nn.init.normal_(before.bias)
    after = GroupNormBackbone(nn.Sequential(before), num_groups)[0]
    x = torch.randn(2, channels, 3, 3)
    expected = F.group_norm(x, groups, before.weight, before.bias, 0.1)
    torch.testing.assert_close(after(x), expected)
    assert after.weight is before.weight
    assert after.bias is before.bias


def test_activations_synchronised_and_shared_norms():
    shared = nn.SyncBatchNorm(16)
    fused = BatchNormAct2d(16, act_layer=nn.SiLU)
    model = GroupNormBackbone(nn.Sequential(shared, shared, fused, nn.BatchNorm1d(8, affine=False)))
    assert not any(isinstance(m, _BatchNorm) for m in model.modules())
    assert model[0] is model[1]
    assert model[3].weight is None
    x = torch.randn(2, 16, 3, 3)
    torch.testing.assert_close(model[2](x), F.silu(F.group_norm(x, 2)))
    torch.testing.assert_close(model[0](x), F.group_norm(x, 2))


def test_tensors_keep_their_names_and_do_not_fill_a_network_with_batch_norm(tmp_path):
    config = dict(type='GroupNormBackbone', backbone=RESNET)
    plain, per_image = MODELS.build(RESNET), MODELS.build(config)
    assert type(per_image) is type(plain)
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in per_image.named_parameters()] == names
    torch.save(per_image.state_dict(), tmp_path / 'backbone.pth')
    assert load_backbone(MODELS.build(config), tmp_path / 'backbone.pth').share == 1
    with pytest.raises(ValueError, match='running_mean'):
        load_backbone(plain, tmp_path / 'backbone.pth')


def test_a_warning_names_the_sound_way(monkeypatch):
    said = []
    monkeypatch.setattr(batch_norm, 'print_log', lambda text, **_: said.append(text))
    build(RESNET, 64)
    assert 'ResNet has 20 batch norms (bn1, ...)' in said[0]
    assert "type='GroupNormBackbone'" in said[0]
    build(*SOUND['norm_eval'])
    build(VIT, 32)
    assert len(said) == 1


def test_bad_input():
    for num_groups in (0, -1, 2.0, True, None):
        with pytest.raises((TypeError, ValueError), match=f'num_groups .* got {num_groups!r}'):
            GroupNormBackbone(RESNET, num_groups)
    with pytest.raises(ValueError, match='VisionTransformer has no batch norm'):
        GroupNormBackbone(VIT)
