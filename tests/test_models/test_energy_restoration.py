"""The algorithm against an independent reference: the paper's Listing 1, plain torch, float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmebm import EnergyRestorationAlgorithm
from mmebm.backbones import find_position_embedding
from mmebm.models import energy_restoration
from tests.backbones import ARCH, BACKBONES, build_algorithm, vit_energy
from tests.derivatives import OnceOnly, assert_gradients_equal


def images(batch=2, size=32, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 3, size, size, dtype=dtype, generator=generator) for _ in range(2)]


def pooled_energy(model, x):
    """Features, pooled by hand."""
    features = model.backbone(x)[-1]
    channels = model.head.fc.in_features
    if features.dim() == 4:
        features = features.mean((2, 3) if features.shape[1] == channels else (1, 2))
    elif features.dim() == 3:
        features = features.mean(1)
    return features @ model.head.fc.weight[0]


def with_constant_statistics(norm, inputs, _):
    """What batch norm gives in training, written out; its statistics have no derivative."""
    (x,) = inputs
    mean, var = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), correction=0)
    shape = (-1, 1, 1)
    scale = norm.weight / (var + norm.eps).sqrt()
    return (x - mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)


def reference(model, corrupted, clean, num_steps, distance, energy=pooled_energy, share=1.0):
    """Listing 1: energies, gradients of pixels, criterion. Returns each step's loss, gradients."""
    losses, x = [], corrupted
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(with_constant_statistics) for norm in norms]
    with sdpa_kernel(SDPBackend.MATH):
        for _ in range(num_steps):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(energy(model, x).sum(), x, create_graph=True)
            x = x - share * model.log_step_size.exp() * gradient
            losses.append(distance(x, clean))
    for hook in hooks:
        hook.remove()
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        sum(losses) / num_steps, list(parameters.values()), allow_unused=True
    )
    return losses, dict(zip(parameters, gradients, strict=True))


def assert_loss_equals(model, pair, losses, gradients, share=0.7):
    """Compare loss, log and every gradient with the reference's; returns what the loss returned."""
    outputs = model(pair, mode='loss')
    outputs['loss'].backward()
    assert torch.isfinite(outputs['loss'])
    mean = sum(losses) / len(losses)
    torch.testing.assert_close(outputs['loss'], mean, rtol=1e-10, atol=0)
    for n, loss in enumerate(losses, 1):
        torch.testing.assert_close(outputs[f'distance_step{n}'], loss.detach(), rtol=1e-10, atol=0)
    assert f'distance_step{len(losses) + 1}' not in outputs
    assert_gradients_equal(model, gradients, share)
    return outputs


@pytest.mark.parametrize('name', BACKBONES)
def test_loss_and_every_gradient_equal_the_reference(name):
    model, pair = build_algorithm(name, step_size=20.0).double(), images()
    expected = reference(model, *pair, 2, F.smooth_l1_loss)
    # in a ReLU network, most biases do not influence ∇E
    assert_loss_equals(model, pair, *expected, share=0.25)


@pytest.mark.parametrize('num_steps', [1, 3])
@pytest.mark.parametrize(
    ('config', 'distance'),
    [
        (dict(type='MSELoss'), F.mse_loss),
        (dict(type='SmoothL1Loss', beta=0.5), lambda a, b: F.smooth_l1_loss(a, b, beta=0.5)),
    ],
)
def test_steps_and_distances(num_steps, config, distance):
    model = build_algorithm(num_steps=num_steps, restoration_loss=config, step_size=50.0).double()
    pair = images()
    outputs = assert_loss_equals(model, pair, *reference(model, *pair, num_steps, distance))
    torch.testing.assert_close(outputs['distance_step0'], distance(*pair))


KEPT = torch.tensor([[0, 3, 4, 5, 9, 14], [1, 2, 7, 8, 10, 15]])  # of 16 patches of 8²


def distance_of_kept(x, clean):
    """Patches cut out one by one."""
    pixels = []
    for pair, kept in zip(zip(x, clean, strict=True), KEPT, strict=True):
        corners = [(8 * (int(k) // 4), 8 * (int(k) % 4)) for k in kept]
        pixels += [[i[:, t : t + 8, s : s + 8] for i in pair] for t, s in corners]
    return F.smooth_l1_loss(*map(torch.stack, zip(*pixels, strict=True)))


def energy_of_kept(model, x):
    embedding = find_position_embedding(model.backbone).value
    return vit_energy(model, x, embedding, KEPT)


class TestPatchDropout:
    @pytest.mark.parametrize('num_steps', [1, 3])
    @pytest.mark.parametrize('name', ['ViT', 'timm ViT'])
    def test_equals_the_reference_on_the_kept_patches(self, name, num_steps, monkeypatch):
        """An energy averaged over K of L patches takes K / L of the step."""
        monkeypatch.setattr(energy_restoration, 'kept_patches', lambda noise, ratio: KEPT)
        options = dict(num_steps=num_steps, step_size=50.0, patch_drop_ratio=0.6)
        model, pair = build_algorithm(name, **options).double(), images()
        losses = reference(model, *pair, num_steps, distance_of_kept, energy_of_kept, 6 / 16)
        outputs = assert_loss_equals(model, pair, *losses)
        torch.testing.assert_close(outputs['distance_step0'], distance_of_kept(*pair))
        expected = energy_of_kept(model, pair[0]).mean().detach()
        torch.testing.assert_close(outputs['energy_step0'], expected)
        model.num_steps = 0
        torch.testing.assert_close(model.loss(pair)['energy_step0'], expected)

    def test_each_iteration_has_its_own_patches_and_the_rest_of_the_time_all_count(self):
        model = build_algorithm(patch_drop_ratio=0.5, step_size=50.0).double()
        plain = build_algorithm(step_size=50.0).double()
        assert model.state_dict().keys() == plain.state_dict().keys()
        assert not plain.backbone.layers[0]._forward_pre_hooks  # nothing is entered
        twin, pair = copy.deepcopy(model), images()  # as MMEngine does for averaged weights
        assert model.loss(pair)['loss'] != model.loss(pair)['loss']
        with twin.selection.only(KEPT):
            assert torch.equal(model.restore(pair[0]), plain.restore(pair[0]))
            with pytest.raises(RuntimeError):
                twin.energy(pair[0][:1])
        assert torch.equal(twin.energy(pair[0]), plain.energy(pair[0]))

    def test_impossible_shares_backbones_and_sizes(self, monkeypatch):
        for ratio in (1.0, -0.1, True, float('nan'), 'half', None):
            with pytest.raises((TypeError, ValueError), match=f'patch_drop_ratio must .*{ratio}'):
                build_algorithm(patch_drop_ratio=ratio)
        for name in ('ConvNeXt', 'Swin', 'ResNet'):
            with pytest.raises(ValueError, match=r'patch_drop_ratio=0.5 is not .* no absolute'):
                build_algorithm(name, patch_drop_ratio=0.5)
        config, channels = BACKBONES['ViT']
        monkeypatch.setitem(BACKBONES, 'map', (config | dict(out_type='featmap'), channels))
        with pytest.raises(ValueError, match="out_type='featmap' needs all patches"):
            build_algorithm('map', patch_drop_ratio=0.5)
        model = build_algorithm(patch_drop_ratio=0.5)
        with pytest.raises(ValueError, match=r'32 × 32 pixels, got \(1, 3, 48, 48\)'):
            model([torch.zeros(1, 3, 48, 48)] * 2, mode='loss')


def test_restore_is_the_chain_that_the_loss_measures():
    model = build_algorithm(num_steps=2, step_size=50.0).double()
    corrupted, clean = images()
    outputs = model([corrupted, clean], mode='loss')
    chain = model.restore(corrupted)
    assert chain.shape == (3, 2, 3, 32, 32)
    assert torch.equal(chain[0], corrupted)
    for n in (1, 2):
        torch.testing.assert_close(F.smooth_l1_loss(chain[n], clean), outputs[f'distance_step{n}'])
    with torch.no_grad():
        torch.testing.assert_close(model.restore(corrupted), chain)
        torch.testing.assert_close(model.energy(corrupted).mean(), outputs['energy_step0'])
    with torch.inference_mode():
        torch.testing.assert_close(model.restore(corrupted), chain)
    assert model.restore(corrupted, num_steps=0).shape[0] == 1
    assert model.restore(corrupted, num_steps=5).shape[0] == 6
    with pytest.raises(ValueError, match='-1'):
        model.restore(corrupted, num_steps=-1)


def test_the_zero_head_leaves_images_unchanged_and_still_learns():
    model = build_algorithm(head_std=0.0).double()
    corrupted, clean = images()
    assert torch.equal(model.restore(corrupted)[-1], corrupted)
    model([corrupted, clean], mode='loss')['loss'].backward()
    assert model.head.fc.weight.grad.abs().sum() > 0


def test_no_steps_is_the_logistic_loss_of_figure_a():
    model = build_algorithm(num_steps=0).double()
    corrupted, clean = images()
    outputs = model([corrupted, clean], mode='loss')
    with torch.no_grad():
        logits = torch.cat([model.energy(corrupted), model.energy(clean)])
    targets = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(outputs['loss'], F.binary_cross_entropy_with_logits(logits, targets))
    outputs['loss'].backward()
    assert model.head.fc.weight.grad.abs().sum() > 0
    assert model.log_step_size.grad == 0  # not reached, but not None: see GradientCollector


def test_step_size_is_learnt_by_its_logarithm_or_fixed():
    model = build_algorithm(step_size=20.0)
    corrupted, clean = images(dtype=torch.float32)
    optimizer = torch.optim.AdamW([model.log_step_size], lr=0.1, weight_decay=0.0)
    model([corrupted, clean], mode='loss')['loss'].backward()
    optimizer.step()
    # AdamW's first step is lr, up or down, in the logarithm
    assert abs(torch.log(model.step_size / 20.0).item()) == pytest.approx(0.1, rel=1e-3)
    fixed = build_algorithm(step_size=20.0, learnable_step_size=False)
    assert 'log_step_size' not in dict(fixed.named_parameters())
    assert 'log_step_size' in fixed.state_dict()
    assert fixed.step_size.item() == pytest.approx(20.0)
    fixed([corrupted, clean], mode='loss')['loss'].backward()


def test_predict_gives_pixels_and_energies():
    model = build_algorithm(step_size=20.0)
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, (2, 3, 32, 32), generator=generator) for _ in range(2)]
    batch = model.data_preprocessor(dict(inputs=pixels, data_samples=None), False)
    with torch.no_grad():
        samples = model(**batch, mode='predict')
    assert len(samples) == 2
    for i, sample in enumerate(samples):
        rgb = [p[i].flip(0).float() for p in pixels]
        torch.testing.assert_close(sample.corrupted, rgb[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(sample.clean, rgb[1], rtol=0, atol=1e-3)
        expected = model.to_pixels(model.restore(batch['inputs'][0])[-1][i])
        torch.testing.assert_close(sample.restored, expected)
        torch.testing.assert_close(
            sample.energy_clean, model.energy(batch['inputs'][1])[i].detach()
        )


def test_a_neck_stands_between_backbone_and_head():
    neck, x = torch.nn.Identity(), images(dtype=torch.float32)[0]
    neck.register_forward_hook(lambda module, args, features: [2 * f for f in features])
    plain, doubled = build_algorithm(), build_algorithm(neck=neck)
    torch.testing.assert_close(doubled.energy(x), 2 * plain.energy(x))


class FusedAttention(torch.nn.Module):
    """Attention through the fused kernel, whatever the context."""

    def forward(self, x):
        q = x.flatten(2).mT[:, None].contiguous()  # (B, 1, L, 3)
        out = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)[0]
        return (out[:, 0],)


class Once(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return (OnceOnly.apply(x) ** 2 * self.weight.view(1, 3, 1, 1),)


@pytest.mark.parametrize(
    ('backbone', 'operation'),
    [(FusedAttention(), '_scaled_dot_product_flash_attention_for_cpu'), (Once(), 'OnceOnly')],
)
def test_a_missing_second_derivative_is_named_at_the_first_step(backbone, operation):
    model = EnergyRestorationAlgorithm(backbone, dict(type='EnergyHead', in_channels=3))
    model.weight = torch.nn.Parameter(torch.ones(()))
    with pytest.raises(NotImplementedError, match=operation) as error:
        model(images(size=4, dtype=torch.float32), mode='loss')['loss'].backward()
    assert type(backbone).__name__ in str(error.value)


def test_reversible_layers_need_the_backward_of_autograd():
    backbone = dict(type='RevVisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    head = dict(type='EnergyHead', in_channels=64)
    inputs = images(dtype=torch.float32)
    with pytest.raises(NotImplementedError, match='RevBackProp'):
        EnergyRestorationAlgorithm(backbone, head).loss(inputs)
    model = EnergyRestorationAlgorithm(dict(**backbone, no_custom_backward=True), head)
    model.loss(inputs)['loss'].backward()
    assert model.head.fc.weight.grad.abs().sum() > 0


def test_other_errors_pass_through():
    model = build_algorithm()
    with pytest.raises(RuntimeError, match='size') as error:
        model([torch.randn(2, 4, 32, 32), torch.randn(2, 3, 32, 32)], mode='loss')
    assert not isinstance(error.value, NotImplementedError)


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        (dict(num_steps=-1), ValueError, 'num_steps.*-1'),
        (dict(num_steps=1.5), TypeError, 'num_steps.*1.5'),
        (dict(step_size=0), ValueError, 'step_size.*0'),
        (dict(step_size=float('nan')), ValueError, 'step_size.*nan'),
        (dict(compile_step=None), TypeError, 'compile_step.*None'),
        (dict(restoration_loss=dict(type='CrossEntropy')), ValueError, 'SmoothL1Loss.*CrossEnt'),
        (dict(restoration_loss=dict(type='MSELoss', reduction='none')), ValueError, 'reduction'),
        (dict(restoration_loss=torch.nn.L1Loss(reduction='none')), ValueError, 'reduction'),
    ],
)
def test_impossible_options(options, error, match):
    with pytest.raises(error, match=match):
        build_algorithm(**options)


@pytest.mark.parametrize('num_steps', [0, 2])
def test_a_loss_without_gradients_is_refused(num_steps):
    model, pair = build_algorithm(num_steps=num_steps), images(dtype=torch.float32)
    with torch.no_grad(), pytest.raises(ValueError, match=r"no_grad.*mode='predict'"):
        model.loss(pair)
    model.head.requires_grad_(False)
    model.loss(pair)['loss'].backward()  # partly frozen is fine
    model.requires_grad_(False)
    with pytest.raises(ValueError, match='no parameter to train'):
        model.loss(pair)


def test_inputs_without_a_corruption():
    model = build_algorithm()
    corrupted, clean = images(dtype=torch.float32)
    with pytest.raises(TypeError, match=r'Tensor.*corruption missing'):
        model(corrupted, mode='loss')
    with pytest.raises(TypeError, match='3 of them'):
        model([corrupted, clean, clean], mode='loss')


def test_the_first_look_at_the_graph_leaves_no_trace():
    """Resuming relies on it: the first iteration of a process is like any other."""
    model = build_algorithm('ResNet').train()
    model.backbone.norm_eval = False
    model.backbone.train()
    model.backbone.layer1[0].register_forward_hook(lambda m, i, out: torch.dropout(out, 0.1, True))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    inputs = images(dtype=torch.float32)
    results = []
    for _ in range(2):
        model.load_state_dict(start)
        torch.manual_seed(3)
        loss = model(inputs, mode='loss')['loss']
        results.append((loss, torch.rand(()), {k: v.clone() for k, v in model.named_buffers()}))
    (loss, number, buffers), (second_loss, second_number, second_buffers) = results
    assert torch.equal(loss, second_loss)
    assert torch.equal(number, second_number)
    moved = [k for k, v in buffers.items() if k in start and not torch.equal(v, start[k])]
    assert moved  # running statistics
    for name, value in buffers.items():
        assert torch.equal(value, second_buffers[name]), name
