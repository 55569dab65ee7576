"""Hidden patches in restoration against an independent reference, plain torch, float64.

The reference has no attention mask: it runs the intact patches alone, and then the corrupted ones
one by one, each beside the keys and values of the intact ones.
"""

import pytest
import torch
from torch.nn import functional as F

from mmebm.backbones import changed_patches, hidden_patches, patch_dropout
from tests.backbones import BACKBONES, build_algorithm
from tests.derivatives import assert_gradients_equal

PATCHES, SIDE = 16, 8  # images of 32², patches of 8²
CORRUPTED = torch.tensor([[0, 3, 4, 5, 9, 14], [1, 2, 7, 8, 10, 15]])


def box(patch):
    top, left = SIDE * (int(patch) // 4), SIDE * (int(patch) % 4)
    return slice(None), slice(top, top + SIDE), slice(left, left + SIDE)


def pair():
    """Two clean images and their corrupted copies, (2, 3, 32, 32); one pixel tells them apart."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=generator)
    corrupted = clean.clone()
    for i, patches in enumerate(CORRUPTED):
        for patch in patches:
            corrupted[i][box(patch)] = 0.0
    corrupted[0][:, 0, 0] = clean[0][:, 0, 0]
    return corrupted, clean


def hidden():
    return torch.zeros(2, PATCHES, dtype=torch.bool).scatter_(1, CORRUPTED, True)


class MMPretrainLayers:
    def __init__(self, vit):
        self.vit, self.layers = vit, vit.layers

    def embed(self, x):
        return self.vit.patch_embed.projection(x).flatten(2).mT

    def parts(self, layer):
        return layer.ln1, layer.attn, layer.ln2, layer.ffn.layers

    def pooled(self, extra, patches):  # without the class token, then normalised
        return self.vit.ln2(patches.mean(0))


class TimmLayers:
    def __init__(self, vit):
        self.vit, self.layers = vit.timm_model, vit.timm_model.blocks

    def embed(self, x):
        return self.vit.patch_embed.proj(x).flatten(2).mT

    def parts(self, layer):
        return layer.norm1, layer.attn, layer.norm2, layer.mlp

    def pooled(self, extra, patches):  # normalised, then averaged with the class token
        return self.vit.norm(torch.cat([extra, patches])).mean(0)


def attend(attention, queries, context):
    """Two heads of 16 channels; queries (q, 32), context (c, 32), both already normalised."""
    q, _, _ = attention.qkv(queries).chunk(3, -1)
    _, k, v = attention.qkv(context).chunk(3, -1)
    heads = []
    for h in (slice(0, 16), slice(16, 32)):
        heads.append(((q[:, h] @ k[:, h].T) / 4.0).softmax(-1) @ v[:, h])
    return attention.proj(torch.cat(heads, -1))


def one_energy(model, layers, image, corrupted, kept):
    """Energy of an image (C, 32, 32), of whose patches ``kept`` enter the layers."""
    vit = layers.vit
    tokens = layers.embed(image[None])[0] + vit.pos_embed[0, 1:]
    intact = [int(p) for p in kept if p not in corrupted]
    broken = [tokens[[int(p)]] for p in kept if p in corrupted]
    seen = torch.cat([vit.cls_token[0] + vit.pos_embed[0, :1], tokens[intact]])
    for layer in layers.layers:
        norm1, attention, norm2, mlp = layers.parts(layer)
        new = []
        for token in broken:  # (1, D)
            context = norm1(torch.cat([seen, token]))
            token = token + attend(attention, norm1(token), context)
            new.append(token + mlp(norm2(token)))
        seen = seen + attend(attention, norm1(seen), norm1(seen))
        seen, broken = seen + mlp(norm2(seen)), new
    return layers.pooled(seen[:1], torch.cat([seen[1:], *broken])) @ model.head.fc.weight[0]


def reference(model, layers, corrupted, clean, kept, num_steps):
    """Listing 1 on the kept patches, descending on the corrupted ones."""
    x, losses, energies = corrupted, [], []
    step_size = model.log_step_size.exp() * kept.shape[1] / PATCHES
    for _ in range(num_steps):
        x = x.detach().requires_grad_()
        each = zip(x, CORRUPTED, kept, strict=True)
        e = torch.stack([one_energy(model, layers, *image) for image in each])
        (gradient,) = torch.autograd.grad(e.sum(), x, create_graph=True)
        steps = []
        for step, patches in zip(gradient, CORRUPTED, strict=True):
            chosen = torch.zeros_like(step)
            for patch in patches:
                chosen[box(patch)] = 1.0
            steps.append(step * chosen)
        x = x.detach() - step_size * torch.stack(steps)
        losses.append(F.smooth_l1_loss(pixels(x, kept), pixels(clean, kept)))
        energies.append(e.mean().detach())
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        sum(losses) / num_steps, list(parameters.values()), allow_unused=True
    )
    return x, losses, energies, dict(zip(parameters, gradients, strict=True))


def pixels(x, kept):
    return torch.stack([torch.stack([i[box(p)] for p in k]) for i, k in zip(x, kept, strict=True)])


@pytest.mark.parametrize('drop', [0.0, 0.25])
@pytest.mark.parametrize(('name', 'layers'), [('ViT', MMPretrainLayers), ('timm ViT', TimmLayers)])
def test_loss_and_every_gradient_equal_the_reference(name, layers, drop, monkeypatch):
    drawn, draw = [torch.arange(PATCHES).expand(2, -1)], patch_dropout.kept_patches

    def record(noise, ratio):
        drawn.append(draw(noise, ratio))
        return drawn[-1]

    monkeypatch.setattr(patch_dropout, 'kept_patches', record)
    options = dict(num_steps=2, step_size=50.0, patch_drop_ratio=drop, hide_corrupted=True)
    model = build_algorithm(name, **options).double()
    corrupted, clean = pair()
    outputs = model([corrupted, clean], mode='loss')
    outputs['loss'].backward()
    _, losses, energies, gradients = reference(
        model, layers(model.backbone), corrupted, clean, drawn[-1], num_steps=2
    )
    torch.testing.assert_close(outputs['loss'], sum(losses) / 2, rtol=1e-10, atol=0)
    for n in range(2):
        torch.testing.assert_close(outputs[f'distance_step{n + 1}'], losses[n].detach())
        torch.testing.assert_close(outputs[f'energy_step{n}'], energies[n])
    assert_gradients_equal(model, gradients)


def test_restored_images_equal_the_reference_and_keep_the_intact_pixels():
    model = build_algorithm(num_steps=2, step_size=50.0, hide_corrupted=True).double().eval()
    corrupted, clean = pair()
    chain = model.restore(corrupted, hidden=hidden())
    everything = torch.arange(PATCHES).expand(2, -1)
    x, *_ = reference(model, MMPretrainLayers(model.backbone), corrupted, clean, everything, 2)
    torch.testing.assert_close(chain[-1], x.detach(), rtol=1e-10, atol=1e-10)
    changed = changed_patches(model.backbone, chain[-1], corrupted)
    assert torch.equal(changed, hidden())
    samples = model([corrupted, clean], mode='predict')
    restored = torch.stack([s.restored for s in samples])
    torch.testing.assert_close(restored, model.to_pixels(x.detach()))
    energy = torch.stack([s.energy_clean for s in samples])
    torch.testing.assert_close(energy, model.energy(clean, hidden()).float())
    assert (energy != model.energy(clean).float()).all()
    for chain, image in zip(model.validation_chains([corrupted, clean]), restored, strict=True):
        torch.testing.assert_close(torch.from_numpy(chain.images[-1]).permute(2, 0, 1), image)


def test_intact_patches_are_dropped_last():
    model = build_algorithm(patch_drop_ratio=0.5)
    corrupted, _ = pair()
    with model.patch_dropout.drawn(corrupted, last=hidden()):
        kept = model.patch_dropout.kept
    # 6 patches are to be dropped last, and 8 are kept
    assert all(set(c.tolist()) < set(k.tolist()) for c, k in zip(CORRUPTED, kept, strict=True))


def test_the_patches_of_a_pair():
    corrupted, clean = pair()
    assert torch.equal(changed_patches(build_algorithm().backbone, corrupted, clean), hidden())


def test_no_effect_is_an_error():
    with pytest.raises(ValueError, match='scaled_dot_product_attention'), hidden_patches(hidden()):
        torch.ones(2).softmax(0)
    q = torch.ones(2, 1, PATCHES, 4)
    with pytest.raises(ValueError, match='mask of its own'), hidden_patches(hidden()):
        F.scaled_dot_product_attention(q, q, q, torch.ones(PATCHES, PATCHES, dtype=torch.bool))


def test_restoring_needs_to_know_what_is_corrupted():
    corrupted, _ = pair()
    with pytest.raises(ValueError, match=r'hide_corrupted=True.*hidden=None'):
        build_algorithm(hide_corrupted=True).double().restore(corrupted)
    with pytest.raises(ValueError, match=r'hide_corrupted=False.*hidden=patches'):
        build_algorithm().double().restore(corrupted, hidden=hidden())


@pytest.mark.parametrize('name', sorted(set(BACKBONES) - {'ViT', 'timm ViT'}))
def test_other_backbones_are_refused(name):
    with pytest.raises(ValueError, match='hide_corrupted=True is not possible'):
        build_algorithm(name, hide_corrupted=True)


def test_layers_that_are_recomputed_are_refused():
    with pytest.raises(ValueError, match='recompute'):
        build_algorithm(hide_corrupted=True, recompute=['layers.*'])


def test_the_option_is_true_or_false():
    with pytest.raises(TypeError, match='hide_corrupted'):
        build_algorithm(hide_corrupted=1)
