"""Draw pairs of clean and corrupted images from the loader of a config.

python tools/visualization/browse_corruptions.py CONFIG
python tools/visualization/browse_corruptions.py CONFIG --split val --num 24 --output pairs.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmpretrain.registry import DATASETS, MODELS

from mmebm.cli.errors import one_line_errors
from mmebm.cli.launch import ConfigOptions, read_config
from mmebm.cli.parser import OneLineParser
from mmebm.models.base_algorithm import to_pixels

PAIRS_PER_ROW = 3


def browse(args: argparse.Namespace) -> None:
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    set_random_seed(cfg.get('randomness', {}).get('seed'))
    loader = cfg.get(f'{args.split}_dataloader')
    if loader is None:
        raise ValueError(f'{cfg.filename} has no {args.split}_dataloader')
    dataset = DATASETS.build(loader.dataset)
    preprocessor = cfg.get('model', {}).get('data_preprocessor') or cfg.get('data_preprocessor')
    spread = np.linspace(0, len(dataset) - 1, min(args.num, len(dataset))).round().astype(int)
    pairs = [load_pair(dataset[int(index)], preprocessor) for index in spread]
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    draw(pairs).savefig(args.output, dpi=120)
    print(f'{len(pairs)} of {len(dataset)} images of the {args.split} set: {args.output}')


def load_pair(item: dict, preprocessor: dict | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Clean and corrupted image ``(H, W, 3)`` RGB in pixel units, and the corruption's name.

    The preprocessor of the model adds the noise of ``GaussianNoise(on_device=True)``.
    """
    name = item['data_samples'].get('corruption')
    if name is None:
        raise ValueError(
            'the pipeline of this dataset has no corruption, or no '
            "dict(type='PackInputs', meta_keys=('corruption', ...)) after it"
        )
    images, is_bgr = item['inputs'], preprocessor is None or preprocessor.get('to_rgb', False)
    if len(images) == 3:  # the noise is still to be added
        module = MODELS.build(preprocessor)
        images = [to_pixels(x, module)[0] for x in module(default_collate([item]))['inputs']]
        is_bgr = False
    corrupted, clean = ((x.flip(0) if is_bgr else x).permute(1, 2, 0).numpy() for x in images)
    return clean, corrupted, name


def draw(pairs: list[tuple[np.ndarray, np.ndarray, str]]) -> Figure:
    """Draw pairs side by side, each with the name of its corruption; values are clipped."""
    columns = min(len(pairs), PAIRS_PER_ROW)
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(4 * columns, 2.3 * rows), layout='constrained')
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.set_axis_off()
    for axis, (clean, corrupted, name) in zip(figure.axes, pairs, strict=False):
        gap = np.full((clean.shape[0], 3, 3), 255)
        picture = np.concatenate([clean, gap, corrupted], axis=1)
        axis.imshow(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
        axis.set_title(f'clean | {name}', fontsize=9)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = OneLineParser(description='Draw pairs of clean and corrupted images of a config.')
    parser.add_argument('config', help='config file of a pretraining run')
    parser.add_argument('--split', choices=['train', 'val'], default='train', help='which loader')
    parser.add_argument('--num', type=int, default=12, help='number of images, evenly spread')
    parser.add_argument('--output', default='corruptions.png', help='picture to write')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error(f'--num must be >= 1, got {args.num}')
    with one_line_errors('browse_corruptions.py'):
        browse(args)


if __name__ == '__main__':
    main()
