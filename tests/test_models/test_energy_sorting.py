"""Sorting against an independent reference: equation 7 on a ViT in plain torch, float64."""

import copy
import functools

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.registry import MODELS
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
from tests.backbones import BACKBONES, NORMALISATION
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


def mmpretrain_energy(model, x, embedding, kept):
    """MMPretrain's ViT, its patches averaged and normalised once, by its layers."""
    vit = model.backbone
    patches = vit.patch_embed.projection(x).flatten(2).transpose(1, 2) + embedding
    patches = torch.stack([p[k] for p, k in zip(patches, kept, strict=True)])
    # the class token keeps its embedding, which is zero
    tokens = torch.cat([vit.cls_token.expand(len(x), -1, -1), patches], 1)
    for layer in vit.layers:
        tokens = layer(tokens)
    return vit.ln2(tokens[:, 1:].mean(1)) @ model.head.fc.weight[0]


def timm_energy(model, x, embedding, kept):
    """timm's ViT without its classifier, by its blocks; the head averages all tokens."""
    vit = model.backbone.timm_model
    patches = vit.patch_embed.proj(x).flatten(2).transpose(1, 2) + embedding
    patches = torch.stack([p[k] for p, k in zip(patches, kept, strict=True)])
    tokens = torch.cat([vit.cls_token.expand(len(x), -1, -1), patches], 1)
    for block in vit.blocks:
        tokens = block(tokens)
    return vit.norm(tokens).mean(1) @ model.head.fc.weight[0]


ENERGIES = {'ViT': mmpretrain_energy, 'timm ViT': timm_energy}


def reference(energy, model, x, order, kept, num_steps):
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
@pytest.mark.parametrize('name', ENERGIES)
def test_loss_and_every_gradient_equal_the_reference(name, num_steps, draws):
    model = build(name, num_steps=num_steps, step_size=20.0, edge_widths=(0,)).double()
    x = images()
    losses, gradients = reference(ENERGIES[name], model, x, *draws, num_steps)
    outputs = model(x, mode='loss')
    outputs['loss'].backward()
    torch.testing.assert_close(outputs['loss'], sum(losses) / num_steps, rtol=1e-10, atol=0)
    for n, loss in enumerate(losses, 1):
        torch.testing.assert_close(outputs[f'distance_step{n}'], loss.detach(), rtol=1e-10, atol=0)
    assert_gradients_equal(model, gradients)
    assert find_position_embedding(model.backbone).value.grad is None


def test_kept_patches_move_as_far_as_without_dropout():
    """For an energy that is a mean over tokens: α is trained on K patches and used on all L."""
    torch.manual_seed(0)
    model = build(edge_widths=(0,), step_size=20.0, num_steps=1).double()
    scores = torch.randn(3, PATCHES, 32, dtype=torch.float64)
    true = model.true_embedding.expand(3, -1, -1)
    moved = {}
    for share in (1.0, 0.5):
        kept = kept_patches(torch.rand(3, PATCHES), 1 - share)

        def energy(embedding, kept=kept):
            tokens = (scores * embedding.sin()).sum(-1) * model.head.fc.weight.mean()  # (B, L)
            return tokens.gather(1, kept).mean(1)

        def distance(embedding, share=share):
            moved[share] = (embedding - true).detach()
            return embedding.square().mean()

        model.chain_loss(energy, distance, true, seen_share=share)
        seen = torch.zeros(3, PATCHES, dtype=torch.bool).scatter(1, kept, True)
    assert moved[1.0].abs().min() > 0
    torch.testing.assert_close(moved[0.5][seen], moved[1.0][seen])
    assert not moved[0.5][~seen].any()


@pytest.mark.slow
@pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))
def test_a_compiled_step_equals_the_plain_one_with_the_patches_of_each_iteration(monkeypatch):
    # One graph, of which no code is generated: that takes a minute.
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))
    backbone = dict(arch=BACKBONES['ViT'][0]['arch'] | dict(num_layers=1))
    losses, gradients = {}, {}
    for compile_step in (False, True):
        options = dict(num_steps=1, step_size=20.0, patch_drop_ratio=0.5)
        model = build(backbone=backbone, compile_step=compile_step, **options)
        torch.manual_seed(0)
        outputs = [model(images(dtype=torch.float32), mode='loss') for _ in range(3)]
        outputs[-1]['loss'].backward()
        losses[compile_step] = torch.stack([output['loss'] for output in outputs])
        gradients[compile_step] = model.head.fc.weight.grad
    assert model._differentiate.compiled is not None
    assert len(losses[True].unique()) == 3
    torch.testing.assert_close(losses[True], losses[False])
    torch.testing.assert_close(gradients[True], gradients[False], rtol=1e-4, atol=1e-6)


def test_the_network_sees_masked_edges_in_training_and_validation(monkeypatch):
    model, x = build(edge_widths=(1, 2)), images(1, torch.float32)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    noise = torch.full((1, 3, PATCHES), 0.6)  # draws the second width for every patch
    monkeypatch.setattr(torch, 'rand', lambda *_, **__: noise)
    model.loss(x)
    monkeypatch.setattr(energy_sorting, 'validation_noise', lambda *_: noise[:, :2])
    model.predict(x)
    expected = x.reshape(1, 3, 4, 8, 4, 8).clone()
    for edge in (0, 1, -2, -1):
        expected[:, :, :, edge] = 0
        expected[..., edge] = 0
    assert len(seen) == 1 + model.num_steps + model.num_steps + 2  # the first: _check_graph
    for image in seen:
        assert torch.equal(image, expected.reshape(x.shape))


def test_without_a_shuffle_the_loss_of_step_0_is_zero(monkeypatch):
    assert build()(images(dtype=torch.float32), mode='loss')['distance_step0'] > 0.01
    monkeypatch.setattr(
        energy_sorting, 'random_orders', lambda noise: torch.arange(PATCHES).expand(len(noise), -1)
    )
    outputs = build()(images(dtype=torch.float32), mode='loss')
    assert outputs['distance_step0'] == 0
    assert outputs['distance_step1'] > 0


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
        two = mask_patch_edges(images[:1], torch.tensor([[2]]), (5, 8))
        assert two[0, 0].nonzero().tolist() == [[2, 2], [2, 3], [2, 4], [2, 5]]
        rows = mask_patch_edges(torch.ones(1, 1, 8, 4), torch.tensor([[0, 1]]), (4, 4))
        assert rows[0, 0].sum(1).tolist() == [4, 4, 4, 4, 0, 2, 2, 0]


def test_nearest_positions():
    true = torch.eye(3)
    embedding = torch.tensor([[0.1, 0.9, 0.2], [5.0, 0.0, 0.0], [0.0, 0.0, float('nan')]])
    assert nearest_positions(embedding, true).tolist() == [1, 0, -1]
    grid = sincos_position_embedding((14, 14), 384)
    assert torch.equal(nearest_positions(grid[None], grid)[0], torch.arange(196))
    noisy = grid + 0.01 * torch.randn(grid.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(nearest_positions(noisy, grid), torch.arange(196))


@pytest.mark.parametrize('name', ENERGIES)
class TestForwardWithPositions:
    def tokens(self, model, x, embedding):
        """The input of the first transformer layer, recorded by a hook."""
        seen = []
        layer = first_transformer_layer(model.backbone)
        norm = layer.ln1 if hasattr(layer, 'ln1') else layer.norm1  # MMPretrain's name, timm's
        handle = norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        forward_with_positions(model.backbone, x, embedding)
        handle.remove()
        return seen[0]

    def test_the_true_embedding_is_the_plain_forward_pass(self, name):
        model, x = build(name), images(dtype=torch.float32)
        with torch.no_grad():
            expected = model.backbone(x)[-1]
            got = forward_with_positions(
                model.backbone, x, model.true_embedding.expand(len(x), -1, -1)
            )[-1]
        assert torch.equal(got, expected)

    def test_each_image_gets_its_own_embedding_and_the_class_token_keeps_its(self, name):
        model, x = build(name), images(dtype=torch.float32)
        zero, embedding = torch.zeros(BATCH, PATCHES, 32), torch.randn(BATCH, PATCHES, 32)
        without, tokens = self.tokens(model, x, zero), self.tokens(model, x, embedding)
        torch.testing.assert_close(tokens[:, 1:] - without[:, 1:], embedding)
        assert torch.equal(tokens[:, 0], without[:, 0])
        kept = torch.tensor([[0, 5, 15], [2, 3, 4]])
        with model.selection.only(kept):
            seen = self.tokens(model, x, embedding)
        for image, numbers in enumerate(kept):
            assert torch.equal(seen[image], tokens[image, [0, *(numbers + 1)]])
        with torch.no_grad():
            find_position_embedding(model.backbone).value[:, 0] += 3  # not zero
        after = self.tokens(model, x, zero)
        torch.testing.assert_close(after[:, 0] - without[:, 0], torch.full((BATCH, 32), 3.0))
        assert torch.equal(after[:, 1:], without[:, 1:])

    def test_images_of_another_size_are_refused(self, name):
        model = build(name)
        with pytest.raises(ValueError, match=r'32 × 32 pixels.*64.*img_size'):
            model.loss(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize('name', ENERGIES)
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


def snapshot(module):
    """Everything that a module holds, hooks included."""
    modules = {}
    for name, part in module.named_modules():
        modules[name] = {
            key: (list(value) if isinstance(value, dict) else value)
            for key, value in vars(part).items()
        }
    return modules


@pytest.mark.parametrize('name', ENERGIES)
def test_the_backbone_is_untouched_after_a_step(name):
    model = build(name)
    before, weights = snapshot(model.backbone), copy.deepcopy(model.backbone.state_dict())
    identities = [id(p) for p in model.backbone.parameters()]
    order = list(model.backbone.state_dict())
    forwards = [type(m).forward for m in model.backbone.modules()]
    model(images(dtype=torch.float32), mode='loss')['loss'].backward()
    model.predict(images(dtype=torch.float32))
    assert snapshot(model.backbone) == before
    assert list(model.backbone.state_dict()) == order
    assert identities == [id(p) for p in model.backbone.parameters()]
    assert forwards == [type(m).forward for m in model.backbone.modules()]
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, weights[key])
    last = first_transformer_layer(model.backbone).register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images(dtype=torch.float32), mode='loss')
    last.remove()
    assert snapshot(model.backbone) == before


class TestFixedEmbedding:
    expected = sincos_position_embedding((4, 4), 32)

    def check(self, model):
        found = find_position_embedding(model.backbone)
        assert torch.equal(found.value[0, 1:], self.expected)
        assert not found.value[0, 0].any()
        assert torch.equal(model.true_embedding, self.expected)
        assert not found.value.requires_grad

    @pytest.mark.parametrize('name', ENERGIES)
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

    def test_a_pretrained_backbone_keeps_its_other_weights(self, tmp_path):
        donor = build().backbone.state_dict()
        donor['pos_embed'] = torch.randn_like(donor['pos_embed'])
        donor['layers.0.ln1.weight'] = torch.full_like(donor['layers.0.ln1.weight'], 7.0)
        torch.save(dict(state_dict=donor), tmp_path / 'donor.pth')
        init = dict(type='Pretrained', checkpoint=str(tmp_path / 'donor.pth'))
        model = build(backbone=dict(init_cfg=init))
        self.check(model)
        assert (model.backbone.layers[0].ln1.weight == 7).all()


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

    def test_a_small_step_lowers_the_energy(self):
        model, x = build(step_size=0.1).double(), images()
        embedding = model.true_embedding[torch.randperm(PATCHES).expand(BATCH, -1)]
        before, after = (model.energy(x, e) for e in model.sort(x, embedding, 1))
        assert (after < before).all()

    def test_a_zero_head_leaves_the_shuffled_order(self):
        model = build(head_std=0.0)
        for sample in model.predict(images(dtype=torch.float32)):
            assert torch.equal(sample.restored_positions, sample.shuffled_positions)

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


def test_mixed_precision_is_close_to_float32():
    torch.manual_seed(3)
    model, x = build(step_size=50.0), images(dtype=torch.float32)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(4)
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses.append(model(x, mode='loss')['loss'])
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=0)


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='ResNet', depth=18),
        dict(type='SwinTransformer', arch='tiny', img_size=32),
        dict(type='BEiTViT', arch='deit-tiny', img_size=32, patch_size=8),
    ],
    ids=lambda backbone: backbone['type'],
)
def test_backbones_without_an_absolute_position_embedding_are_refused(backbone):
    with pytest.raises(ValueError, match=f'{backbone["type"]} has no absolute position embedding'):
        EnergySortingAlgorithm(backbone, dict(type='EnergyHead', in_channels=32))


def test_other_vision_transformers_work_as_they_are():
    """Two extra tokens (distilled DeiT), an embedding for patches only (DeiT III, timm)."""
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    common = dict(arch=arch, img_size=32, patch_size=8)
    timm = BACKBONES['timm ViT'][0] | dict(no_embed_class=True, reg_tokens=4)
    for backbone in (
        dict(type='DistilledVisionTransformer', **common, out_type='avg_featmap'),
        dict(type='DeiT3', **common),
        dict(type='VisionTransformer', **common, out_type='avg_featmap', with_cls_token=False),
        timm,
    ):
        model = EnergySortingAlgorithm(
            MODELS.build(dict(backbone)), dict(type='EnergyHead', in_channels=32)
        )
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
        (dict(edge_widths=(-1,)), ValueError, r'edge_widths.*\(-1,\)'),
        (dict(patch_drop_ratio=1.0), ValueError, r'patch_drop_ratio.*≥ 0 and < 1.*1\.0'),
        (dict(patch_drop_ratio='half'), TypeError, 'patch_drop_ratio.*half'),
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
