"""Pretrain a small network by energy restoration in a few minutes, and see what it restores.

python tools/quickstart.py                 # photographs from scikit-image and scikit-learn
python tools/quickstart.py --data FOLDER   # your own images
"""

import argparse
import shutil
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import Progress, TextColumn, track
from torch import nn
from torch.utils.data import DataLoader

from mmebm.cli.config_check import check_config
from mmebm.cli.errors import one_line_errors
from mmebm.cli.launch import (
    ConfigOptions,
    build_runner,
    check_checkpoint,
    check_work_dir,
    read_config,
)
from mmebm.cli.parser import OneLineParser
from mmebm.datasets.files import find_images
from mmebm.datasets.reader import FORMATS
from mmebm.evaluation import loaders_per_corruption, metrics_per_corruption
from mmebm.models.chain import Chain, draw_chains
from mmebm.utils.tables import print_table

CONFIG_FOLDER = Path(__file__).parent.parent / 'configs/quickstart'
CONFIG = CONFIG_FOLDER / 'energy-mixed_vit-nano-p6_1xb32-coslr-10e_photos.py'
SHORT_SIDE = 320  # pixels, of a photograph before it is cut into tiles
TRAIN_TILE = 128  # side in pixels
HELD_OUT_TILE = 80  # fits a quarter of a square photograph
WHOLE_IMAGES_FROM = 40  # from this many on, every tenth image is held out; else a part of each
MAX_IMAGES = 500  # of a folder, evenly spread: enough for a few minutes of training


def sample_photographs() -> dict[str, np.ndarray]:
    """Colour photographs from scikit-image and scikit-learn, ``(H, W, 3)`` uint8 RGB."""
    names = ('astronaut', 'chelsea', 'coffee', 'rocket', 'hubble_deep_field', 'retina')
    photographs = {name: getattr(skimage.data, name)() for name in names}
    for name in ('china', 'flower'):
        photographs[name] = sklearn.datasets.load_sample_image(f'{name}.jpg')
    return photographs


def shrink(image: Image.Image) -> Image.Image:
    """Convert to RGB, upright, with a short side of at most ``SHORT_SIDE``."""
    image = ImageOps.exif_transpose(image).convert('RGB')
    scale = SHORT_SIDE / min(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    return image.resize(size, Image.Resampling.LANCZOS) if scale < 1 else image


def tiles(image: Image.Image, side: int, stride: int) -> list[Image.Image]:
    """Cut an image into squares; a smaller image is a single tile."""
    width, height = image.size
    boxes = [
        (x, y, min(x + side, width), min(y + side, height))
        for y in range(0, max(height - side, 0) + 1, stride)
        for x in range(0, max(width - side, 0) + 1, stride)
    ]
    return [image.crop(box) for box in boxes]


def prepare(images: dict, folder: Path, console: Console) -> None:
    """Write training tiles and held-out tiles below ``folder``.

    Args:
        images: name → pixels ``(H, W, 3)`` uint8 RGB, or the path of a file.
        folder: gets the sub-folders ``train`` and ``held_out``.
        console: for the progress bar, and for the names of files that cannot be read.

    Raises:
        ValueError: no image could be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    whole = len(images) >= WHOLE_IMAGES_FROM
    unreadable = 0
    for number, (name, source) in enumerate(track(images.items(), 'cutting', console=console)):
        try:
            from_file = isinstance(source, Path)
            image = shrink(
                Image.open(source, formats=formats) if from_file else Image.fromarray(source)
            )
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            unreadable += 1
            console.print(f'skipped {source}: {error}', markup=False, soft_wrap=True)
            continue
        width, height = image.size
        parts = [('held_out' if number % 10 == 0 else 'train', image)]
        if not whole:  # the third quarter of the width is held out
            cuts = [0, width // 2, width * 3 // 4, width]
            strips = [image.crop((a, 0, max(b, a + 1), height)) for a, b in pairwise(cuts)]
            parts = list(zip(('train', 'held_out', 'train'), strips, strict=True))
        count = 0
        for part, pixels in parts:
            side = TRAIN_TILE if part == 'train' else HELD_OUT_TILE
            for tile in tiles(pixels, side, side // 2):
                file = folder / part / f'{number:04d}_{Path(name).stem}_{count:03d}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                tile.save(file, icc_profile=None)  # libpng warns about an odd one at every read
                count += 1
    if unreadable:
        console.print(f'{unreadable} of {len(images)} images could not be read')
    if unreadable == len(images):
        raise ValueError('none of the images could be read')


def training_config(folder: Path, work_dir: Path, options: dict) -> Config:
    """The quickstart's config on the tiles that will be in ``folder``.

    Raises:
        ValueError: an option does not fit it.
    """
    config = read_config(CONFIG, options)
    config.launcher = 'none'
    config.work_dir = str(work_dir)
    config.log_level = 'WARNING'  # the bar is enough; metrics go to vis_data/
    config.train_dataloader.dataset.data_root = str(folder)
    config.val_dataloader.dataset.data_root = str(folder)
    config.test_dataloader.dataset.data_root = str(folder)
    check_config(config)
    MODELS.build(config.model)  # finds wrong values before anything is written
    return config


class ProgressHook(Hook):
    """Show a progress bar, and print the gain on the held-out tiles after each epoch."""

    def __init__(self, progress: Progress):
        self.progress = progress

    def before_train(self, runner: Runner) -> None:
        self.task = self.progress.add_task(
            'training', total=runner.max_iters, completed=runner.iter, loss=''
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        loss = f'loss {outputs["loss"].item():.3f}'
        self.progress.update(self.task, completed=runner.iter + 1, loss=loss)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        gain = metrics['restoration/psnr_gain']
        self.progress.console.print(
            f'epoch {runner.epoch:2} of {runner.max_epochs}: {gain:+.2f} dB on held-out tiles'
        )


def most_detailed(files: list[Path], count: int) -> list[int]:
    """Indices of ``count`` tiles, each the one with the most contrast in its photograph.

    A flat sky shows little. With fewer photographs than ``count``, some repeat.
    """
    best = {}
    for index, file in enumerate(files):
        contrast = float(np.asarray(Image.open(file).convert('L')).std())
        photograph = file.name.split('_')[0]
        best[photograph] = max(best.get(photograph, (-1.0, 0)), (contrast, index))
    indices = [index for _, index in best.values()]
    return [indices[i * len(indices) // count % len(indices)] for i in range(count)]


def example_chains(model: nn.Module, loaders: dict[str, DataLoader], each: int) -> list[Chain]:
    """``each`` chains per corruption to draw, from different photographs if there are enough."""
    datasets = {name: loader.dataset for name, loader in loaders.items()}
    first = next(iter(datasets.values()))
    files = [Path(first.get_data_info(i)['img_path']) for i in range(len(first))]
    picks = iter(most_detailed(files, each * len(datasets)))
    chains = []
    for name, dataset in datasets.items():
        samples = default_collate([dataset[i] for i in islice(picks, each)])
        inputs = model.data_preprocessor(samples, False)['inputs']
        for chain in model.validation_chains(inputs):
            chain.title = name
            chains.append(chain)
    return chains


COLUMNS = ('corruption', 'corrupted', 'restored', 'gain', 'SSIM corrupted', 'SSIM restored')


def show(metrics: dict, console: Console) -> None:
    """Print a table with a row per corruption."""
    rows = []
    for name, values in metrics.items():
        before, after = values['restoration/psnr_corrupted'], values['restoration/psnr']
        ssim = values['restoration/ssim_corrupted'], values['restoration/ssim']
        psnr = (f'{before:.2f}', f'{after:.2f}', f'{after - before:+.2f}')
        rows.append([name, *psnr, *(f'{value:.3f}' for value in ssim)])
    title = 'held-out crops: PSNR in dB, from the squared error over all of them'
    print_table(console, COLUMNS, rows, title)


def photographs(data: str | None, console: Console) -> dict:
    """Name → path of the images in a folder, or → pixels of the sample photographs if it is None.

    Raises:
        FileNotFoundError, ValueError: there is no image.
    """
    if data is None:
        return sample_photographs()
    found, _ = find_images(data)
    spread = np.linspace(0, len(found) - 1, min(len(found), MAX_IMAGES)).round().astype(int)
    if len(found) > MAX_IMAGES:
        console.print(f'{len(found)} images found; training on {MAX_IMAGES} of them')
    images = {str(found[i]): found[i] for i in spread}
    if len(images) < WHOLE_IMAGES_FROM:
        console.print(
            f'{len(images)} {"image is" if len(images) == 1 else "images are"} too few to '
            'hold any out: the metrics will be measured on a quarter of each, and say '
            f'little about other images. From {WHOLE_IMAGES_FROM} images on, every tenth '
            'is held out; a few hundred are a sensible number.',
            soft_wrap=True,
        )
    return images


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', help='folder of images; sample photographs by default')
    parser.add_argument('--work-dir', default='work_dirs/quickstart')
    parser.add_argument(
        '--resume', action='store_true', help='continue an interrupted run in the work dir'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with one_line_errors('quickstart.py', '--resume continues after the last whole epoch'):
        return run(args)


def run(args: argparse.Namespace) -> int:
    """What main does, once the arguments are known."""
    console = Console()
    work_dir = Path(args.work_dir).resolve()
    folder = work_dir / 'photos'
    config = training_config(folder, work_dir, args.cfg_options)
    config.resume = args.resume
    check_checkpoint(config)
    check_work_dir(config)
    prepare(photographs(args.data, console), folder, console)
    # An epoch has the same number of samples for eight images as for five hundred.
    repeats = max(1, round(config.samples_per_epoch / len(find_images(folder / 'train')[0])))
    config.train_dataloader.dataset.setdefault('repeats', repeats)
    runner = build_runner(config, local_rank=0)
    columns = [*Progress.get_default_columns(), TextColumn('{task.fields[loss]}')]
    with Progress(*columns, console=console) as progress:
        runner.register_hook(ProgressHook(progress))
        runner.train()
    model = runner.model.eval()
    loaders = loaders_per_corruption(config.val_dataloader)
    metrics = metrics_per_corruption(model, loaders)
    picture = work_dir / 'restored.png'
    Image.fromarray(draw_chains(example_chains(model, loaders, each=2), across=2)).save(picture)
    show(metrics, console)
    console.print(f'Look at {picture}', soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
