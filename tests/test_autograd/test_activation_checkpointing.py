"""Recomputed blocks: the derivatives of the plain network, and less memory."""

import copy
import pickle

import pytest
import torch
from mmebm.utils.step_cost import peak_memory
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmebm import EnergyRestorationAlgorithm, EnergySortingAlgorithm
from mmebm.autograd import differentiate
from mmebm.autograd.activation_checkpointing import checkpoint_activations
from mmebm.models import base_algorithm
from tests.backbones import BACKBONES, VIT, build_algorithm
from tests.derivatives import OnceOnly

BLOCKS = {
    'ViT': 'layers.*',
    'Swin': 'stages.*.blocks.*',
    'ConvNeXt': 'stages.*.*',
    'timm ViT': 'timm_model.blocks.*',
    'ResNet': 'layer*',
}


def run(name, recompute, dtype=torch.float64, autocast=None, **options):
    """Loss and log, gradients, and the next random number."""
    model = build_algorithm(name, recompute=recompute, **options).to(dtype).train()
    torch.manual_seed(0)
    images = [torch.randn(4, 3, 32, 32).to(dtype) for _ in range(2)]
    with torch.autocast('cpu', autocast, enabled=autocast is not None):
        outputs = model(images, mode='loss')
    outputs['loss'].backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.requires_grad}
    return outputs, gradients, torch.rand(1)


def assert_equal_runs(found, expected, tolerance):
    for key, value in expected[0].items():
        torch.testing.assert_close(found[0][key], value, rtol=tolerance, atol=tolerance)
    assert found[1].keys() == expected[1].keys()
    norm = torch.stack([g.norm() for g in expected[1].values()]).norm()
    assert norm > 0
    for key, gradient in expected[1].items():
        assert (found[1][key] - gradient).norm() <= tolerance * norm, key
    assert torch.equal(found[2], expected[2])


@pytest.mark.parametrize('num_steps', [1, 3])
@pytest.mark.parametrize('name', BLOCKS)
def test_equals_the_plain_network(name, num_steps):
    expected = run(name, (), num_steps=num_steps)
    assert_equal_runs(run(name, [BLOCKS[name]], num_steps=num_steps), expected, 1e-12)


@pytest.mark.parametrize('name', ['ViT', 'Swin', 'ConvNeXt'])
def test_the_random_numbers_of_a_run_are_drawn_again(name, monkeypatch):
    other = run(name, ())
    config, channels = BACKBONES[name]
    monkeypatch.setitem(BACKBONES, name, (dict(config, drop_path_rate=0.5), channels))
    expected = run(name, ())
    assert other[0]['distance_step1'] != expected[0]['distance_step1']  # paths are dropped
    assert_equal_runs(run(name, [BLOCKS[name]]), expected, 1e-12)


@pytest.mark.parametrize('name', ['ViT', 'Swin', 'ConvNeXt'])
def test_equals_the_plain_network_in_bf16(name):
    options = dict(dtype=torch.float32, autocast=torch.bfloat16)
    assert_equal_runs(run(name, [BLOCKS[name]], **options), run(name, (), **options), 0.02)


def test_some_blocks_and_a_frozen_one():
    results = []
    for recompute in ((), ['layers.1'], ['layers.0', 'patch_embed']):
        model = build_algorithm(recompute=recompute).double()
        model.backbone.layers[1].requires_grad_(False)
        model.backbone.layers[0].ln1.requires_grad_(False)
        torch.manual_seed(0)
        images = [torch.randn(2, 3, 32, 32).double() for _ in range(2)]
        model(images, mode='loss')['loss'].backward()
        results.append({k: p.grad for k, p in model.named_parameters()})
    for found in results[1:]:
        for key, gradient in results[0].items():
            if gradient is None:
                assert found[key] is None
            else:
                torch.testing.assert_close(found[key], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ('name', 'pattern'),
    [('ViT', 'layers.*'), ('timm ViT', 'timm_model.blocks.*'), ('timm ViT', 'timm_model')],
)
def test_sorting_drops_patches_before_a_recomputed_layer(name, pattern):
    """A hook on a layer runs once, even if the sorted embedding is used inside a block."""
    results = []
    for recompute in ((), [pattern]):
        config, channels = BACKBONES[name]
        torch.manual_seed(0)
        model = EnergySortingAlgorithm(
            backbone=copy.deepcopy(config),
            head=dict(type='EnergyHead', in_channels=channels),
            recompute=recompute,
            patch_drop_ratio=0.0 if pattern == 'timm_model' else 0.5,
        ).double()
        torch.nn.init.normal_(model.head.fc.weight, std=0.5)
        images = torch.randn(2, 3, 32, 32).double()
        outputs = model.loss(images)
        outputs['loss'].backward()
        gradients = {k: p.grad for k, p in model.named_parameters() if p.requires_grad}
        results.append((outputs, gradients, torch.rand(1)))
    assert_equal_runs(results[1], results[0], 1e-12)


class Block(nn.Module):
    """Several inputs and outputs, an option, dropout, a frozen and an unused parameter."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)
        self.unused = nn.Parameter(torch.randn(2))
        self.tied = self.fc.weight
        self.runs = 0

    def forward(self, x, others, power, scale=None):
        self.runs += 1
        y, mask = others['y'], others['mask']
        h = torch.tanh(self.fc(x) @ self.tied) * self.frozen * mask
        h = F.dropout(h, 0.5)
        return [h**power * y, {'n': power, 'index': h.argmax(-1)}, (x.sin() * scale, 2 * y)]


def block_and_inputs():
    torch.manual_seed(0)
    block = Block().double()
    x, y, scale = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    return block, (x, y, scale)


def call(block, x, y, scale):
    torch.manual_seed(1)
    mask = torch.tensor([1, 0, 1], device=x.device)
    first, other, (second, third) = block(x, {'y': y, 'mask': mask}, 3, scale=scale)
    assert other['n'] == 3
    assert not other['index'].requires_grad
    return first, second, third


def test_two_derivatives_of_a_block_against_finite_differences():
    block, inputs = block_and_inputs()
    checkpoint_activations(nn.ModuleList([block]), ['0'])

    def f(x, y, scale, *parameters):  # changed in place
        return call(block, x, y, scale)

    inputs = (*inputs, *block.fc.parameters())
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True)


def derivatives(block, inputs):
    """All first derivatives, and second ones through those of the inputs, outside any context."""
    outputs = call(block, *inputs)
    parameters = [p for p in block.parameters() if p.requires_grad]
    first = torch.autograd.grad(sum(x.square().sum() for x in outputs), inputs, create_graph=True)
    loss = sum(g.square().sum() for g in first)
    second = torch.autograd.grad(loss, (*inputs, *parameters), allow_unused=True)
    return (*outputs, *first, *second)


def test_a_block_with_everything_equals_the_plain_one():
    block, inputs = block_and_inputs()
    expected = derivatives(block, inputs)
    (name,) = checkpoint_activations(nn.ModuleList([block]), ['?'])
    assert name == '0'
    found = derivatives(block, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert [x is None for x in found].count(True) == 1  # the unused parameter


def test_runs_as_often_as_it_says_and_takes_only_derivatives_asked_for(monkeypatch):
    block, inputs = block_and_inputs()
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    derivatives(block, inputs)  # with the check
    block.runs = 0
    counts = []
    grad = torch.autograd.grad

    def counting(outputs, inputs, *args, **kwargs):
        counts.append(len(inputs))
        return grad(outputs, inputs, *args, **kwargs)

    outputs = call(block, *inputs)
    assert block.runs == 1
    monkeypatch.setattr(torch.autograd, 'grad', counting)
    first = grad(sum(x.square().sum() for x in outputs), inputs, create_graph=True)
    assert block.runs == 2
    assert counts == [3]  # not of the parameters
    sum(g.square().sum() for g in first).backward()
    assert block.runs == 4


def test_is_called_plainly_where_no_gradient_is_wanted():
    block, inputs = block_and_inputs()
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    with torch.no_grad():
        outputs = call(block, *inputs)
    assert all(x.grad_fn is None for x in outputs)
    block.requires_grad_(False)
    outputs = call(block, *(x.detach() for x in inputs))
    assert all(x.grad_fn is None for x in outputs)
    outputs = call(block, *inputs)  # no parameter requires a gradient: those of the inputs
    torch.autograd.grad(outputs[0].sum(), inputs[0])


def test_a_third_derivative_is_refused():
    block, (x, y, scale) = block_and_inputs()
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    value = call(block, x, y, scale)[1].sum()
    for _ in range(2):
        (value,) = torch.autograd.grad(value, x, create_graph=True)
        value = value.sum()
    with pytest.raises(NotImplementedError, match='a third was requested'):
        torch.autograd.grad(value, x)


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x.sin(), x.cos())


def test_attention_has_a_second_derivative_without_any_context():
    x = torch.randn(2, 1, 4, 8, dtype=torch.float64, requires_grad=True)
    block = Attention()

    def second():
        (gradient,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    with sdpa_kernel(SDPBackend.MATH):
        expected = second()
    with pytest.raises(RuntimeError, match='is not implemented'):
        second()
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    torch.testing.assert_close(second(), expected)


def test_autocast_of_the_first_run_is_restored():
    """Autocast in the forward pass only; the derivatives are computed outside, as usual."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    x = torch.randn(4, 8, requires_grad=True)

    def second():
        with torch.autocast('cpu', torch.bfloat16):
            out = block(x)
        assert out.dtype == torch.bfloat16
        (gradient,) = torch.autograd.grad(out.float().square().sum(), x, create_graph=True)
        return gradient, *torch.autograd.grad(gradient.square().sum(), (x, *block.parameters()))

    expected = second()
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    found = second()
    assert torch.equal(found[0], expected[0])  # float32 would differ in the third digit
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 0.01 * b.norm()


class Gram(torch.autograd.Function):
    """x xᵀ, with a product in its backward that autocast rounds."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x @ x.T

    @staticmethod
    def backward(ctx, g):
        return (g + g.T) @ ctx.saved_tensors[0]


def test_autocast_of_the_first_derivative_is_restored():
    torch.manual_seed(0)
    block, x = Of(lambda _, x: Gram.apply(x)), torch.randn(4, 8, requires_grad=True)

    def second(autocast):
        out = block(x)
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    expected = second(True)
    assert (second(False) - expected).norm() > 1e-4 * expected.norm()
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    torch.testing.assert_close(second(True), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_the_random_numbers_of_a_gpu_are_drawn_again():
    block, inputs = block_and_inputs()
    block, inputs = block.cuda(), [x.detach().cuda().requires_grad_() for x in inputs]
    expected = derivatives(block, inputs)
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    torch.testing.assert_close(derivatives(block, inputs), expected)


class Square(torch.autograd.Function):
    """Like reversible layers: differentiates inside its backward, without keeping a graph."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad_output):
        return 2 * ctx.saved_tensors[0].detach() * grad_output.detach()


class Of(nn.Module):
    """A block of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer('count', torch.zeros(()))

    def forward(self, x):
        return self.function(self, x)


OUTSIDE = torch.ones(3, requires_grad=True)


@pytest.mark.parametrize(
    ('function', 'error', 'message'),
    [
        (lambda _, x: Square.apply(x), NotImplementedError, r'Square \(with a backward of its own'),
        (lambda _, x: OnceOnly.apply(x), NotImplementedError, r'OnceOnly \(marked @once'),
        (lambda _, x: x * OUTSIDE.exp(), ValueError, r'uses a tensor \(3,\) that requires'),
        (lambda m, x: x * m.count.add_(1), ValueError, 'Of changes its buffers'),
        (lambda m, x: x.relu_(), ValueError, 'Of changes its buffers or its arguments'),
    ],
)
def test_what_cannot_be_recomputed_is_refused(function, error, message):
    block = Of(function)
    checkpoint_activations(nn.ModuleList([block]), ['0'])
    x = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(error, match=message):
        torch.autograd.grad(block(x * 1).square().sum(), x, create_graph=True)


def test_batch_norm_in_training_mode_is_refused():
    model = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), nn.Linear(3, 3)])
    with pytest.raises(ValueError, match=r"'0\.1' is a batch norm in training mode"):
        checkpoint_activations(model, ['*'])
    assert checkpoint_activations(model, ['1']) == ['1']  # the batch norm is elsewhere


@pytest.mark.parametrize(
    ('patterns', 'message'),
    [
        (['blocks.*'], r"'blocks\.\*' is not a module of VisionTransformer, which has .*layers\.0"),
        (['layers.*', 'nothing'], "'nothing' is not a module"),
        (['layers.0', 'layers.0.attn'], r"'layers\.0\.attn' lies in 'layers\.0'"),
        (['layers'], r"'layers' is a ModuleList, which computes nothing; .* 'layers\.\*'"),
    ],
)
def test_wrong_patterns_are_named(patterns, message):
    with pytest.raises(ValueError, match=message):
        build_algorithm(recompute=patterns)


@pytest.mark.parametrize('patterns', ['layers.*', [0]])
def test_patterns_are_a_list_of_strings(patterns):
    with pytest.raises(TypeError, match='recompute must be a list of names of modules'):
        build_algorithm(recompute=patterns)


def test_a_pattern_does_not_reach_across_a_dot():
    assert build_algorithm(recompute=['layers.*']).recomputed == ['layers.0', 'layers.1']
    assert build_algorithm(recompute=['layers.1', 'layers.[01]']).recomputed == [
        'layers.1',
        'layers.0',
    ]
    assert build_algorithm().recomputed == []


def test_a_forward_is_replaced_once():
    model = build_algorithm(recompute=['layers.0'])
    with pytest.raises(ValueError, match=r"the forward of 'layers\.0' was replaced already"):
        checkpoint_activations(model.backbone, ['layers.*'])


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_names_stay_and_copies_recompute_with_their_own_weights(copied):
    plain, model = build_algorithm().backbone, build_algorithm(recompute=['layers.*']).backbone
    assert list(plain.state_dict()) == list(model.state_dict())
    assert [n for n, _ in plain.named_modules()] == [n for n, _ in model.named_modules()]
    again = copied(model)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for one in (plain, again):
            for p in one.parameters():
                p.mul_(1.5)
    expected, found = plain(x)[0], again(x)[0]
    torch.testing.assert_close(found, expected)
    nodes, waiting = set(), [found.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            waiting += [n for n, _ in node.next_functions]
    assert sum(type(n).__name__ == '_ValueBackward' for n in nodes) == 2
    found.sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert again.layers[0].ln1.weight.grad is not None


def test_such_a_step_is_not_compiled(monkeypatch):
    said = []
    monkeypatch.setattr(base_algorithm, 'print_log', lambda text, **_: said.append(text))
    model = build_algorithm(recompute=['layers.*'], compile_step=True)
    for _ in range(2):
        model([torch.randn(2, 3, 32, 32) for _ in range(2)], mode='loss')['loss'].backward()
    assert model._differentiate is differentiate
    (text,) = said
    assert text.startswith('The training step is not compiled: recompute (2 modules)')


@pytest.mark.slow
def test_memory_falls_clearly():
    arch = dict(embed_dims=48, num_layers=12, num_heads=2, feedforward_channels=192)
    peaks = []
    for recompute in ((), ['layers.*']):
        model = EnergyRestorationAlgorithm(
            dict(VIT, arch=arch, patch_size=4),
            dict(type='EnergyHead', in_channels=48),
            num_steps=1,
            recompute=recompute,
        )
        images = [torch.randn(4, 3, 32, 32) for _ in range(2)]

        def step(model=model, images=images):
            model.loss(images)['loss'].backward()

        step()
        model.zero_grad()
        peaks.append(peak_memory(step, torch.device('cpu')))
    assert peaks[1] < 0.5 * peaks[0]
