"""Time training steps: ours, the paper's Listing 1, supervised, MMPretrain's MAE, BEiT and SimMIM.

python tools/benchmarks/benchmark_speed.py --out work_dirs/speed
python tools/benchmarks/benchmark_speed.py --models vit-small --batch-size 8 --precisions float32

The steps alternate in one process, so that other load on the machine slows all of them alike. Each
is a whole step: forward, derivatives and update, on random images on the device. A step with N
descent steps needs at least 2 N times the work of a supervised one (the floor): each descent step
takes a forward pass F, the input's gradient F, and 4 F to differentiate both, against 3 F in all.
With this count, and F counted by PyTorch, each step is also compared with large matrix products in
the same run, which gives the share of the device's speed that it reaches.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from textwrap import fill
from time import perf_counter

import matplotlib
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mmebm  # noqa: F401  registers its models
from mmebm.cli.parser import OneLineParser
from mmebm.utils.device import device_name
from mmebm.utils.quiet import quiet_torch
from mmebm.utils.step_cost import peak_memory, step_seconds
from mmebm.utils.tables import markdown_table, print_table, write_csv

matplotlib.use('Agg')
from matplotlib import pyplot as plt

VIT = dict(type='VisionTransformer', patch_size=16, out_type='avg_featmap', final_norm=False)
BACKBONES = {
    'vit-tiny': dict(VIT, arch='deit-tiny'),
    'vit-small': dict(VIT, arch='deit-small'),
    'vit-base': dict(VIT, arch='base'),
    'vit-large': dict(VIT, arch='large'),
    'swin-tiny': dict(type='SwinTransformer', arch='tiny', drop_path_rate=0.0, pad_small_map=True),
    'convnext-tiny': dict(type='ConvNeXt', arch='tiny'),
}
LISTING_1, SUPERVISED = 'Listing 1', 'supervised'
OTHERS = ('MAE', 'BEiT', 'SimMIM')
PRODUCT, SIDE = 'matrix product', 2048
STEP_SIZE = 1000.0


def build(config: dict) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
    model.init_weights()
    model.train()  # not chained: MMPretrain's Swin and ConvNeXt return nothing
    return model


class Bench:
    """Steps on one backbone; each entry of :meth:`steps` makes its own network when called."""

    def __init__(self, name: str, args: argparse.Namespace):
        self.device = torch.device(args.device)
        self.batch, self.size, self.num_steps = args.batch_size, args.image_size, args.num_steps
        self.backbone = dict(BACKBONES[name])
        if 'img_size' not in self.backbone and self.backbone['type'] != 'ConvNeXt':
            self.backbone['img_size'] = self.size
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
            shape = (1, 3, self.size, self.size)
            features = build(self.backbone)(torch.zeros(shape))[-1]
        self.forward_flops = self.batch * counter.get_total_flops()  # F
        self.channels = features.shape[1]
        self.pooling = dict(type='GlobalAveragePooling') if features.dim() == 4 else None

    def images(self, size: int | None = None) -> Tensor:
        size = size or self.size
        return torch.randn(self.batch, 3, size, size, device=self.device)

    def steps(self) -> dict[str, Callable[[], tuple[nn.Module, Callable[[], Tensor]]]]:
        """Name → function that makes a network and a function that computes its loss."""
        found = {
            SUPERVISED: self.supervised,
            LISTING_1: self.listing_1,
            'ours': lambda: self.ours(compile_step=False),
            'ours, compiled': lambda: self.ours(compile_step=True),
        }
        if self.backbone['type'] == 'VisionTransformer':
            found |= {'MAE': self.mae, 'BEiT': self.beit}
        if self.backbone['type'] == 'SwinTransformer':
            found['SimMIM'] = self.simmim
        return found

    def supervised(self) -> tuple[nn.Module, Callable[[], Tensor]]:
        head = dict(type='LinearClsHead', num_classes=1000, in_channels=self.channels)
        model = build(
            dict(type='ImageClassifier', backbone=self.backbone, neck=self.pooling, head=head)
        )
        labels = [DataSample().set_gt_label(i % 1000) for i in range(self.batch)]
        images = self.images()
        return model, lambda: model(images, labels, mode='loss')['loss']

    def energy_model(self, **options) -> nn.Module:
        torch.manual_seed(0)
        return build(
            dict(
                type='EnergyRestorationAlgorithm',
                backbone=self.backbone,
                head=dict(type='EnergyHead', in_channels=self.channels),
                num_steps=self.num_steps,
                step_size=STEP_SIZE,
                **options,
            )
        )

    def listing_1(self) -> tuple[nn.Module, Callable[[], Tensor]]:
        """The paper's pseudo-code, on the same network."""
        model = self.energy_model()
        images, clean = self.images(), self.images()

        def loss() -> Tensor:
            x, total = images, 0
            with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
                for _ in range(self.num_steps):
                    x = x.detach().requires_grad_()
                    energy = model.head(model.backbone(x))
                    (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
                    x = x - model.step_size * gradient
                    total = total + F.smooth_l1_loss(x, clean) / self.num_steps
            return total

        return model, loss

    def ours(self, compile_step: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
        model = self.energy_model(compile_step=compile_step)
        inputs = [self.images(), self.images()]
        return model, lambda: model(inputs, mode='loss')['loss']

    def mae(self) -> tuple[nn.Module, Callable[[], Tensor]]:
        size = dict(arch=self.backbone['arch'], img_size=self.size, patch_size=16)
        neck = dict(
            type='MAEPretrainDecoder',
            num_patches=(self.size // 16) ** 2,
            patch_size=16,
            embed_dim=self.channels,
            decoder_embed_dim=512,
            decoder_depth=8,
            decoder_num_heads=16,
        )
        loss = dict(type='PixelReconstructionLoss', criterion='L2')
        head = dict(type='MAEPretrainHead', norm_pix=True, patch_size=16, loss=loss)
        backbone = dict(type='MAEViT', mask_ratio=0.75, **size)
        model = build(dict(type='MAE', backbone=backbone, neck=neck, head=head))
        images = self.images()
        return model, lambda: model(images, [], mode='loss')['loss']

    def beit(self) -> tuple[nn.Module, Callable[[], Tensor]]:
        """With random weights in the tokenizer, which do not change its time."""
        backbone = dict(
            type='BEiTPretrainViT',
            arch=self.backbone['arch'],
            img_size=self.size,
            patch_size=16,
            layer_scale_init_value=0.1,
        )
        loss = dict(type='CrossEntropyLoss')
        head = dict(type='BEiTV1Head', embed_dims=self.channels, num_embed=8192, loss=loss)
        tokenizer = dict(type='DALL-E')
        model = build(
            dict(type='BEiT', backbone=backbone, neck=None, head=head, target_generator=tokenizer)
        )
        inputs = [self.images(), self.images(self.size // 2)]
        grid = self.size // 16
        mask = torch.rand(self.batch, grid * grid, device=self.device).argsort(1) < 75
        samples = [DataSample() for _ in range(self.batch)]
        for sample, one in zip(samples, mask.reshape(-1, grid, grid), strict=True):
            sample.set_field(one, 'mask')
        return model, lambda: model(inputs, samples, mode='loss')['loss']

    def simmim(self) -> tuple[nn.Module, Callable[[], Tensor]]:
        backbone = dict(self.backbone, type='SimMIMSwinTransformer')
        neck = dict(type='SimMIMLinearDecoder', in_channels=self.channels, encoder_stride=32)
        loss = dict(type='PixelReconstructionLoss', criterion='L1', channel=3)
        head = dict(type='SimMIMHead', patch_size=4, loss=loss)
        model = build(dict(type='SimMIM', backbone=backbone, neck=neck, head=head))
        images = self.images()
        mask = torch.rand(self.batch, self.size // 4, self.size // 4, device=self.device) < 0.6
        samples = [DataSample() for _ in range(self.batch)]
        for sample, one in zip(samples, mask.long(), strict=True):
            sample.set_field(one, 'mask')
        return model, lambda: model(images, samples, mode='loss')['loss']


def whole_step(make: Callable, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A training step that returns its loss, from an entry of :meth:`Bench.steps`."""
    model, loss = make()
    model.to(device)
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


def matrix_product(device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    a, b = torch.randn(2, SIDE, SIDE, device=device, dtype=dtype)
    return lambda: a @ b


def measure(name: str, args: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all steps on a backbone; return the rows of its table."""
    device = torch.device(args.device)
    bench = Bench(name, args)
    steps, losses = {}, {}
    kinds = {k: make for k, make in bench.steps().items() if k in args.steps}
    for kind, make in track(kinds.items(), f'{name}: first steps', console=console):
        for precision in args.precisions:
            torch.manual_seed(0)
            step = whole_step(make, device, getattr(torch, precision))
            start = perf_counter()
            losses[kind, precision] = float(step())
            console.print(f'{kind}, {precision}: first step {perf_counter() - start:.0f} s')
            steps[kind, precision] = step
    check_losses(losses)
    memory = {key: peak_memory(step, device) for key, step in steps.items()}
    for precision in args.precisions:
        steps[PRODUCT, precision] = matrix_product(device, getattr(torch, precision))
    times = defaultdict(list)
    for _ in track(range(args.repeats), f'{name}: {len(steps)} steps in turn', console=console):
        for key, step in steps.items():
            times[key].append(step_seconds(step, device))
    rows = []
    for (kind, precision), values in times.items():
        if kind == PRODUCT:
            continue
        middle = median(values)
        low, _, high = quantiles(values, n=4) if len(values) > 1 else [middle] * 3

        def ratio(kind: str, precision: str = precision, middle: float = middle) -> float | None:
            others = times.get((kind, precision))
            return middle / median(others) if others else None

        floor = listing = share = speed = None
        if kind not in OTHERS:
            work = 3 if kind == SUPERVISED else 6 * bench.num_steps  # in F
            if kind != SUPERVISED and (SUPERVISED, precision) in times:
                floor = ratio(SUPERVISED) / (work / 3)
            share = work * bench.forward_flops / (2 * SIDE**3) / ratio(PRODUCT)
            speed = work * bench.forward_flops / middle / 1e12
        if kind.startswith('ours') and (LISTING_1, precision) in memory:
            listing = memory[kind, precision] / memory[LISTING_1, precision]
        rows.append(
            dict(
                model=name,
                step=kind,
                precision=precision,
                images_per_second=bench.batch / middle,
                milliseconds=1000 * middle,
                quartile_1=1000 * low,
                quartile_3=1000 * high,
                of_supervised=ratio(SUPERVISED),
                of_floor=floor,
                of_listing_1=ratio(LISTING_1),
                of_listing_1_float32=ratio(LISTING_1, 'float32'),
                of_product=share,
                teraflops=speed,
                megabytes=memory[kind, precision] / 2**20,
                memory_of_listing_1=listing,
            )
        )
    return rows


def check_losses(losses: dict[tuple[str, str], float]) -> None:
    """Check that our steps compute Listing 1's loss; else the comparison means nothing.

    Raises:
        RuntimeError: a loss differs.
    """
    for (kind, precision), loss in losses.items():
        expected = losses.get((LISTING_1, precision))
        tolerance = 1e-4 if precision == 'float32' else 2e-2
        if expected and kind.startswith('ours') and abs(loss / expected - 1) > tolerance:
            raise RuntimeError(
                f'{kind} in {precision} computed a loss of {loss:.6f}, Listing 1 {expected:.6f}'
            )


# Headings of a table; each table has one model and one precision.
COLUMNS = (
    'step', 'images/s', 'ms (quartiles)', '× supervised', '× floor', '× Listing 1',
    'speed-up on float32', 'of product', 'peak MB', 'of Listing 1',
)  # fmt: skip
# those that fit on a terminal of 80 columns
SHOWN = tuple(c for c in COLUMNS if c not in ('speed-up on float32', 'of product'))
LEGEND = (
    '×: time relative to another step of the same precision (floor: 2 N supervised steps); '
    'speed-up on float32: over Listing 1 in float32; of product: share of the speed of '
    f'{SIDE}² matrix products; peak MB: allocated during a step; of Listing 1: relative to its MB'
)


def cells(row: dict) -> list[str]:
    """A row as text."""

    def number(value: float | None, digits: int = 2) -> str:
        return '' if value is None else f'{value:.{digits}f}'

    speedup = row['of_listing_1_float32'] and 1 / row['of_listing_1_float32']
    return [
        row['step'],
        number(row['images_per_second']),
        f'{row["milliseconds"]:.0f} ({row["quartile_1"]:.0f}–{row["quartile_3"]:.0f})',
        number(row['of_supervised']),
        number(row['of_floor']),
        number(row['of_listing_1']),
        number(speedup),
        number(row['of_product']),
        number(row['megabytes'], 0),
        number(row['memory_of_listing_1']),
    ]


def tables(rows: list[dict]) -> dict[str, list[list[str]]]:
    """Title → lines of cells, one table for each model and precision."""
    found = defaultdict(list)
    for row in rows:
        found[f'{row["model"]}, {row["precision"]}'].append(cells(row))
    return found


def write(rows: list[dict], title: str, folder: Path) -> None:
    """Write speed.csv, speed.json, speed.md and speed.png."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(rows, folder / 'speed.csv')
    (folder / 'speed.json').write_text(json.dumps(dict(title=title, rows=rows), indent=1) + '\n')
    text = [title]
    for name, lines in tables(rows).items():
        lines = [COLUMNS, ['---'] + ['---:'] * (len(COLUMNS) - 1), *lines]
        text.append(f'**{name}**\n\n{markdown_table(lines)}')
    (folder / 'speed.md').write_text('\n\n'.join([*text, LEGEND]) + '\n')
    models = list(dict.fromkeys(row['model'] for row in rows))
    figure, axes = plt.subplots(
        1, len(models), figsize=(5.5 * len(models), 4), squeeze=False, layout='constrained'
    )
    for axis, model in zip(axes[0], models, strict=True):
        mine = [row for row in rows if row['model'] == model]
        names = [f'{row["step"]}, {row["precision"]}' for row in mine]
        colours = ['C0' if row['step'].startswith('ours') else 'C7' for row in mine]
        bars = axis.barh(names, [row['images_per_second'] for row in mine], color=colours)
        axis.bar_label(bars, fmt='%.3g', padding=3)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set(title=model, xlabel='images per second')
        axis.spines[['top', 'right']].set_visible(False)
    figure.suptitle(fill(title, 65 * len(models)), fontsize='small')
    figure.savefig(folder / 'speed.png', dpi=150)
    plt.close(figure)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    gpu = torch.cuda.is_available()
    kinds = (SUPERVISED, LISTING_1, 'ours', 'ours, compiled', *OTHERS)
    parser.add_argument('--models', nargs='+', choices=BACKBONES, default=['vit-small'])
    parser.add_argument('--steps', nargs='+', choices=kinds, default=kinds, metavar='STEP',
                        help=f'any of {"; ".join(kinds)}')  # fmt: skip
    parser.add_argument('--precisions', nargs='+', choices=['float32', 'bfloat16', 'float16'],
                        default=['float32', 'bfloat16'])  # fmt: skip
    parser.add_argument('--device', default='cuda' if gpu else 'cpu')
    parser.add_argument('--batch-size', type=int, default=128 if gpu else 8)
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--num-steps', type=int, default=2, help='N')
    parser.add_argument('--repeats', type=int, default=20 if gpu else 5)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/speed'))
    args = parser.parse_args(argv)
    for name in ('batch_size', 'image_size', 'num_steps', 'repeats'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be ≥ 1, got {getattr(args, name)}')
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    MMLogger.get_instance('mmengine', log_level='WARNING')  # else it logs every initialised tensor
    quiet_torch()
    device = torch.device(args.device)
    threads = f', {torch.get_num_threads()} threads' if device.type == 'cpu' else ''
    title = (
        f'{device_name(device)}{threads}; torch {torch.__version__}; batch {args.batch_size}, '
        f'{args.image_size}², N = {args.num_steps}; median of {args.repeats} steps in turn; '
        "BEiT's tokenizer with random weights"
    )
    rows = []
    for name in args.models:
        rows += measure(name, args, console)
        write(rows, title, args.out)
    console.print(title)
    for name, lines in tables(rows).items():
        shown = [[dict(zip(COLUMNS, line, strict=True))[c] for c in SHOWN] for line in lines]
        print_table(console, SHOWN, shown, f'\n{name}')
    console.print(f'\n{LEGEND}')
    console.print(f'All columns: {args.out / "speed.md"}', soft_wrap=True)
    console.print(f'Look at {args.out / "speed.png"}', soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
