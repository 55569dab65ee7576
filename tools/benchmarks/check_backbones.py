"""Try energy restoration on every backbone, and write the tables of ``docs/backbones.md``.

python tools/benchmarks/check_backbones.py                          all of them
python tools/benchmarks/check_backbones.py --only 'Swin|convnext'   update some rows

The backbones are those in MMPretrain's registry, and one of each of timm's main families. Each is
built with random weights and tried in a process of its own, so that a crash, a hang or a lack of
memory affects only its own row. The rows are kept in a JSON file beside the page.
"""

import argparse
import json
import multiprocessing
import platform
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import mmpretrain
import timm
import torch
from rich.console import Console
from rich.progress import Progress

import mmebm
from mmebm.cli.parser import OneLineParser
from mmebm.evaluation.backbone_check import (
    BATCH,
    NUM_STEPS,
    REQUIRED,
    cases,
    check_backbone_in_process,
)
from mmebm.utils.device import device_name
from mmebm.utils.tables import markdown_table

ROOT = Path(__file__).parents[2]


def versions(device: str) -> dict:
    """Hardware and versions that the results belong to."""
    name = device_name(device) + (', one thread' if device == 'cpu' else '')
    return dict(
        device=name,
        python=platform.python_version(),
        torch=torch.__version__,
        mmpretrain=mmpretrain.__version__,
        timm=timm.__version__,
        mmebm=mmebm.__version__,
        batch=BATCH,
        num_steps=NUM_STEPS,
    )


def tables(rows: list[dict], measured_with: dict) -> str:
    """The text between the marks of the page."""
    text = [MEASURED.format(**measured_with)]
    for library in ('MMPretrain', 'timm'):
        own = [row for row in rows if row['library'] == library]
        good = [row for row in own if 'error' not in row]
        bad = [row for row in own if 'error' in row]
        if good:
            text += [f'## {library}: {len(good)} of {len(own)} work\n']
            text += [table(COLUMNS, map(good_cells, good))]
        if bad:
            text += [f'## {library}: what stops {len(bad)} of {len(own)}\n']
            text += [table(ERROR_COLUMNS, map(bad_cells, bad))]
    return '\n'.join(text)


def write_page(path: Path, rows: list[dict], measured_with: dict) -> None:
    """Replace the part between the marks of the page, and keep the rest.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, after = '', ''
    if path.exists():
        old = path.read_text()
        if old.count(BEGIN) != 1 or old.count(END) != 1:
            raise ValueError(
                f'{path} needs the lines {BEGIN} and {END}, once each, around the tables'
            )
        before, after = old.split(BEGIN)[0], old.split(END)[1]
    path.write_text(f'{before}{BEGIN}\n{tables(rows, measured_with)}{END}{after}')


BEGIN, END = '<!-- written by tools/benchmarks/check_backbones.py -->', '<!-- until here -->'
MEASURED = """\
Measured on: {device}; Python {python}, torch {torch}, mmpretrain {mmpretrain}, timm {timm},
mmebm {mmebm}; batches of {batch}, N = {num_steps}.
"""
COLUMNS = (
    'backbone', 'arguments', 'image', 'features', 'E', 'step', 'restores', 'couples images',
    'no gradient', 'supervised ms', 'energy ms', 'ratio',
)  # fmt: skip
ERROR_COLUMNS = ('backbone', 'arguments', 'E', 'step', 'restores', 'stops at', 'because')


def table(columns: Sequence[str], rows) -> str:
    numbers = ('image', 'supervised ms', 'energy ms', 'ratio')
    lines = [columns, ['---:' if c in numbers else '---' for c in columns], *rows]
    return markdown_table(lines) + '\n'


def marks(row: dict) -> list[str]:
    return ['yes' if row[k] else 'no' for k in ('energy', 'training_step', 'restoration')]


def arguments_cell(row: dict) -> str:
    given = {k: v for k, v in row.get('arguments', {}).items() if k not in ('img_size', *REQUIRED)}
    return ', '.join(f'{k}={v!r}' for k, v in given.items()) or '–'


def good_cells(row: dict) -> list[str]:
    coupling = 'no'
    if row['coupled']:
        coupling = 'yes; not with GroupNorm' if row['group_norm'] else 'yes'
    return [
        f'`{row["name"]}`',
        arguments_cell(row),
        str(row['image_size']),
        row['features'],
        *marks(row),
        coupling,
        f'{len(row["no_gradient"])} of {row["tensors"]}{shortened(row["no_gradient"])}',
        f'{row["supervised_ms"]:.0f}',
        f'{row["energy_ms"]:.0f}',
        f'{row["ratio"]:.1f}',
    ]


def bad_cells(row: dict) -> list[str]:
    error = row['error']
    because = error['words'] if len(error['words']) <= 300 else error['words'][:300] + ' …'
    because += f' (`{error["where"]}`)' if error.get('where') else ''
    because = because.replace('|', '\\|')
    return [
        f'`{row["name"]}`',
        arguments_cell(row),
        *marks(row),
        error['stage'],
        f'{error["type"]}: {because}',
    ]


def shortened(names: list[str], most: int = 3) -> str:
    """Names with ``*`` for numbers, most frequent first."""
    patterns = Counter(re.sub(r'\d+', '*', n.removeprefix('timm_model.')) for n in names)
    shown = [f'`{p}`' + (f' × {n}' if n > 1 else '') for p, n in patterns.most_common(most)]
    shown += ['…'] if len(patterns) > most else []
    return ': ' + ', '.join(shown) if shown else ''


def main(arguments: list[str] | None = None) -> None:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', metavar='PATTERN', help='a regular expression for the names')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/backbones.md', help='the page')
    parser.add_argument(
        '--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    args = parser.parse_args(arguments)
    store = args.out.with_suffix('.json')
    everything = cases()
    chosen = [c for c in everything if re.search(args.only or '', c['name'], re.IGNORECASE)]
    if not chosen:
        names = ', '.join(c['name'] for c in everything)
        parser.error(f'--only {args.only} matches none of: {names}')
    measured_with = versions(args.device)
    rows = {}
    if args.only and store.exists():
        kept = json.loads(store.read_text())
        if kept['measured_with'] != measured_with:
            parser.error(
                f'{store} was measured with {kept["measured_with"]}, this is {measured_with}: '
                'update all rows, or write elsewhere with --out'
            )
        rows = {(row['library'], row['name']): row for row in kept['rows']}

    multiprocessing.set_forkserver_preload(['mmebm', 'timm'])
    console = Console(file=sys.stderr)
    with Progress(console=console) as progress:
        task = progress.add_task('backbones', total=len(chosen))
        for case in chosen:
            progress.update(task, description=case['name'])
            row = check_backbone_in_process(**case, device=args.device)
            rows[row['library'], row['name']] = row
            console.print(summary(row), highlight=False, markup=False, soft_wrap=True)
            # after each row, so that an interrupted run keeps its results
            ordered = [rows[k] for c in everything if (k := (c['library'], c['name'])) in rows]
            stored = dict(measured_with=measured_with, rows=ordered)
            store.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + '\n')
            write_page(args.out, ordered, measured_with)
            progress.advance(task)


def summary(row: dict) -> str:
    if 'error' in row:
        return f'{row["name"]}: {row["error"]["stage"]}: {row["error"]["words"]}'
    return f'{row["name"]}: {row["ratio"]:.1f} times a supervised step'


if __name__ == '__main__':
    main()
