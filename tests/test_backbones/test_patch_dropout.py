"""Patch dropout in restoration against an independent reference, plain torch, float64."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmebm.models import energy_restoration
from tests.backbones import BACKBONES, build_algorithm
from tests.derivatives import assert_gradients_equal

PATCHES, SIDE = 16, 8  # images of 32², patches of 8²
KEPT = torch.tensor([[0, 3, 4, 5, 9, 14], [1, 2, 7, 8, 10, 15]])


def images(batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 3, 32, 32, dtype=dtype, generator=generator) for _ in range(2)]


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setattr(energy_restoration, 'kept_patches', lambda noise, ratio: KEPT)


def kept_tokens(vit, tokens, embedding):
    """Of tokens (B, L, D) without their position embedding (1, T + L, D), the kept ones."""
    extra = vit.cls_token + embedding[:, :1]
    tokens = tokens + embedding[:, 1:]
    tokens = torch.stack([t[k] for t, k in zip(tokens, KEPT, strict=True)])
    return torch.cat([extra.expand(len(tokens), -1, -1), tokens], 1)


def mmpretrain_energy(model, x):
    """MMPretrain's ViT: the kept patches averaged, without the class token, and normalised."""
    vit = model.backbone
    tokens = kept_tokens(vit, vit.patch_embed.projection(x).flatten(2).mT, vit.pos_embed)
    for layer in vit.layers:
        tokens = layer(tokens)
    return vit.ln2(tokens[:, 1:].mean(1)) @ model.head.fc.weight[0]


def timm_energy(model, x):
    """timm's ViT without its classifier: the head averages all tokens."""
    vit = model.backbone.timm_model
    tokens = kept_tokens(vit, vit.patch_embed.proj(x).flatten(2).mT, vit.pos_embed)
    for block in vit.blocks:
        tokens = block(tokens)
    return vit.norm(tokens).mean(1) @ model.head.fc.weight[0]


def kept_pixels(x):
    """The pixels of the kept patches, cut out one by one: (B, K, C, 8, 8)."""
    rows = []
    for image, kept in zip(x, KEPT, strict=True):
        corners = [(SIDE * (int(k) // 4), SIDE * (int(k) % 4)) for k in kept]
        rows.append(torch.stack([image[:, t : t + SIDE, s : s + SIDE] for t, s in corners]))
    return torch.stack(rows)


def reference(energy, model, corrupted, clean, num_steps):
    """Listing 1 on the kept patches; an energy averaged over K patches takes K / L of the step."""
    x, losses = corrupted, []
    step_size = model.log_step_size.exp() * KEPT.shape[1] / PATCHES
    with sdpa_kernel(SDPBackend.MATH):
        for _ in range(num_steps):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(energy(model, x).sum(), x, create_graph=True)
            x = x - step_size * gradient
            losses.append(F.smooth_l1_loss(kept_pixels(x), kept_pixels(clean)))
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        sum(losses) / num_steps, list(parameters.values()), allow_unused=True
    )
    return losses, dict(zip(parameters, gradients, strict=True))


@pytest.mark.parametrize('num_steps', [1, 3])
@pytest.mark.parametrize(
    ('name', 'energy'), [('ViT', mmpretrain_energy), ('timm ViT', timm_energy)]
)
def test_loss_and_every_gradient_equal_the_reference(name, energy, num_steps, drawn):
    options = dict(num_steps=num_steps, step_size=50.0, patch_drop_ratio=0.6)
    model = build_algorithm(name, **options).double()
    corrupted, clean = images()
    losses, gradients = reference(energy, model, corrupted, clean, num_steps)
    outputs = model([corrupted, clean], mode='loss')
    outputs['loss'].backward()
    torch.testing.assert_close(outputs['loss'], sum(losses) / num_steps, rtol=1e-10, atol=0)
    distance = F.smooth_l1_loss(kept_pixels(corrupted), kept_pixels(clean))
    for n, loss in enumerate([distance, *losses]):
        torch.testing.assert_close(outputs[f'distance_step{n}'], loss.detach(), rtol=1e-10, atol=0)
    expected = energy(model, corrupted).mean().detach()
    torch.testing.assert_close(outputs['energy_step0'], expected)
    assert_gradients_equal(model, gradients)
    model.num_steps = 0
    torch.testing.assert_close(model.loss([corrupted, clean])['energy_step0'], expected)


def test_outside_of_training_every_patch_counts():
    model = build_algorithm(patch_drop_ratio=0.5, step_size=50.0).double()
    plain = build_algorithm(step_size=50.0).double()
    plain.load_state_dict(model.state_dict())
    corrupted, clean = images()
    model([corrupted, clean], mode='loss')
    assert model.training
    assert model.selection.kept is None
    assert torch.equal(model.restore(corrupted), plain.restore(corrupted))
    assert torch.equal(model.energy(corrupted), plain.energy(corrupted))
    assert (model.restore(corrupted)[1] != corrupted).flatten(2).any(-1).all()


def test_each_image_and_iteration_has_its_own_patches(monkeypatch):
    model, draws = build_algorithm(patch_drop_ratio=0.5), []
    draw = energy_restoration.kept_patches

    def record(noise, ratio):
        draws.append(draw(noise, ratio))
        return draws[-1]

    monkeypatch.setattr(energy_restoration, 'kept_patches', record)
    torch.manual_seed(0)
    for _ in range(2):
        model(images(dtype=torch.float32), mode='loss')
    assert len(draws) == 2  # the steps of a chain share them
    assert all(kept.shape == (2, 8) for kept in draws)
    sets = {tuple(kept.tolist()) for draw in draws for kept in draw}
    assert len(sets) == 4


def test_a_copy_drops_its_own_patches():
    model = build_algorithm(patch_drop_ratio=0.5)
    twin = copy.deepcopy(model)  # as MMEngine does for averaged weights
    x = images(dtype=torch.float32)[0]
    with twin.selection.only(KEPT):
        assert not torch.equal(twin.energy(x), model.energy(x))
    with pytest.raises(RuntimeError), twin.selection.only(KEPT):
        twin.energy(x[:1])
    assert torch.equal(twin.energy(x), model.energy(x))  # an error does not leave patches dropped
    assert model.state_dict().keys() == build_algorithm().state_dict().keys()


@pytest.mark.parametrize('name', ['ConvNeXt', 'Swin', 'ResNet'])
def test_backbones_without_droppable_patches_are_refused(name):
    with pytest.raises(ValueError, match=r'patch_drop_ratio=0.5 is not .* no absolute'):
        build_algorithm(name, patch_drop_ratio=0.5)


def test_other_bad_options_and_sizes_are_refused(monkeypatch):
    for ratio in (1.0, -0.1, True, float('nan'), 'half', None):
        with pytest.raises((TypeError, ValueError), match=f'patch_drop_ratio must be .*{ratio}'):
            build_algorithm(patch_drop_ratio=ratio)
    config, channels = BACKBONES['ViT']
    monkeypatch.setitem(BACKBONES, 'map', (config | dict(out_type='featmap'), channels))
    with pytest.raises(ValueError, match="out_type='featmap' needs all patches"):
        build_algorithm('map', patch_drop_ratio=0.5)
    model = build_algorithm(patch_drop_ratio=0.5)
    with pytest.raises(ValueError, match=r'32 × 32 pixels, got \(1, 3, 48, 48\)'):
        model([torch.zeros(1, 3, 48, 48)] * 2, mode='loss')


def test_nothing_is_entered_where_nothing_is_dropped():
    model = build_algorithm()
    assert not model.backbone.layers[0]._forward_pre_hooks
    assert not hasattr(model, 'selection')
