"""Draw pairs of clean and corrupted images from the loader of a config.

python tools/visualization/browse_corruptions.py CONFIG
python tools/visualization/browse_corruptions.py CONFIG --split val --num 24 --output pairs.png
"""

import argparse
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import BaseDataset, default_collate
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmpretrain.registry import DATASETS, MODELS
from rich.progress import track

from mmebm.cli.errors import one_line_errors
from mmebm.cli.launch import ConfigOptions, read_config
from mmebm.cli.parser import OneLineParser
from mmebm.models.base_algorithm import to_pixels

PAIRS_PER_ROW = 3
PAIR_WIDTH = 4.0  # inches
GAP = 0.04  # between the two images of a pair, as a share of their width
DPI = 120


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, or ``argv``."""
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of a pretraining run')
    parser.add_argument('--split', choices=['train', 'val'], default='train', help='which loader')
    parser.add_argument('--num', type=int, default=12, help='number of images, evenly spread')
    parser.add_argument('--output', default='corruptions.png', help='picture to write')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help="override entries of the config: key=value, key='[a,b]', outer.inner=value",
    )
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error(f'--num must be >= 1, got {args.num}')
    return args


def build_dataset(cfg: Config, split: str) -> BaseDataset:
    """Build the dataset of a loader, its pipeline included.

    Raises:
        ValueError: If the config has no such loader.
    """
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise ValueError(f'{cfg.filename} has no {split}_dataloader')
    return DATASETS.build(loader.dataset)


def load_pair(
    dataset: BaseDataset, index: int, preprocessor: dict | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Load one item of a dataset as a pair of images.

    Args:
        dataset: Dataset with a corruption in its pipeline.
        index: Number of the item.
        preprocessor: Config of the model's data preprocessor. It adds the noise of
            ``GaussianNoise(on_device=True)``.

    Returns:
        The clean and the corrupted image, (H, W, 3) in pixel units, in the loader's channel order,
        and the corruption's name.

    Raises:
        ValueError: If the item holds no corrupted image.
    """
    item = dataset[index]
    name = item['data_samples'].get('corruption')
    if name is None:
        raise ValueError(
            'The images of this dataset are not corrupted, or the name of the corruption is lost. '
            "The pipeline needs a corruption, such as dict(type='GriddedMask', patch_size=16, "
            "ratio=0.5), and after it dict(type='PackInputs', meta_keys=('corruption', ...))"
        )
    images = item['inputs']
    if len(images) == 3:
        module = MODELS.build(preprocessor)
        images = module(default_collate([item]))['inputs']
        images = [to_pixels(image, module)[0] for image in images]
        images = [image.flip(0) if module._channel_conversion else image for image in images]
    corrupted, clean = (image.permute(1, 2, 0).numpy() for image in images)
    return clean, corrupted, name


def draw(pairs: list[tuple[np.ndarray, np.ndarray, str]]) -> Figure:
    """Draw pairs side by side; titles name the corruptions.

    Args:
        pairs: Clean and corrupted image, (H, W, 3) RGB, and a name. Values outside 0..255, as
            from noise, are clipped for display only.
    """
    columns = min(len(pairs), PAIRS_PER_ROW)
    rows = ceil(len(pairs) / columns)
    height, width = np.median([clean.shape[:2] for clean, _, _ in pairs], axis=0)
    row_height = PAIR_WIDTH * height / ((2 + GAP) * width) + 0.3  # inches, with the title
    figure = Figure(figsize=(columns * PAIR_WIDTH, rows * row_height), layout='constrained')
    figure.get_layout_engine().set(w_pad=0.1)  # inches: more between pairs than within them
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in axes:
        axis.set_axis_off()
    for axis, (clean, corrupted, name) in zip(figure.axes, pairs, strict=False):
        gap = np.full((clean.shape[0], round(GAP * clean.shape[1]), 3), 255)
        picture = np.concatenate([clean, gap, corrupted], axis=1)
        axis.imshow(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
        axis.set_title(f'clean | {name}', fontsize=9)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Build the dataset of the config, and draw some of its items."""
    args = parse_args(argv)
    with one_line_errors('browse_corruptions.py'):
        browse(args)


def browse(args: argparse.Namespace) -> None:
    """What main does, once the arguments are known."""
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    set_random_seed(cfg.get('randomness', {}).get('seed'))

    dataset = build_dataset(cfg, args.split)
    indices = np.linspace(0, len(dataset) - 1, min(args.num, len(dataset))).round().astype(int)
    preprocessor = cfg.get('model', {}).get('data_preprocessor') or cfg.get('data_preprocessor')
    pairs = [load_pair(dataset, int(index), preprocessor) for index in track(indices, 'loading')]

    if preprocessor is None or preprocessor.get('to_rgb', False):  # then images are BGR
        pairs = [(clean[..., ::-1], corrupted[..., ::-1], name) for clean, corrupted, name in pairs]
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    draw(pairs).savefig(output, dpi=DPI)
    print(f'{len(pairs)} of {len(dataset)} images of the {args.split} set: {output}')


if __name__ == '__main__':
    main()
