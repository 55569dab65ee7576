"""Try energy restoration on every backbone, and write the tables of ``docs/backbones.md``.

python tools/benchmarks/check_backbones.py                          all of them
python tools/benchmarks/check_backbones.py --only 'Swin|convnext'   update some rows
"""

import argparse
import json
import multiprocessing
import platform
import re
import sys
import time
from pathlib import Path
from statistics import median
from textwrap import shorten

import mmpretrain
import timm
import torch
from mmengine.model import revert_sync_batchnorm
from mmpretrain.registry import MODELS
from torch import Tensor, nn

import mmebm
from mmebm.backbones.probe import (
    Probe,
    constructor_arguments,
    one_line,
    own_image_size,
    probe,
    registered_backbones,
    smallest_config,
)
from mmebm.cli.parser import OneLineParser
from mmebm.models.energy_head import pool_features
from mmebm.utils.device import device_name
from mmebm.utils.tables import markdown_table

# One small network per family.
TIMM_MODELS = {
    'ViT': 'vit_tiny_patch16_224',
    'DeiT III': 'deit3_small_patch16_224',
    'EVA-02': 'eva02_tiny_patch14_224',
    'ConvNeXt': 'convnext_atto',
    'ConvNeXt v2': 'convnextv2_atto',
    'Swin': 'swin_tiny_patch4_window7_224',
    'Swin v2': 'swinv2_tiny_window8_256',
    'MaxViT': 'maxvit_pico_rw_256',
    'ResNet': 'resnet18',
    'EfficientNet': 'efficientnet_b0',
    'MobileNet v4': 'mobilenetv4_conv_small',
    'CaiT': 'cait_xxs24_224',
    'XCiT': 'xcit_nano_12_p16_224',
    'BEiT': 'beit_base_patch16_224',
    'hybrid ViT': 'vit_tiny_r_s16_p8_224',
}
SIZES = (64, 128, 224)  # image sides to try in pixels, then the backbone's own
BATCH, NUM_STEPS, TIMED_STEPS = 2, 2, 3
SECONDS = 600  # limit per backbone
PAGE = Path(__file__).parents[2] / 'docs/backbones.md'
BEGIN, END = '<!-- written by tools/benchmarks/check_backbones.py -->', '<!-- until here -->'


def check(name: str) -> dict:
    """Try energy restoration on a backbone with random weights; errors are returned, not raised.

    ``ratio``: of times, energy to supervised.
    """
    row, stage = {}, 'construction and features'
    torch.set_num_threads(1)
    try:
        found = find(name)
        row['arguments'] = {k: v for k, v in found.config.items() if k != 'type'}
        row |= dict(image_size=found.image_size[0], features=found.shape)
        stage = 'energy'
        images = torch.randn(BATCH, 3, *found.image_size)
        model = algorithm(found.backbone, found.channels).train()
        model.energy(images)
        stage = 'training step'
        row['ratio'] = train(model, images, found.channels)
    except Exception as error:  # other people's code: it fails in any way
        row['error'] = dict(stage=stage, type=type(error).__name__, words=one_line(error))
    return row


def find(name: str) -> Probe:
    """The first arguments and image size with which a backbone returns features."""
    configs = [dict(type='TIMMBackbone', model_name=name)]
    if name not in TIMM_MODELS.values():
        smallest = smallest_config(MODELS.get(name))
        arguments, _ = constructor_arguments(MODELS.get(name))
        # some classes require in **kwargs what their parent has a default for
        inherited = {n: arguments[n].default for n in arguments.keys() & {'patch_size'}}
        configs = [smallest, dict(type=name), smallest | inherited]
        if name == 'TIMMBackbone':
            configs = [dict(type=name, model_name='resnet18')]
    errors = []
    for config in configs:
        for size in (*SIZES, own_image_size(config)):
            try:
                return probe(config, size)
            except ValueError as error:
                errors.append(error.__cause__)
    raise errors[len(SIZES)]  # of the first config, at its own size


def algorithm(backbone: nn.Module, channels: int) -> nn.Module:
    """With weights that are never zero, so that gradients reach every layer."""
    torch.manual_seed(0)
    head = dict(type='EnergyHead', in_channels=channels)
    backbone = revert_sync_batchnorm(backbone)
    model = mmebm.EnergyRestorationAlgorithm(backbone, head, num_steps=NUM_STEPS, step_size=1.0)
    with torch.no_grad():  # residual branches and layer scales often start at zero
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def train(model: nn.Module, images: Tensor, channels: int) -> float:
    """Alternate supervised and energy steps; ratio of their median processor times."""
    classifier, labels = nn.Linear(channels, 1000), torch.arange(len(images))
    corrupted, times = images + 0.5 * torch.randn_like(images), ([], [])
    for _ in range(TIMED_STEPS + 1):
        for energy, seconds in enumerate(times):
            model.zero_grad()
            started = time.process_time()
            if energy:
                loss = model.loss([corrupted, images])['loss']
            else:
                scores = classifier(pool_features(model.backbone(images), channels))
                loss = nn.functional.cross_entropy(scores, labels)
            loss.backward()
            seconds.append(time.process_time() - started)
    if not all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()):
        raise ArithmeticError('gradients are not finite')
    return median(times[1][1:]) / median(times[0][1:])


def check_in_process(name: str) -> dict:
    """:func:`check` in a process of its own, which may hang, crash or need too much memory."""
    with multiprocessing.get_context('fork').Pool(1) as pool:
        try:
            return pool.apply_async(check, (name,)).get(SECONDS)
        except multiprocessing.TimeoutError:
            words = f'no answer in {SECONDS} s'
            return dict(error=dict(stage='process', type='Timeout', words=words))


def page(old: str, rows: list[dict], measured_with: dict) -> str:
    """A page with these tables between its marks."""
    text = [MEASURED.format(**measured_with)]
    for library in ('MMPretrain', 'timm'):
        own = [row for row in rows if row['library'] == library]
        good, bad = [r for r in own if 'error' not in r], [r for r in own if 'error' in r]
        for part, what, columns, cells in (
            (good, 'work', ('backbone', 'arguments', 'image', 'ratio'), good_cells),
            (bad, 'do not', ('backbone', 'stops at', 'because'), bad_cells),
        ):
            if part:
                rule = ['---:' if c in ('image', 'ratio') else '---' for c in columns]
                table = markdown_table([columns, rule, *map(cells, part)])
                text.append(f'## {library}: {len(part)} of {len(own)} {what}\n\n{table}\n')
    tables = '\n'.join(text)
    return re.sub(f'{BEGIN}.*{END}', lambda _: f'{BEGIN}\n{tables}{END}', old, flags=re.DOTALL)


MEASURED = """\
Measured on: {device}; Python {python}, torch {torch}, mmpretrain {mmpretrain}, timm {timm}, \
mmebm {mmebm};
batches of {batch}, N = {num_steps}.
"""


def good_cells(row: dict) -> list[str]:
    given = {k: v for k, v in row['arguments'].items() if k != 'img_size'}
    arguments = ', '.join(f'{k}={v!r}' for k, v in given.items()) or '–'
    return [f'`{row["name"]}`', arguments, str(row['image_size']), f'{row["ratio"]:.1f}']


def bad_cells(row: dict) -> list[str]:
    error = row['error']
    because = f'{error["type"]}: {shorten(error["words"], 80, placeholder=" …")}'
    return [f'`{row["name"]}`', error['stage'], because.replace('|', '\\|')]


def main(arguments: list[str] | None = None) -> None:
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', metavar='PATTERN', help='a regular expression for the names')
    parser.add_argument('--out', type=Path, default=PAGE, help='the page, which has the marks')
    args = parser.parse_args(arguments)
    names = {name: ('MMPretrain', name) for name in registered_backbones()}
    names |= {model: ('timm', f'{family}: {model}') for family, model in TIMM_MODELS.items()}
    chosen = [n for n in names if re.search(args.only or '', ': '.join(names[n]), re.IGNORECASE)]
    if not chosen:
        parser.error(f'--only {args.only} matches no backbone')
    measured_with = dict(
        device=f'{device_name()}, one thread',
        python=platform.python_version(),
        **{m.__name__: m.__version__ for m in (torch, mmpretrain, timm, mmebm)},
        batch=BATCH,
        num_steps=NUM_STEPS,
    )
    store, rows = args.out.with_suffix('.json'), {}
    if args.only and store.exists():
        kept = json.loads(store.read_text('utf-8'))['rows']
        rows = {(row['library'], row['name']): row for row in kept}
    for name in chosen:
        library, title = names[name]
        row = dict(library=library, name=title) | check_in_process(name)
        rows[library, title] = row
        print(title, row.get('error') or row['ratio'], file=sys.stderr)
        # after each row, so that an interrupted run keeps its results
        ordered = [rows[key] for key in names.values() if key in rows]
        stored = dict(measured_with=measured_with, rows=ordered)
        text = json.dumps(stored, indent=1, ensure_ascii=False) + '\n'
        store.write_text(text, 'utf-8')
        text = page(args.out.read_text('utf-8'), ordered, measured_with)
        args.out.write_text(text, 'utf-8')


if __name__ == '__main__':
    main()
