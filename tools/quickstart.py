"""Pretrain a small network by energy restoration in a few minutes, and look at what it restores.

python tools/quickstart.py                 # photographs inside scikit-image and scikit-learn
python tools/quickstart.py --data FOLDER   # your own images
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
from mmengine.config import Config, DictAction
from mmengine.dataset import default_collate
from mmengine.runner import Runner
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmebm.apis import find_images
from mmebm.evaluation import RestorationMetric
from mmebm.visualization import draw_chains, to_chains

CONFIG_FOLDER = Path(__file__).parent.parent / 'configs/quickstart'
CONFIG = CONFIG_FOLDER / 'energy-mixed_vit-nano-p6_1xb32-coslr-10e_photos.py'
SHORT_SIDE = 320  # pixels, of a photograph before it is cut into tiles
TRAIN_TILE = 128  # side in pixels
HELD_OUT_TILE = 80  # fits the right quarter of a square photograph
WHOLE_IMAGES_FROM = 40  # images: with as many, every tenth is held out; with fewer, a part of each
MAX_IMAGES = 500  # of a folder, evenly spread: enough for minutes of training


def sample_photographs() -> dict[str, np.ndarray]:
    """Colour photographs inside scikit-image and scikit-learn, ``(H, W, 3)`` uint8 RGB."""
    names = ('astronaut', 'chelsea', 'coffee', 'rocket', 'hubble_deep_field', 'retina')
    photographs = {name: getattr(skimage.data, name)() for name in names}
    for name in ('china', 'flower'):
        photographs[name] = sklearn.datasets.load_sample_image(f'{name}.jpg')
    return photographs


def shrink(image: Image.Image) -> Image.Image:
    """RGB, upright, its short side at most ``SHORT_SIDE``."""
    image = ImageOps.exif_transpose(image).convert('RGB')
    scale = SHORT_SIDE / min(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    return image.resize(size, Image.Resampling.LANCZOS) if scale < 1 else image


def tiles(image: Image.Image, side: int, stride: int) -> list[Image.Image]:
    """Squares of an image; an image smaller than one is its own tile."""
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
        console: for the progress, and for the names of the files that cannot be read.

    Raises:
        ValueError: no image could be read.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for part in ('train', 'held_out'):
        (folder / part).mkdir(parents=True)
    whole = len(images) >= WHOLE_IMAGES_FROM
    unreadable = 0
    for number, (name, source) in enumerate(track(images.items(), 'cutting', console=console)):
        try:
            opened = Image.open(source) if isinstance(source, Path) else Image.fromarray(source)
            image = shrink(opened)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            unreadable += 1
            console.print(f'skipped {source}: {error}', markup=False, soft_wrap=True)
            continue
        width, height = image.size
        parts = {'held_out': image} if number % 10 == 0 else {'train': image}
        if not whole:
            cut = width * 3 // 4
            parts = {
                'train': image.crop((0, 0, max(cut, 1), height)),
                'held_out': image.crop((min(cut, width - 1), 0, width, height)),
            }
        for part, pixels in parts.items():
            side = TRAIN_TILE if part == 'train' else HELD_OUT_TILE
            for i, tile in enumerate(tiles(pixels, side, side // 2)):
                tile.save(folder / part / f'{number:04d}_{Path(name).stem}_{i:02d}.png')
    if unreadable:
        console.print(f'{unreadable} of {len(images)} images could not be read')
    if unreadable == len(images):
        raise ValueError('none of the images could be read')


def training_config(folder: Path, work_dir: Path, options: dict) -> Config:
    """The quickstart's config on the tiles in ``folder``."""
    config = Config.fromfile(CONFIG)
    config.work_dir = str(work_dir)
    config.train_dataloader.dataset.data_root = str(folder)
    config.val_dataloader.dataset.data_root = str(folder)
    config.test_dataloader.dataset.data_root = str(folder)
    # An epoch has as many samples whether the folder holds eight images or five hundred.
    count = len(find_images(folder / 'train'))
    config.train_dataloader.dataset.repeats = max(1, round(config.samples_per_epoch / count))
    config.merge_from_dict(options)
    return config


def evaluate(runner: Runner, config: Config, rows: int) -> tuple[dict, list]:
    """Metrics per corruption over all held-out tiles, and a few chains to draw of each."""
    model = runner.model.eval()
    metrics, chains = {}, []
    mixture = next(t for t in config.val_dataloader.dataset.pipeline if 'corruptions' in t)
    for corruption in mixture.corruptions:
        loader = config.val_dataloader.copy()
        pipeline = [
            dict(**corruption, seed=0) if 'corruptions' in transform else transform
            for transform in loader.dataset.pipeline
        ]
        loader.dataset = dict(loader.dataset, pipeline=pipeline)
        loader = runner.build_dataloader(loader)
        metric = RestorationMetric()
        for batch in loader:
            metric.process(batch, [sample.to_dict() for sample in model.val_step(batch)])
        metrics[corruption.type] = metric.evaluate(len(loader.dataset))
        picks = np.linspace(0, len(loader.dataset) - 1, rows + 2).round().astype(int)[1:-1]
        samples = default_collate([loader.dataset[int(i)] for i in picks])
        inputs = model.data_preprocessor(samples, False)['inputs']
        for chain in to_chains(model, *inputs):
            chain.title = corruption.type
            chains.append(chain)
    return metrics, chains


def show(metrics: dict, console: Console) -> None:
    table = Table(title='held-out crops: PSNR in dB, from the squared error over all of them')
    for column in ('corruption', 'corrupted', 'restored', 'gain', 'SSIM corrupted', 'restored'):
        table.add_column(column, justify='left' if column == 'corruption' else 'right')
    for name, values in metrics.items():
        before, after = values['restoration/psnr_corrupted'], values['restoration/psnr']
        ssim = values['restoration/ssim_corrupted'], values['restoration/ssim']
        table.add_row(
            name, f'{before:.2f}', f'{after:.2f}', f'{after - before:+.2f}',
            *(f'{value:.3f}' for value in ssim),
        )  # fmt: skip
    console.print(table)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', help='folder of images; sample photographs by default')
    parser.add_argument('--work-dir', default='work_dirs/quickstart')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    work_dir = Path(args.work_dir).resolve()
    folder = work_dir / 'photos'
    try:
        if args.data:
            found = find_images(args.data)
            spread = np.linspace(0, len(found) - 1, min(len(found), MAX_IMAGES)).round().astype(int)
            if len(found) > MAX_IMAGES:
                console.print(f'{len(found)} images found; training on {MAX_IMAGES} of them')
            images = {str(found[i]): found[i] for i in spread}
        else:
            images = sample_photographs()
        prepare(images, folder, console)
    except (OSError, ValueError) as error:
        print(f'quickstart.py: {error}', file=sys.stderr)
        return 2
    config = training_config(folder, work_dir, args.cfg_options)
    runner = Runner.from_cfg(config)
    runner.train()
    metrics, chains = evaluate(runner, config, rows=2)
    picture = work_dir / 'restored.png'
    Image.fromarray(draw_chains(chains)).save(picture)
    show(metrics, console)
    console.print(f'Look at {picture}', soft_wrap=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
