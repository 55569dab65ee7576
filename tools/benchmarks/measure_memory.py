"""Measure peak memory of our training step and of Listing 1, by backbone, precision and batch size.

    python tools/benchmarks/measure_memory.py --out work_dirs/memory
    python tools/benchmarks/measure_memory.py --models vit-small --batch-sizes 1 2 4 --num-steps 2

Counts what PyTorch allocates beyond the weights and AdamW's state, gradients included. Other load
on the machine does not matter. A straight line through the batch sizes, ``fixed + per image · B``,
predicts other batch sizes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from benchmark_speed import BACKBONES, LISTING_1, Bench, whole_step
from mmengine.logging import MMLogger
from rich.progress import track
from torch import nn

from mmebm.cli.parser import OneLineParser
from mmebm.utils.device import device_name
from mmebm.utils.quiet import quiet_torch
from mmebm.utils.step_cost import peak_memory
from mmebm.utils.tables import markdown_table, write_csv

KINDS = (LISTING_1, 'ours')


class SharedBench(Bench):
    """Steps that share one network, so that the optimizer's state exists after the first step."""

    model = None

    def energy_model(self, **options) -> nn.Module:
        self.model = self.model or super().energy_model(**options).to(self.device)
        self.model.num_steps = self.num_steps
        return self.model


def measure(name: str, args: argparse.Namespace) -> list[dict]:
    """One row per precision and N of a backbone; memory in MB (2**20 bytes)."""
    sizes = argparse.Namespace(
        device=args.device, image_size=args.image_size, batch_size=1, num_steps=1
    )
    bench = SharedBench(name, sizes)
    losses = {}

    def make():
        model, losses['now'] = bench.steps()['ours']()
        return model, lambda: losses['now']()

    steps = {p: whole_step(make, bench.device, getattr(torch, p)) for p in args.precisions}
    for step in steps.values():
        step()
    states = 3 * 4 * sum(p.numel() for p in bench.model.parameters()) / 2**20
    rows = []
    for precision, step in steps.items():
        for bench.num_steps in args.num_steps:
            row = dict(model=name, precision=precision, N=bench.num_steps)
            row['weights and AdamW'] = states
            for kind in KINDS:
                values = []
                for bench.batch in args.batch_sizes:
                    losses['now'] = bench.steps()[kind]()[1]
                    values.append(peak_memory(step, bench.device) / 2**20)
                    row[f'{kind}, batch {bench.batch}'] = values[-1]
                line = np.polyfit(args.batch_sizes, values, 1)
                errors = np.polyval(line, args.batch_sizes) / values - 1
                row[f'{kind}, per image'], row[f'{kind}, fixed'] = line.tolist()
                row[f'{kind}, error in %'] = float(100 * abs(errors).max())
            rows.append(row)
    return rows


def write(rows: list[dict], title: str, folder: Path) -> None:
    """Write memory.csv with all columns, and memory.md with the main ones."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(rows, folder / 'memory.csv')
    batches = [key.removeprefix('ours, batch ') for key in rows[0] if 'ours, batch' in key]
    lines = [['backbone', 'weights and AdamW', 'precision', 'N']]
    for kind in KINDS:
        lines[0] += [f'{kind}, B = {", ".join(batches)}', 'line (largest error)']
    lines.append(['---'] * len(lines[0]))
    for row in rows:
        lines.append([row['model'], f'{row["weights and AdamW"]:.0f}', row['precision'], row['N']])
        for kind in KINDS:
            lines[-1] += [
                ', '.join(f'{row[f"{kind}, batch {batch}"]:.0f}' for batch in batches),
                f'{row[f"{kind}, fixed"]:.0f} + {row[f"{kind}, per image"]:.0f} B '
                f'({row[f"{kind}, error in %"]:.1f} %)',
            ]
    (folder / 'memory.md').write_text(f'{title}\n\n{markdown_table(lines)}\n')


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', choices=BACKBONES,
                        default=['vit-small', 'vit-base', 'vit-large', 'swin-tiny',
                                 'convnext-tiny'])  # fmt: skip
    parser.add_argument('--precisions', nargs='+', choices=['float32', 'bfloat16'],
                        default=['float32', 'bfloat16'])  # fmt: skip
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=[1, 2, 4], metavar='B')
    parser.add_argument('--num-steps', nargs='+', type=int, default=[1, 2, 4], metavar='N')
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/memory'))
    args = parser.parse_args(argv)
    if min(*args.batch_sizes, *args.num_steps) < 1 or len(set(args.batch_sizes)) < 2:
        parser.error(
            '--batch-sizes needs at least two different numbers, and all numbers must be ≥ 1'
        )
    MMLogger.get_instance('mmengine', log_level='WARNING')
    quiet_torch()
    title = f'{device_name(args.device)}; torch {torch.__version__}; {args.image_size}²; MB'
    rows = []
    for name in track(args.models, 'backbones'):
        rows += measure(name, args)
        write(rows, title, args.out)
    print(f'Look at {args.out / "memory.md"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
