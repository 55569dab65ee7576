"""The compiled step equals the plain one, and the log says why if compiling fails."""

import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmebm.autograd import CompiledDifferentiation, differentiate
from mmebm.autograd import compiling as module
from mmebm.autograd import onednn_linear as linear
from tests.backbones import BACKBONES, build_algorithm

needs_compiler = pytest.mark.skipif(
    module.why_not_compiled() is not None, reason=str(module.why_not_compiled())
)

# Changes that make the backbones shallow: these are traced in seconds.
CHANGES = {
    'ViT': dict(arch=dict(BACKBONES['ViT'][0]['arch'], num_layers=1)),
    'ConvNeXt': dict(arch=dict(depths=[1, 1], channels=[8, 16]), out_indices=(1,)),
    'Swin': dict(arch=dict(embed_dims=8, depths=[2, 1], num_heads=[1, 2]), out_indices=(1,)),
    'ResNet': dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,)),
    'timm ViT': dict(depth=1),
}
SHALLOW = {
    name: (BACKBONES[name][0] | changes, 32 if 'ViT' in name else 16)
    for name, changes in CHANGES.items()
}


@pytest.fixture(autouse=True)
def _shallow(monkeypatch):
    for name, backbone in SHALLOW.items():
        monkeypatch.setitem(BACKBONES, name, backbone)


def run(compile_step, dtype=torch.float32, autocast=None, **options):
    """Loss, log and gradients of two iterations, the second with a smaller batch."""
    model = build_algorithm(compile_step=compile_step, **options).to(dtype)
    torch.manual_seed(0)
    results = []
    for batch in (4, 2):
        images = [torch.randn(batch, 3, 32, 32).to(dtype) for _ in range(2)]
        model.zero_grad()
        with torch.autocast('cpu', autocast, enabled=autocast is not None):
            outputs = model(images, mode='loss')
        outputs['loss'].backward()
        results.append((outputs, {k: p.grad.clone() for k, p in model.named_parameters()}))
    return model, results


def gradient_norm(gradients):
    return torch.stack([g.norm() for g in gradients]).norm()


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize('autocast', [None, torch.bfloat16])
def test_equals_the_plain_step(autocast, monkeypatch):
    # run without compiling it: generating code takes a minute
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    _, expected = run(False, torch.float64 if autocast is None else torch.float32)
    model, found = run(True, autocast=autocast)
    tolerance = 1e-5 if autocast is None else 0.05
    assert isinstance(model._differentiate, CompiledDifferentiation)
    assert model._differentiate.compiled is not None
    assert model._differentiate.shape[0] == 4  # the smaller batch took the plain step
    for (outputs, gradients), (their_outputs, their_gradients) in zip(found, expected, strict=True):
        for key, value in their_outputs.items():
            torch.testing.assert_close(
                outputs[key].double(), value.double(), rtol=tolerance, atol=tolerance
            )
        norm = gradient_norm(their_gradients.values())
        for key, value in their_gradients.items():
            assert (gradients[key] - value).norm() <= tolerance * norm, key
        assert gradients['log_step_size'] != 0
    if autocast is None and linear._AVAILABLE:
        with torch.profiler.profile() as profile:
            model([torch.randn(4, 3, 32, 32) for _ in range(2)], mode='loss')
        products = [event for event in profile.key_averages() if event.key == 'mmebm::product']
        assert products  # linear layers of a compiled step go to oneDNN


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize('name', [name for name in BACKBONES if name not in ('ViT', 'ConvNeXt')])
def test_other_backbones_are_compiled_too(name, monkeypatch):
    # one graph, which is where a backbone may fail
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))
    (expected, gradients), *_ = run(False, name=name)[1]
    model, ((outputs, found), *_) = run(True, name=name)
    assert model._differentiate.compiled is not None
    torch.testing.assert_close(outputs['loss'], expected['loss'])
    norm = gradient_norm(gradients.values())
    for key, value in gradients.items():
        assert (found[key] - value).norm() <= 1e-5 * norm, key


@needs_compiler
def test_the_step_never_waits_for_a_number():
    """On a GPU, reading a number blocks the CPU until the device is done."""

    class NoNumbers(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func is not torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    model = build_algorithm()
    images = [torch.randn(2, 3, 32, 32) for _ in range(2)]
    model(images, mode='loss')  # looks at the graph, once
    with NoNumbers():
        model(images, mode='loss')['loss'].backward()
        with pytest.raises(AssertionError):
            torch.ones(()).item()


@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(module, 'print_log', lambda text, *_: texts.append(text))
    return texts


def test_an_old_torch_is_named_and_trains_as_it_is(monkeypatch, said):
    expected = run(False)[1]
    monkeypatch.setattr(module, 'why_not_compiled', lambda: 'this torch is too old')
    found = run(True)[1]
    assert said == ['The training step is not compiled: this torch is too old']
    for (outputs, _), (their_outputs, _) in zip(found, expected, strict=True):
        assert torch.equal(outputs['loss'], their_outputs['loss'])


@pytest.mark.slow
@needs_compiler
def test_falls_back_without_a_c_compiler(monkeypatch, said):
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, 'cxx', ('no-such-compiler',))
    monkeypatch.setattr(torch._inductor.config, 'force_disable_caches', True)
    network, x = torch.nn.Linear(3, 1), torch.randn(2, 3)

    def term(x):
        return dict(loss=network(x).sin().mean())

    parameters = list(network.parameters())
    totals, expected = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    CompiledDifferentiation(network)(term, x, parameters, totals)
    differentiate(term, x, parameters, expected)
    torch.testing.assert_close(totals, expected)
    assert len(said) == 2
    assert 'compiles the training step, which takes minutes' in said[0]
    assert 'The training step is not compiled' in said[1]
    assert 'no-such-compiler' in said[1]
