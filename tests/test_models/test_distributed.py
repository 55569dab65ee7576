"""Two processes with half of the batch each end with the weights of one with the whole batch."""

from functools import cache, partial
from unittest.mock import patch

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch.distributed import fsdp
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.optim import ZeroRedundancyOptimizer

from mmebm import MixedPrecisionOptimWrapper
from mmebm.autograd.compiling import why_not_compiled
from mmebm.engine.runner import close_process_group
from tests.backbones import VIT, build_algorithm
from tests.processes import exit_codes

UPDATES, BATCH, SIDE, PATCHES = 2, 4, 32, 16
SGD, ADAMW = partial(torch.optim.SGD, lr=0.1), partial(torch.optim.AdamW, lr=1e-3)
SORTING = dict(type='EnergySortingAlgorithm')
SHALLOW = VIT | dict(arch=VIT['arch'] | dict(num_layers=1))  # compiling takes seconds per layer
# name → options of train()
CASES = {
    'SGD': dict(optimizer=SGD),
    'AdamW and clipped gradients': dict(clip_grad=dict(max_norm=0.1)),
    'accumulation': dict(accumulate=2),
    'N = 0': dict(model=dict(num_steps=0)),
    'compiled, accumulation': dict(model=dict(backbone=SHALLOW), accumulate=2, compile_step=True),
    'sorting, accumulation': dict(model=SORTING, accumulate=2),
    'bfloat16, accumulation': dict(precision='bfloat16', optimizer=SGD, accumulate=2),
    'float16, accumulation': dict(precision='float16', optimizer=SGD, accumulate=2),
    'ZeRO-1': dict(sharded='optimizer', accumulate=2),
    # FSDP refuses a scalar parameter
    'FSDP of one unit': dict(sharded='all', model=dict(learnable_step_size=False)),
}
if not hasattr(fsdp, 'fully_shard'):
    del CASES['FSDP of one unit']
if why_not_compiled() is not None:
    CASES = {name: case for name, case in CASES.items() if 'compile_step' not in case}


def batches(dtype):
    """Corrupted and clean images, and the noise that sorting draws from, of each update."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(UPDATES):
        images = torch.randn(2, BATCH, 3, SIDE, SIDE, generator=generator, dtype=dtype)
        yield *images, torch.rand(BATCH, 3, PATCHES, generator=generator)


def build(model=None, precision=None, compile_step=False):
    model = build_algorithm(compile_step=compile_step, **dict(step_size=20.0) | (model or {}))
    model.data_preprocessor = BaseDataPreprocessor()  # MMPretrain's computes in float32
    return model.to(torch.float64 if precision is None else torch.float32)


def train(
    rank=0,
    processes=1,
    model=None,
    optimizer=ADAMW,
    clip_grad=None,
    accumulate=1,
    compile_step=False,
    precision=None,
    sharded=None,
):
    """The weights after some updates, in float64 unless with a mixed precision."""
    network = build(model, precision, compile_step)
    wrapped = network
    if processes > 1 and sharded == 'all':
        mesh = DeviceMesh.from_group(torch.distributed.group.WORLD, 'cpu')
        fsdp.fully_shard(network, mesh=mesh)
    elif processes > 1:
        wrapped = MMDistributedDataParallel(network)
        if sharded == 'optimizer':
            options = dict(optimizer_class=optimizer.func, **optimizer.keywords)
            optimizer = partial(ZeroRedundancyOptimizer, **options)
    options = dict(
        optimizer=optimizer(network.parameters()),
        clip_grad=clip_grad,
        accumulative_counts=accumulate,
    )
    wrapper = (
        MixedPrecisionOptimWrapper(dtype=precision, **options)
        if precision
        else OptimWrapper(**options)
    )
    wrapper.initialize_count_status(wrapped, 0, UPDATES * accumulate)
    share = BATCH // accumulate // processes
    for batch in batches(next(network.parameters()).dtype):
        for part in range(accumulate):
            start = (part * processes + rank) * share
            *images, noise = (x[start : start + share] for x in batch)
            inputs = images if 'type' not in (model or {}) else images[1]
            with patch('torch.rand', lambda *_, noise=noise, **__: noise):
                wrapped.train_step(dict(inputs=inputs, data_samples=None), wrapper)
    if compile_step:
        assert network._differentiate.compiled is not None
    weights = network.state_dict()
    return {k: v.full_tensor() if hasattr(v, 'full_tensor') else v for k, v in weights.items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.compile = partial(
        torch.compile, backend='eager'
    )  # the tests of the compiled step do more
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    for number, options in enumerate(CASES.values()):
        weights = train(rank, 2, **options)
        if rank == 1:
            torch.save(weights, f'{folder}/{number}.pth')
    close_process_group()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Final weights of two processes, for all cases: starting them takes longer than training."""
    folder = tmp_path_factory.mktemp('weights')
    assert exit_codes(work, *((rank, str(folder)) for rank in range(2))) == [0, 0]
    return folder


@cache
def one_process(name: str):
    """Weights before and after as many updates with the whole batch, by the plain step."""
    options = CASES[name] | dict(accumulate=1, compile_step=False)
    start = build(options.get('model'), options.get('precision')).state_dict()
    return start, train(**options)


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_two_processes_equal_one(folder, name):
    start, one = one_process(name)
    two = torch.load(folder / f'{list(CASES).index(name)}.pth', weights_only=True)
    assert two.keys() == one.keys()
    moved = [key for key in start if not torch.equal(start[key], one[key])]
    assert len(moved) > len(start) / 2
    model = CASES[name].get('model', {})
    assert ('log_step_size' in moved) == model.get('learnable_step_size', True)
    assert ('backbone.pos_embed' in moved) == ('type' not in model)
    # half precision rounds sums over the batch, so shares differ from the whole
    tolerance = {None: 1e-9, 'bfloat16': 0.03, 'float16': 0.01}[CASES[name].get('precision')]
    update, difference = (
        torch.cat([(a[key] - b[key]).flatten() for key in moved]).norm()
        for a, b in ((one, start), (two, one))
    )
    assert difference <= tolerance * update


def test_units_of_fsdp_inside_are_refused(tmp_path):
    """They would train with zeros for gradients."""
    network = build(dict(learnable_step_size=False))
    layer = type(network.backbone.layers[0])
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        wrapped = fsdp.FullyShardedDataParallel(
            network,
            auto_wrap_policy=ModuleWrapPolicy({layer}),
            device_id=torch.device('cpu'),
            use_orig_params=True,
        )
        *images, _ = next(batches(torch.float64))
        with pytest.raises(NotImplementedError, match=r'backbone\.layers\.0 is an FSDP unit'):
            wrapped(images, mode='loss')
    finally:
        torch.distributed.destroy_process_group()
