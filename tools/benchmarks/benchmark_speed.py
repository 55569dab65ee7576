"""Time and memory of training steps: ours, the paper's Listing 1, supervised, and MMPretrain's MAE.

python tools/benchmarks/benchmark_speed.py --out work_dirs/speed.csv
python tools/benchmarks/benchmark_speed.py --models vit-small --batch-sizes 1 2 4 --num-steps 1 2 4

The steps alternate in one process, so that other load on the machine slows all of them alike. Each
is a whole step on random images. A step with N descent steps needs at least 2 N times the work of a
supervised one. Memory is what PyTorch allocates beyond the weights and AdamW's state.
"""

import argparse
import itertools
import json
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import mmebm  # noqa: F401  registers its models
from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser
from mmebm.utils.device import device_name
from mmebm.utils.quiet import quiet_torch
from mmebm.utils.tables import print_table, write_csv

VIT = dict(type='VisionTransformer', patch_size=16, out_type='avg_featmap', final_norm=False)
BACKBONES = {
    'vit-tiny': dict(VIT, arch='deit-tiny'),
    'vit-small': dict(VIT, arch='deit-small'),
    'vit-base': dict(VIT, arch='base'),
    'vit-large': dict(VIT, arch='large'),
    'swin-tiny': dict(type='SwinTransformer', arch='tiny', drop_path_rate=0.0, pad_small_map=True),
    'convnext-tiny': dict(type='ConvNeXt', arch='tiny'),
}
MAE = next((Path(__file__).parents[2] / 'configs/baselines').glob('mae_vit-small*'))
LISTING_1, SUPERVISED = 'Listing 1', 'supervised'
KINDS = (SUPERVISED, LISTING_1, 'ours', 'ours, compiled', 'MAE')

Loss = Callable[[], Tensor]


def build(config: dict) -> nn.Module:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
    model.init_weights()
    model.train()  # not chained: MMPretrain's Swin and ConvNeXt return nothing
    return model


def make(
    kind: str, backbone: dict, shape: tuple[int, ...], num_steps: int, device: torch.device
) -> tuple[nn.Module, Loss]:
    """A network, and a function that computes its loss on random images ``(B, 3, H, H)``."""
    with torch.no_grad():
        features = build(backbone)(torch.zeros(1, *shape[1:]))[-1]
    channels = features.shape[1]
    corrupted, clean = torch.randn(2, *shape, device=device)
    if kind == SUPERVISED:
        model = dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling') if features.dim() == 4 else None,
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=channels),
        )
        labels = [DataSample().set_gt_label(i % 1000) for i in range(shape[0])]
        model = build(model).to(device)
        return model, lambda: model(clean, labels, mode='loss')['loss']
    if kind == 'MAE':
        mae = Config.fromfile(MAE).model
        mae.backbone.update(arch=backbone['arch'], img_size=shape[-1])
        mae.neck.update(embed_dim=channels, num_patches=(shape[-1] // 16) ** 2)
        model = build(mae).to(device)
        return model, lambda: model(clean, [], mode='loss')['loss']
    model = dict(
        type='EnergyRestorationAlgorithm',
        backbone=backbone,
        head=dict(type='EnergyHead', in_channels=channels),
        num_steps=num_steps,
        step_size=1000.0,
        compile_step=kind == 'ours, compiled',
    )
    model = build(model).to(device)
    if kind == LISTING_1:
        return model, lambda: listing_1(model, corrupted, clean)
    return model, lambda: model([corrupted, clean], mode='loss')['loss']


def listing_1(model: nn.Module, x: Tensor, clean: Tensor) -> Tensor:
    """The paper's pseudo-code, on the same network."""
    total = 0
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        for _ in range(model.num_steps):
            x = x.detach().requires_grad_()
            energy = model.head(model.backbone(x))
            (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
            x = x - model.step_size * gradient
            total = total + F.smooth_l1_loss(x, clean) / model.num_steps
    return total


def whole_step(model: nn.Module, loss: Loss, device: torch.device, dtype: torch.dtype) -> Loss:
    """A training step that returns its loss."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)

    def step() -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.detach()

    return step


def peak_memory(step: Callable[[], Any], device: torch.device) -> int:
    """Peak memory of a call in bytes, beyond what was allocated before it."""
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    # on a CPU, PyTorch only counts allocations while it profiles, and reports them in the trace
    profile = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    )
    with warnings.catch_warnings():  # about several cycles, though there is one
        warnings.filterwarnings('ignore', '.*Profiler clears events', UserWarning)
        with profile:
            step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'trace.json')
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text('utf-8'))['traceEvents']
    memory = sorted((e for e in events if e.get('name') == '[memory]'), key=lambda e: e['ts'])
    totals = [e['args']['Total Allocated'] for e in memory]
    # the total includes what was allocated under an earlier profile and freed outside of any
    return max(totals) - (totals[0] - memory[0]['args']['Bytes'])


def measure(name: str, batch: int, num_steps: int, args: argparse.Namespace) -> list[dict]:
    """A row for each kind of step and precision, on one backbone.

    Raises:
        RuntimeError: our step computes another loss than Listing 1: the comparison means nothing.
    """
    device, backbone = torch.device(args.device), dict(BACKBONES[name])
    if backbone['type'] != 'ConvNeXt':
        backbone['img_size'] = args.image_size
    shape = batch, 3, args.image_size, args.image_size
    steps, losses = {}, {}
    for kind, precision in itertools.product(args.steps, args.precisions):
        if kind != 'MAE' or backbone['type'] == 'VisionTransformer':
            torch.manual_seed(0)
            dtype = getattr(torch, precision)
            step = whole_step(*make(kind, backbone, shape, num_steps, device), device, dtype)
            losses[kind, precision] = float(step())
            steps[kind, precision] = step
    for (kind, precision), loss in losses.items():
        expected = losses.get((LISTING_1, precision), loss)
        tolerance = 1e-4 if precision == 'float32' else 2e-2
        if kind.startswith('ours') and abs(loss - expected) > tolerance * expected:
            raise RuntimeError(f'{kind}, {precision}: loss {loss:.6f}, Listing 1 {expected:.6f}')
    memory = {key: peak_memory(step, device) for key, step in steps.items()}
    times = defaultdict(list)
    for _ in track(range(args.repeats), f'{name}, batch {batch}, N = {num_steps}', transient=True):
        for key, step in steps.items():
            start = perf_counter()
            step()
            if device.type == 'cuda':
                torch.cuda.synchronize()
            times[key].append(perf_counter() - start)
    middle = {key: median(values) for key, values in times.items()}
    return [
        dict(
            model=name,
            batch=batch,
            N=num_steps,
            precision=precision,
            step=kind,
            milliseconds=1000 * middle[kind, precision],
            of_supervised=ratio(middle, kind, SUPERVISED, precision),
            of_listing_1=ratio(middle, kind, LISTING_1, precision),
            megabytes=memory[kind, precision] / 2**20,
        )
        for kind, precision in steps
    ]


def ratio(values: dict, kind: str, other: str, precision: str) -> float | None:
    return values[kind, precision] / values.get((other, precision), float('nan'))


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    gpu = torch.cuda.is_available()
    parser.add_argument('--models', nargs='+', choices=BACKBONES, default=['vit-small'])
    parser.add_argument('--steps', nargs='+', choices=KINDS, default=KINDS)
    parser.add_argument('--precisions', nargs='+', choices=['float32', 'bfloat16', 'float16'],
                        default=['float32', 'bfloat16'])  # fmt: skip
    parser.add_argument('--device', default='cuda' if gpu else 'cpu')
    parser.add_argument(
        '--batch-size', '--batch-sizes', nargs='+', type=int, default=[128 if gpu else 8]
    )
    parser.add_argument('--num-steps', nargs='+', type=int, default=[2], help='N')
    parser.add_argument('--image-size', type=int, default=224, help='side in pixels')
    parser.add_argument('--repeats', type=int, default=20 if gpu else 5)
    parser.add_argument('--out', default='work_dirs/speed.csv', help='table to write')
    args = parser.parse_args(argv)
    if min(*args.batch_size, *args.num_steps, args.image_size, args.repeats) < 1:
        parser.error('--batch-size, --num-steps, --image-size and --repeats must be ≥ 1')
    MMLogger.get_instance('mmengine', log_level='WARNING')  # else it logs every initialised tensor
    quiet_torch()
    rows, console = [], Console()
    with one_line_errors('benchmark_speed.py'):
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        for each in itertools.product(args.models, args.batch_size, args.num_steps):
            rows += measure(*each, args)
            write_csv(rows, Path(args.out))
    title = f'{device_name(args.device)}; torch {torch.__version__}; {args.image_size}²'
    cells = [[f'{v:.3g}' if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    print_table(console, list(rows[0]), cells, title, left=5)
    console.print(args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
