"""Inpainting: an energy of masked patches, conditioned on what the backbone makes of the others."""

import functools

import pytest
import torch
from torch.nn import functional as F

from mmebm import EnergyInpaintingAlgorithm
from mmebm.autograd.compiling import why_not_compiled
from tests import zero_head
from tests.backbones import BACKBONES
from tests.pretrained import ARCH

SIDE, PATCH, GRID = 16, 4, 4
L = GRID * GRID
VIT = dict(zero_head.VIT, arch=ARCH, out_type='raw', final_norm=True)  # of 16², patches of 4²
TIMM = dict(BACKBONES['timm ViT'][0], img_size=SIDE, patch_size=PATCH, depth=1, embed_dim=16)
HEAD = dict(
    type='PatchEnergyHead', in_channels=16, grid=GRID, patch_size=PATCH, embed_dims=8, num_heads=2
)


def build(backbone=VIT, head_std=1.0, described=False, **options):
    torch.manual_seed(0)
    head = HEAD
    if described:
        head = HEAD | dict(extra_values=12)
        options['target_generator'] = dict(type='PatchHOG', patch_size=PATCH, pool=4, nbins=4)
    model = EnergyInpaintingAlgorithm(backbone, head, **options)
    model.init_weights()
    torch.nn.init.normal_(model.head.fc.weight, std=head_std)
    return model.double()


def normalised(values):
    """One patch's values ``(P,)`` with mean 0 and variance 1."""
    variance = ((values - values.mean()) ** 2).sum() / (values.numel() - 1)
    return (values - values.mean()) / (variance + 1e-6) ** 0.5


def batch(number=2, num_masked=12):
    """Corrupted and clean images, and which patches are masked."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(number, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    masked = torch.rand(number, L, generator=generator).argsort(1) < num_masked
    pixels = F.interpolate(masked.view(-1, 1, GRID, GRID).double(), scale_factor=PATCH)
    return clean * (1 - pixels), clean, masked


def cut(image, patch):
    row, column = divmod(int(patch), GRID)
    rows, columns = (slice(PATCH * i, PATCH * (i + 1)) for i in (row, column))
    return image[:, rows, columns]


def attended(layer, token, context):
    """A token ``(8,)`` after it has attended to a context ``(S, 8)``, in 2 heads of 4 channels."""
    query = layer.query_key_value(layer.norm1(token))[:8]
    keys, values = layer.query_key_value(layer.norm1(context))[:, 8:].chunk(2, -1)
    seen = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = (keys[:, head] @ query[head] / 4**0.5).exp()
        seen.append((weights / weights.sum()) @ values[:, head])
    token = token + layer.project(torch.cat(seen))
    return token + layer.perceptron(layer.norm2(token))


def reference_energy(model, image, masked, patches):
    """The energy of one image from the definition: patch by patch, attention by its formula."""
    vit, head = model.backbone, model.head
    embed = vit.patch_embed.projection
    tokens = [vit.cls_token[0, 0] + vit.pos_embed[0, 0]]
    visible = [i for i in range(L) if not masked[i]]
    for i in visible:
        projected = (embed.weight * cut(image, i)).sum((1, 2, 3)) + embed.bias
        tokens.append(projected + vit.pos_embed[0, 1 + i])
    tokens = torch.stack(tokens)[None]
    for layer in vit.layers:
        tokens = layer(tokens)
    context = head.embed_context(vit.ln1(tokens))[0]
    context = torch.cat([context[:1], context[1:] + head.positions[visible]])  # (1 + K, E)
    contexts = []
    for layer in head.layers:
        contexts.append(context)
        context = torch.stack([attended(layer, token, context) for token in context])
    total = 0.0
    for i, patch in zip([i for i in range(L) if masked[i]], patches, strict=True):
        token = head.embed_patches(patch.flatten()) + head.positions[i]
        for layer, context in zip(head.layers, contexts, strict=True):
            token = attended(layer, token, torch.cat([context, token[None]]))
        total = total + (head.fc.weight[0] * head.norm(token)).sum()
    return total / L


@pytest.mark.parametrize(
    ('num_steps', 'norm_pix', 'described'),
    [(1, True, False), (2, False, False), (1, True, True), (2, False, True)],
)
def test_loss_and_gradients_equal_the_definition(num_steps, norm_pix, described):
    model = build(num_steps=num_steps, step_size=5.0, norm_pix=norm_pix, described=described)
    corrupted, clean, masked = batch()
    loss = model.loss([corrupted, clean])['loss']
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters()}

    expected = 0.0
    for image, target, mask in zip(corrupted, clean, masked, strict=True):
        numbers = mask.nonzero()[:, 0]
        x = torch.stack([cut(image, i).flatten() for i in numbers])
        wanted = torch.stack([cut(target, i).flatten() for i in numbers])
        if norm_pix:
            wanted = torch.stack([normalised(w) for w in wanted])
        if described:
            x = torch.cat([x, x.new_zeros(len(x), 12)], 1)
            histograms = model.target_generator(target[None])[0, numbers].double()
            wanted = torch.cat([wanted, torch.stack([normalised(h) for h in histograms])], 1)
        for _ in range(num_steps):
            x = x.detach().requires_grad_()
            energy = reference_energy(model, image, mask, x)
            (gradient,) = torch.autograd.grad(energy, x, create_graph=True)
            x = x.detach() - model.log_step_size.exp() * gradient
            expected = expected + F.smooth_l1_loss(x, wanted) / num_steps / len(clean)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(expected, parameters, allow_unused=True)
    torch.testing.assert_close(loss, expected)
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient is not None, name  # nothing idles
        torch.testing.assert_close(found[name], gradient)
    assert found['backbone.patch_embed.projection.weight'].abs().max() > 1e-8


@pytest.mark.slow
@pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))
def test_a_compiled_step_equals_the_plain_one(monkeypatch):
    # traced, so that nothing hinders a compiler; what that makes of it is tested for restoration
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))
    found = {}
    for compile_step in (False, True):
        model = build(compile_step=compile_step, described=True)
        torch.manual_seed(1)
        model.loss(batch()[:2])['loss'].backward()
        found[compile_step] = [p.grad for p in model.parameters()]
    assert model._differentiate.compiled is not None
    torch.testing.assert_close(found[True], found[False])


@pytest.mark.parametrize(('backbone', 'described'), [(VIT, False), (TIMM, False), (VIT, True)])
def test_restores_masked_patches_alone(backbone, described):
    model = build(backbone, described=described).eval()
    corrupted, clean, masked = batch()
    steps = model.validation_steps([corrupted, clean], num_steps=3)
    chain = steps['images']  # no normalisation here
    assert chain.shape == (4, *clean.shape)
    assert torch.equal(chain[0], corrupted)
    pixels = F.interpolate(masked.view(-1, 1, GRID, GRID).double(), scale_factor=PATCH) > 0
    changed = (chain[1:] != corrupted).any(2, keepdim=True)
    assert torch.equal(changed, pixels.expand_as(changed))
    (sample, _) = model.predict([corrupted, clean])
    assert sample.energy_corrupted == steps['energies'][0, 0]
    assert sample.energy_clean == steps['clean_energies'][0]
    assert torch.equal(sample.restored, chain[2, 0])


def test_patches_of_mean_0_and_variance_1_borrow_those_of_the_clean_ones():
    model = build(norm_pix=True, num_steps=1).eval()
    corrupted, clean, masked = batch()
    given = model.split(corrupted, masked)
    plain = build(num_steps=1).eval().validation_steps([corrupted, clean])['images'][-1]
    steps = model.validation_steps([corrupted, clean])
    for image, start, found, numbers in zip(
        clean, plain, steps['images'][-1], given.masked, strict=True
    ):
        for i in numbers:
            patch, mean = cut(image, i), cut(image, i).mean()
            expected = cut(start, i) * (patch.var() + 1e-6).sqrt() + mean
            torch.testing.assert_close(cut(found, i), expected)
    untrained = build(norm_pix=True, head_std=0.0).validation_steps([corrupted, clean])['images']
    assert torch.equal(untrained[0], untrained[-1])  # what is borrowed is no gain
    # the energies are those of the patches that training sees
    patches = model.patches(plain, given.masked)
    torch.testing.assert_close(steps['energies'][1], model.energy(patches, given).float())
    target = model.target(clean, given.masked)
    torch.testing.assert_close(steps['clean_energies'], model.energy(target, given).float())


def test_starts_as_mae_and_changes_nothing():
    model = EnergyInpaintingAlgorithm(VIT, HEAD)
    model.init_weights()
    corrupted, clean = (x.float() for x in batch()[:2])
    assert torch.equal(model.validation_steps([corrupted, clean])['images'][-1], corrupted)
    weight = model.backbone.patch_embed.projection.weight
    bound = (6 / (3 * PATCH**2 + 16)) ** 0.5  # of Xavier, for a linear layer
    assert 0.9 * bound < weight.abs().max() <= bound
    assert model.backbone.layers[0].attn.qkv.bias.abs().max() == 0
    kept = EnergyInpaintingAlgorithm(VIT, HEAD, init_cfg=dict(type='Normal', layer='Linear'))
    before = kept.backbone.patch_embed.projection.weight.clone()
    kept.init_weights()
    assert torch.equal(kept.backbone.patch_embed.projection.weight, before)


def test_a_patch_of_the_masks_colour_counts_as_masked():
    corrupted, clean, masked = batch()
    first, second = masked.nonzero()[:2, 1].tolist()  # of the first image
    for patch in (first, second):
        cut(clean[0], patch)[:] = 0.0
    visible = (~masked[1]).nonzero()[0, 0]
    cut(clean[1], visible)[:] = cut(corrupted[1], visible)[:] = 0.5  # not missing there
    model = build()
    assert torch.equal(model.masked(corrupted, clean), masked)
    assert model.loss([corrupted, clean])['loss'].isfinite()
    assert model.validation_steps([corrupted, clean])['images'].isfinite().all()
    # a mask that leaves patches out, and no such patch
    cut(corrupted[0], first)[:] = cut(clean[0], first)[:] = torch.randn(3, PATCH, PATCH)
    with pytest.raises(ValueError, match='got 11 to 12'):
        model.loss([corrupted, clean])


def test_bad_options_and_input():
    hog = dict(type='PatchHOG', patch_size=PATCH, pool=PATCH)
    for options, error in (
        (dict(num_steps=0), 'num_steps must be an integer ≥ 1 for inpainting, got 0'),
        (dict(patch_drop_ratio=0.5), 'patch_drop_ratio'),
        (dict(head=HEAD | dict(grid=2)), r'head.grid=\(2, 2\) must be that of the backbone'),
        (dict(head=HEAD | dict(patch_size=8)), r'head.patch_size=\(8, 8\) must be'),
        (dict(head=HEAD | dict(extra_values=12)), 'head.extra_values=12 .* values=0'),
        (dict(target_generator=hog), 'head.extra_values=0 .* values=27'),
        (dict(target_generator=hog | dict(patch_size=8)), r'patch_size=\(8, 8\), values'),
        (dict(target_generator=dict(type='HOGGenerator')), 'HOGGenerator with patch_size=None'),
        (dict(head=dict(type='EnergyHead', in_channels=16)), 'head must be a PatchEnergyHead'),
        (dict(backbone=dict(type='ResNet', depth=18)), 'absolute position embedding'),
        (dict(head=HEAD | dict(num_heads=3)), 'embed_dims=8 must be a multiple of num_heads=3'),
        (dict(head=HEAD | dict(num_layers=0)), 'num_layers must be'),
        (dict(head=HEAD | dict(grid=(1, 2, 3))), 'grid must be one integer or two'),
    ):
        with pytest.raises((ValueError, TypeError), match=error):
            EnergyInpaintingAlgorithm(**dict(backbone=VIT, head=HEAD) | options)
    model = build()
    corrupted, _, masked = batch()
    masked[0, :] = False
    for wrong in (masked, masked & False, masked | True):
        with pytest.raises(ValueError, match='as many masked patches in each image'):
            model.split(corrupted, wrong)
    with pytest.raises(ValueError, match="set out_type='raw'"):
        build(VIT | dict(out_type='cls_token')).loss(batch()[:2])
    with pytest.raises(ValueError, match='built for images of 16 × 16 pixels, got'):
        model.loss([torch.zeros(1, 3, 32, 32)] * 2)
