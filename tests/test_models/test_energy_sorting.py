"""Sorting against an independent reference: equation 7 on a ViT in plain torch, float64."""

import copy
import functools

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.structures import DataSample
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmebm import EnergySortingAlgorithm
from mmebm.autograd import why_not_compiled
from mmebm.backbones.patch_dropout import kept_patches
from mmebm.backbones.position_embedding import (
    find_position_embedding,
    first_transformer_layer,
    forward_with_positions,
    sincos_position_embedding,
)
from mmebm.models import energy_sorting
from mmebm.models.energy_sorting import nearest_positions, random_orders
from mmebm.models.sorting_augmentation import mask_patch_edges
from tests.backbones import ARCH, BACKBONES, NORMALISATION, vit_energy
from tests.derivatives import assert_gradients_equal

SIDE, PATCHES = 32, 16  # images of 32², patches of 8²
BATCH = 2


def build(name='ViT', head_std=0.5, backbone=None, **options):
    config, channels = BACKBONES[name]
    torch.manual_seed(0)
    model = EnergySortingAlgorithm(
        backbone=copy.deepcopy(config) | dict(backbone or {}),
        head=dict(type='EnergyHead', in_channels=channels),
        data_preprocessor=NORMALISATION,
        **options,
    )
    model.init_weights()
    torch.nn.init.normal_(model.head.fc.weight, std=head_std)
    return model


def images(batch=BATCH, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, SIDE, SIDE, dtype=dtype, generator=generator)


@pytest.fixture
def draws(monkeypatch):
    """Fix the random draws of training: order, kept patches and edge widths."""
    generator = torch.Generator().manual_seed(2)
    order = torch.stack([torch.randperm(PATCHES, generator=generator) for _ in range(BATCH)])
    kept = torch.tensor([[0, 3, 4, 5, 9, 12, 14, 15], [1, 2, 3, 7, 8, 9, 10, 11]])
    monkeypatch.setattr(energy_sorting, 'random_orders', lambda noise: order)
    monkeypatch.setattr(energy_sorting, 'kept_patches', lambda noise, ratio: kept)
    return order, kept


def energy(model, x, embedding, kept):
    """The class token keeps its embedding, which is zero."""
    tokens = torch.cat([embedding.new_zeros(len(x), 1, 32), embedding], 1)
    return vit_energy(model, x, tokens, kept)


def reference(model, x, order, kept, num_steps):
    """Equation 7, all patches in a loop, no function of the project but the sin-cos values."""
    true = sincos_position_embedding((4, 4), 32).double()
    embedding = torch.stack([true[o] for o in order])
    losses = []
    with sdpa_kernel(SDPBackend.MATH):
        for _ in range(num_steps):
            embedding = embedding.detach().requires_grad_()
            score = energy(model, x, embedding, kept).sum()
            (gradient,) = torch.autograd.grad(score, embedding, create_graph=True)
            # the energy averages over K of L patches, so each of them gets L / K of its gradient
            alpha = model.log_step_size.exp() * kept.shape[1] / PATCHES
            embedding = embedding - alpha * gradient
            errors = [(e[k] - true[k]) ** 2 for e, k in zip(embedding, kept, strict=True)]
            losses.append(torch.stack(errors).mean())
    loss = sum(losses) / num_steps
    parameters = {k: p for k, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return losses, dict(zip(parameters, gradients, strict=True))


@pytest.mark.parametrize('num_steps', [1, 3])
@pytest.mark.parametrize('name', ['ViT', 'timm ViT'])
def test_loss_and_every_gradient_equal_the_reference(name, num_steps, draws):
    model = build(name, num_steps=num_steps, step_size=20.0, edge_widths=(0,)).double()
    x = images()
    losses, gradients = reference(model, x, *draws, num_steps)
    outputs = model(x, mode='loss')
    outputs['loss'].backward()
    torch.testing.assert_close(outputs['loss'], sum(losses) / num_steps, rtol=1e-10, atol=0)
    for n, loss in enumerate(losses, 1):
        torch.testing.assert_close(outputs[f'distance_step{n}'], loss.detach(), rtol=1e-10, atol=0)
    assert_gradients_equal(model, gradients)
    assert find_position_embedding(model.backbone).value.grad is None


@pytest.mark.slow
@pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))
def test_a_compiled_step_equals_the_plain_one_with_the_patches_of_each_iteration(monkeypatch):
    # One graph, of which no code is generated: that takes a minute.
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))
    found = []
    for compile_step in (False, True):
        model = build(compile_step=compile_step, num_steps=1, step_size=20.0)
        torch.manual_seed(0)
        losses = [model(images(dtype=torch.float32), mode='loss')['loss'] for _ in range(3)]
        losses[-1].backward()
        found.append((torch.stack(losses).detach(), model.head.fc.weight.grad))
    assert model._differentiate.compiled is not None
    assert len(found[1][0].unique()) == 3
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_the_network_sees_masked_edges_in_training_and_validation(monkeypatch):
    model, x, seen = build(edge_widths=(2,)), images(1, torch.float32), []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.loss(x)
    model.predict(x)
    expected = x.reshape(1, 3, 4, 8, 4, 8).clone()
    for edge in (0, 1, -2, -1):
        expected[:, :, :, edge] = 0
        expected[..., edge] = 0
    assert seen
    assert all(torch.equal(image, expected.reshape(x.shape)) for image in seen)


class TestDraws:
    def test_orders_are_permutations_one_per_image(self):
        orders = random_orders(torch.rand(50, 9))
        assert torch.equal(orders.sort(1).values, torch.arange(9).expand(50, -1))
        assert len({tuple(order.tolist()) for order in orders}) > 45
        # uniform: each position gets each embedding about equally often
        share = (random_orders(torch.rand(9000, 9)) == torch.arange(9)).double().mean(0)
        torch.testing.assert_close(share, torch.full_like(share, 1 / 9), atol=0.02, rtol=0)

    @pytest.mark.parametrize(('length', 'ratio', 'kept'), [(16, 0.5, 8), (9, 0.5, 5), (16, 0, 16)])
    def test_dropout_keeps_exactly_its_share_of_each_image_its_own(self, length, ratio, kept):
        patches = kept_patches(torch.rand(3000, length), ratio)
        assert patches.shape == (3000, kept)
        assert (patches.diff(dim=1) > 0).all()  # ascending, so all different
        often = patches.flatten().bincount(minlength=length) / 3000
        torch.testing.assert_close(often, torch.full((length,), kept / length), atol=0.05, rtol=0)
        assert (len(patches.unique(dim=0)) > 100) == (ratio > 0)

    def test_edge_widths_are_drawn_for_each_patch_half_and_half(self):
        model = build(edge_widths=(1, 2))
        x = torch.ones(400, 3, SIDE, SIDE)
        masked, _ = model.disorder(x, torch.rand(400, 3, PATCHES))
        patches = masked.reshape(400, 3, 4, 8, 4, 8)
        left = patches.mean((1, 3, 5)).flatten()  # the share of pixels left
        one, two = (left.sub(share).abs() < 1e-6 for share in (36 / 64, 16 / 64))
        assert (one | two).all()
        assert one.double().mean() == pytest.approx(0.5, abs=0.02)
        assert x.all()  # the caller's images are unchanged

    def test_edges_of_literal_patches(self):
        images = torch.arange(1.0, 81.0).reshape(1, 2, 5, 8).repeat(2, 1, 1, 1)
        masked = mask_patch_edges(images, torch.tensor([[1, 0], [0, 0]]), (5, 4))
        assert masked[0, 0].tolist() == [
            [0, 0, 0, 0, 5, 6, 7, 8],
            [0, 10, 11, 0, 13, 14, 15, 16],
            [0, 18, 19, 0, 21, 22, 23, 24],
            [0, 26, 27, 0, 29, 30, 31, 32],
            [0, 0, 0, 0, 37, 38, 39, 40],
        ]
        # all channels the same, each image its own
        assert torch.equal(masked[0, 1] == 0, masked[0, 0] == 0)
        assert torch.equal(masked[1], images[1])
        rows = mask_patch_edges(torch.ones(1, 1, 8, 4), torch.tensor([[0, 1]]), (4, 4))
        assert rows[0, 0].sum(1).tolist() == [4, 4, 4, 4, 0, 2, 2, 0]


def test_nearest_positions():
    true = torch.eye(3)
    embedding = torch.tensor([[0.1, 0.9, 0.2], [5.0, 0.0, 0.0], [0.0, 0.0, float('nan')]])
    assert nearest_positions(embedding, true).tolist() == [1, 0, -1]
    grid = sincos_position_embedding((14, 14), 384)
    assert torch.equal(nearest_positions(grid[None], grid)[0], torch.arange(196))


@pytest.mark.parametrize('name', ['ViT', 'timm ViT'])
def test_the_true_embedding_is_the_plain_forward_pass(name):
    model, x = build(name), images(dtype=torch.float32)
    with torch.no_grad():
        find_position_embedding(model.backbone).value[:, 0] += 3  # the class token keeps its own
        true = model.true_embedding.expand(len(x), -1, -1)
        found = forward_with_positions(model.backbone, x, true)[-1]
        assert torch.equal(found, model.backbone(x)[-1])
    with pytest.raises(ValueError, match=r'32 × 32 pixels.*64.*img_size'):
        model.loss(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize('name', ['ViT', 'timm ViT'])
def test_half_of_the_patches_enter_the_layers_the_same_in_every_step(name, monkeypatch):
    model, seen, kept = build(name, num_steps=3), [], []
    layer = first_transformer_layer(model.backbone)
    layer.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
    only = model.selection.only
    monkeypatch.setattr(model.selection, 'only', lambda k: kept.append(k) or only(k))
    model(images(dtype=torch.float32), mode='loss')
    assert seen == [1 + PATCHES // 2] * 4  # with _check_graph
    assert len(kept) == 1
    assert not torch.equal(*kept[0])  # each image its own
    seen.clear()
    model.predict(images(dtype=torch.float32))
    assert {*seen} == {1 + PATCHES}  # none is dropped


@pytest.mark.parametrize('name', ['ViT', 'timm ViT'])
def test_the_backbone_is_untouched_after_a_step_and_an_error(name):
    model = build(name)
    weights, parameters = copy.deepcopy(model.backbone.state_dict()), [*model.backbone.parameters()]
    model(images(dtype=torch.float32), mode='loss')['loss'].backward()
    model.predict(images(dtype=torch.float32))
    first_transformer_layer(model.backbone).register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images(dtype=torch.float32), mode='loss')
    assert all(a is b for a, b in zip(model.backbone.parameters(), parameters, strict=True))
    assert model.selection.kept is None
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, weights[key])


class TestFixedEmbedding:
    expected = sincos_position_embedding((4, 4), 32)

    def check(self, model):
        found = find_position_embedding(model.backbone)
        assert torch.equal(found.value[0, 1:], self.expected)
        assert not found.value[0, 0].any()
        assert torch.equal(model.true_embedding, self.expected)
        assert not found.value.requires_grad

    @pytest.mark.parametrize('name', ['ViT', 'timm ViT'])
    def test_after_building_initialising_loading_and_training(self, name):
        model = build(name)
        self.check(model)
        model.init_weights()
        state = copy.deepcopy(model.state_dict())
        for key in state:
            if key.endswith('pos_embed'):
                state[key].normal_()  # of a run with a trained embedding
        model.load_state_dict(copy.deepcopy(state))
        self.check(model)
        load_state_dict(model, copy.deepcopy(state))  # MMEngine's, as load_from and resume call it
        self.check(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
        model(images(dtype=torch.float32), mode='loss')['loss'].backward()
        optimizer.step()
        self.check(model)
        self.check(copy.deepcopy(model))


class TestPrediction:
    def samples(self, numbers):
        return [DataSample(metainfo=dict(sample_idx=n)) for n in numbers]

    def test_fields_are_those_of_the_chain(self):
        model, x = build(num_steps=2, step_size=50.0), images(3, torch.float32)
        samples = model(x, self.samples([4, 5, 6]), mode='predict')
        masked, order = model._validation_disorder(x, samples)
        chain = model.sort(masked, model.true_embedding[order])
        assert chain.shape == (3, 3, PATCHES, 32)
        assert not chain.requires_grad
        distance = (chain[-1][:, :, None] - model.true_embedding).square().sum(-1)
        true = model.true_embedding.expand(3, -1, -1)
        for i, sample in enumerate(samples):
            assert torch.equal(sample.shuffled_positions, order[i])
            assert torch.equal(sample.restored_positions, distance[i].argmin(-1))
            torch.testing.assert_close(sample.energy_clean, model.energy(masked, true)[i])
        with torch.no_grad():
            energy = model.energy(masked, chain[0])
        torch.testing.assert_close(torch.stack([s.energy_corrupted for s in samples]), energy)

    def test_an_image_is_shuffled_and_masked_the_same_in_any_batch(self):
        model, x = build(), images(3, torch.float32)
        together = model.predict(x, self.samples([7, 8, 9]))
        torch.rand(5)
        (alone,) = model.predict(x[1:2], self.samples([8]))
        assert torch.equal(alone.shuffled_positions, together[1].shuffled_positions)
        torch.testing.assert_close(alone.energy_corrupted, together[1].energy_corrupted)
        assert not torch.equal(together[0].shuffled_positions, together[1].shuffled_positions)

    def test_needs_the_number_of_the_image(self):
        with pytest.raises(ValueError, match=r"sample_idx.*meta_keys=\('sample_idx'"):
            build().predict(images(dtype=torch.float32), [DataSample(), DataSample()])


@pytest.mark.parametrize('name', ['ResNet', 'Swin', 'ConvNeXt'])
def test_backbones_without_an_absolute_position_embedding_are_refused(name):
    with pytest.raises(ValueError, match=f'{name}.* has no absolute position embedding'):
        build(name)


def test_other_vision_transformers_work_as_they_are():
    """Two extra tokens (distilled DeiT), an embedding for patches only (DeiT III, timm)."""
    common = dict(arch=ARCH, img_size=32, patch_size=8)
    timm = BACKBONES['timm ViT'][0] | dict(no_embed_class=True, reg_tokens=4)
    pooled = common | dict(out_type='avg_featmap')
    for backbone in (
        dict(type='DistilledVisionTransformer', **pooled),
        dict(type='DeiT3', **common),
        dict(type='VisionTransformer', **pooled, with_cls_token=False),
        timm,
    ):
        model = EnergySortingAlgorithm(backbone, dict(type='EnergyHead', in_channels=32))
        torch.nn.init.normal_(model.head.fc.weight)
        shapes = []
        first_transformer_layer(model.backbone).register_forward_hook(
            lambda module, args, output, shapes=shapes: shapes.append(output.shape[1])
        )
        outputs = model(images(dtype=torch.float32), mode='loss')
        outputs['loss'].backward()
        assert outputs['distance_step1'] != outputs['distance_step0']
        model.predict(images(dtype=torch.float32))
        extra = shapes[-1] - PATCHES
        assert shapes[:2] == [extra + PATCHES // 2] * 2


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        (dict(num_steps=0), ValueError, 'num_steps.*≥ 1.*got 0'),
        (dict(edge_widths=2), TypeError, 'edge_widths.*got 2'),
        (dict(edge_widths=()), TypeError, r'edge_widths.*got \(\)'),
        (dict(edge_widths=(1, True)), TypeError, 'edge_widths.*True'),
        (dict(edge_widths=(1, 4)), ValueError, r'edge_widths.*0\.\.3.*8 × 8.*\(1, 4\)'),
        (dict(patch_drop_ratio=1.0), ValueError, r'patch_drop_ratio.*≥ 0 and < 1.*1\.0'),
        (dict(backbone=dict(out_type='featmap')), ValueError, "out_type='featmap'.*avg_featmap"),
    ],
)
def test_impossible_options(options, error, match):
    with pytest.raises(error, match=match):
        build(**options)


def test_inputs_of_a_corruption_are_refused():
    x = images(dtype=torch.float32)
    with pytest.raises(TypeError, match=r'got 2 of them.*no corruption'):
        build()([x, x], mode='loss')
    assert build()([x], mode='loss')['loss'] > 0
