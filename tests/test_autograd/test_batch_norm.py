"""Batch norm in training: PyTorch's values, and derivatives that know one image only."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

from mmebm import EnergyRestorationAlgorithm
from mmebm.autograd import twice_differentiable
from tests.derivatives import derivatives

BACKBONES = {  # the last two: a norm fused with its activation, and norms of vectors
    'ResNet': (dict(type='ResNet', depth=18, base_channels=8, stem_channels=8), 64),
    'timm': (dict(type='TIMMBackbone', model_name='mobilenetv3_small_050'), 1024),
    'LeViT': (dict(type='LeViT', arch='128s', img_size=64), 384),
}
NORMS = {
    '2-d': (nn.BatchNorm2d(3), (4, 3, 5, 5)),
    'vectors': (nn.BatchNorm1d(3, eps=0.1), (4, 3)),
    '3-d, average over all': (nn.BatchNorm3d(3, momentum=None), (2, 3, 2, 2, 2)),
    'no weights': (nn.BatchNorm2d(3, affine=False), (4, 3, 5, 5)),
    'no statistics': (nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 5)),
    'fused': (BatchNormAct2d(3, act_layer=nn.SiLU), (4, 3, 5, 5)),
}


def images(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize('name', NORMS)
def test_values_and_statistics_are_pytorchs(name):
    norm, shape = NORMS[name]
    norm = norm.double().train()
    start = {name: value.clone() for name, value in norm.state_dict().items()}
    batches, found = [1 + 2 * images(*shape) for _ in range(3)], []
    for context in (torch.enable_grad(), twice_differentiable(norm)):
        norm.load_state_dict(start)
        with context:
            outputs = [norm(x) for x in batches]
        found.append((outputs, {n: value.clone() for n, value in norm.state_dict().items()}))
    torch.testing.assert_close(*found)
    if 'running_mean' in start:
        assert not torch.equal(found[0][1]['running_mean'], start['running_mean'])


@pytest.mark.parametrize('training', [True, False])
def test_derivatives_take_the_statistics_as_constants(training):
    weight, bias, mean = images(3), images(3), images(3)
    var = torch.rand(3, dtype=torch.float64) + 0.1

    def found(x, weight, bias):
        with twice_differentiable(nn.Identity()):
            return F.batch_norm(x, mean.clone(), var.clone(), weight, bias, training).sin()

    def reference(x, weight, bias):
        m, v = (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)) if training else (mean, var)
        m, v, w, b = (value[:, None, None] for value in (m.detach(), v.detach(), weight, bias))
        return ((x - m) / (v + 1e-5).sqrt() * w + b).sin()

    inputs = [x.requires_grad_() for x in (images(4, 3, 5, 5), weight, bias)]
    torch.testing.assert_close(derivatives(found, inputs), derivatives(reference, inputs))


@pytest.mark.parametrize('name', BACKBONES)
def test_the_gradient_of_an_image_knows_no_other(name):
    config, channels = BACKBONES[name]
    torch.manual_seed(0)
    model = EnergyRestorationAlgorithm(config, dict(type='EnergyHead', in_channels=channels))
    model.init_weights()
    nn.init.normal_(model.head.fc.weight)
    for module in model.modules():  # drop path is not tested here
        if 'Drop' in type(module).__name__:
            module.p = module.drop_prob = 0.0
    model.double().train()
    x = images(4, 3, 64, 64).requires_grad_()

    def difference():
        """Of the first image's gradients: with the energies of its batch, and with its own."""
        energies = model.energy(x)
        (of_all,) = torch.autograd.grad(energies.sum(), x, retain_graph=True)
        (of_one,) = torch.autograd.grad(energies[0], x)
        assert of_one[0].norm() > 0
        return (of_all - of_one)[0].norm() / of_one[0].norm()

    assert difference() > 0.1  # PyTorch's own
    with twice_differentiable(model.backbone):
        assert difference() < 1e-9
    model.loss([x.detach(), images(4, 3, 64, 64)])['loss'].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_training_and_evaluation_descend_alike():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 3, 3), norm := nn.BatchNorm2d(3, momentum=1.0), nn.SiLU())
    head = dict(type='EnergyHead', in_channels=3)
    model = EnergyRestorationAlgorithm(backbone, head, num_steps=1).double()
    nn.init.normal_(model.head.fc.weight)
    corrupted, clean = images(8, 3, 16, 16), images(8, 3, 16, 16)
    log = model.train().loss([corrupted, clean])
    norm.running_var.mul_(1 - 1 / (8 * 14 * 14))  # PyTorch keeps the variance of n - 1
    restored = model.eval().restore(corrupted)[-1]
    torch.testing.assert_close(F.smooth_l1_loss(restored, clean), log['distance_step1'])


def test_norm_eval_keeps_the_statistics():
    backbone, channels = BACKBONES['ResNet']
    head = dict(type='EnergyHead', in_channels=channels)
    model = EnergyRestorationAlgorithm(backbone, head, norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    model.loss([torch.randn(2, 3, 32, 32)] * 2)['loss'].backward()
    assert all(norm.num_batches_tracked == 0 for norm in norms)
    assert model.backbone.training
    with pytest.raises(TypeError, match='norm_eval must be True or False, got 1'):
        EnergyRestorationAlgorithm(backbone, head, norm_eval=1)


def test_a_single_value_per_channel_is_refused_as_pytorch_does():
    norm = nn.BatchNorm2d(3).train()
    with pytest.raises(ValueError, match='more than 1 value'), twice_differentiable(norm):
        norm(torch.randn(1, 3, 1, 1))
