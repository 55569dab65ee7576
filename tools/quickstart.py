"""Pretrain a small network by energy restoration for some minutes, and see what it restores.

python tools/quickstart.py                 # photographs of scikit-image and scikit-learn
python tools/quickstart.py --data FOLDER   # your own images
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from mmengine.config import Config
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_sample_images

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import at_least
from mmebm.datasets import passes_in_round
from mmebm.evaluation.features import images_of
from mmebm.pretraining.images import Images, split_images
from mmebm.pretraining.plan import HELD_OUT_LIST, TRAIN_LIST, write_lists
from mmebm.pretraining.run import CHECKPOINT, PretrainingRun, finish, train
from mmebm.restorer import Damage, Restorer, draw_chains, ssim_of
from mmebm.utils.tables import print_table

CONFIG = next(Path(__file__).parents[1].glob('configs/quickstart/*.py'))
SIDE = 96  # of the images that are shown and measured, in pixels
HELD_OUT = 24  # of the sample photographs' squares


def write_photographs(folder: Path) -> Path:
    """Cut sample photographs into squares that do not overlap."""
    folder.mkdir(parents=True, exist_ok=True)
    photographs = [
        *(getattr(skimage.data, name)() for name in ('astronaut', 'chelsea', 'coffee', 'rocket')),
        skimage.data.stereo_motorcycle()[0],
        *load_sample_images().images,
    ]
    for number, pixels in enumerate(photographs):
        for y in range(0, len(pixels) - SIDE + 1, SIDE):
            for x in range(0, pixels.shape[1] - SIDE + 1, SIDE):
                tile = Image.fromarray(pixels[y : y + SIDE, x : x + SIDE])
                tile.save(folder / f'{number}_{y}_{x}.png')
    return folder


def pretrain(
    images: Images, out: Path, iterations: int | None
) -> tuple[PretrainingRun, list[np.ndarray]]:
    """Train by the config, or go on; the run, and the images that were held out."""
    config = Config.fromfile(CONFIG)
    train_data, val_data = config.train_dataloader, config.val_dataloader
    if iterations:
        per_round = max(1, iterations // config.train_cfg.max_epochs)
        train_data.sampler.round_size = per_round * train_data.batch_size
    train_data.dataset.repeats = passes_in_round(train_data.sampler.round_size, len(images.train))
    for loader, file in ((train_data, TRAIN_LIST), (val_data, HELD_OUT_LIST)):
        place = dict(data_root=str(images.root), data_prefix='', ann_file=str(out / file))
        loader.dataset.update(place)
    config.work_dir, file = str(out), out / 'config.py'
    if file.exists() and file.read_text(encoding='utf-8') != config.pretty_text:
        raise ValueError(f'{out} holds another run: choose a new --work-dir')
    out.mkdir(parents=True, exist_ok=True)
    write_lists(out, images)
    file.write_text(config.pretty_text, encoding='utf-8')
    if not (out / CHECKPOINT).is_file():
        train(config, out)
    run = finish(config, out, lambda text: None, '')
    held_out = images_of(images.root, (SIDE, SIDE), ann_file=str(out / HELD_OUT_LIST))
    return run, [x['inputs'].movedim(0, -1).numpy() for x in held_out]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', help='folder of images (default: sample photographs)')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/quickstart')
    parser.add_argument('--iterations', type=at_least(1), help='default: 2000')
    args = parser.parse_args(argv)
    if args.data:
        images = split_images([args.data], None, 0)
    else:
        images = split_images([write_photographs(args.work_dir / 'photos')], HELD_OUT, 0)
    run, crops = pretrain(images, args.work_dir.absolute() / 'run', args.iterations)
    restorer, rows, shown = Restorer(run.checkpoint), [], []
    crops.sort(key=lambda x: -np.abs(np.diff(x.astype(float), axis=0)).mean())
    for kind in restorer.corruption['corruptions']:
        chains = [restorer(x, Damage(corruption=kind, index=i)) for i, x in enumerate(crops)]
        errors = np.mean([10 ** (-chain.psnr / 10) for chain in chains], axis=0)
        psnr = -10 * np.log10(errors)
        ssim = np.mean([[ssim_of(x, c.clean) for x in c.images] for c in chains], axis=0)
        figures = (f'{value:.2f}' for value in (*psnr, *ssim))
        rows.append([kind['type'], *figures])
        shown += [chains[len(chains) // 4], chains[len(chains) // 2]]  # with some detail
    Image.fromarray(draw_chains(shown, across=2)).save(args.work_dir / 'restored.png')
    columns = ('PSNR, dB', 'restored', 'SSIM', 'restored')
    print_table(Console(), (f'{len(crops)} held-out images', *columns), rows)
    if any(float(row[n + 1]) <= float(row[n]) for row in rows for n in (1, 3)):
        print('What got worse needs longer: --iterations 10000 in another --work-dir')
    print(f'Look at {args.work_dir / "restored.png"} and {run.report}')


if __name__ == '__main__':
    with one_line_errors('quickstart.py', 'run the same command again to continue'):
        main()
