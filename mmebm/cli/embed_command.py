"""Compute features of images with a pretrained backbone.

mmebm embed CHECKPOINT FOLDER --out features.npz

Writes two arrays: names, the images' paths below FOLDER, and features, (N, D) float32, the
backbone's output averaged over tokens or positions.
"""

import argparse
import sys
from pathlib import Path

from .parser import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT')
    add('images', metavar='FOLDER')
    add('--out', required=True, metavar='FILE.npz', help='file to write')
    add('--config', help='config, if the checkpoint holds none')
    help = 'images per batch; default: 128'
    add('--batch-size', type=at_least(1), default=128, metavar='N', help=help)
    help = 'data-loading processes; default: 4, but no more than cores'
    add('--workers', type=at_least(0), metavar='N', help=help)
    add('--device', help='cpu, cuda, ...; default: the GPU if there is one')


def check(args: argparse.Namespace) -> None:
    out = Path(args.out)
    if out.suffix != '.npz' or not out.parent.is_dir():
        raise ValueError(f'--out must be a file .npz in a folder that exists, got {out}')


def run(args: argparse.Namespace) -> int:
    """Compute and write the features; return the exit status."""
    import numpy as np

    from ..evaluation.features import FeatureExtractor, images_of

    out = Path(args.out)
    network = FeatureExtractor(args.config, args.checkpoint, args.device)
    images = images_of(args.images, network.image_size)
    features, _ = network.of_images(images, args.batch_size, args.workers)
    paths = [Path(images.get_data_info(i)['img_path']) for i in range(len(images))]
    unreadable = set(images.unreadable_images())  # replaced by others
    kept = [i for i, path in enumerate(paths) if str(path) not in unreadable]
    root = Path(args.images).expanduser()
    names = [path.relative_to(root).as_posix() for path in paths]
    np.savez(out, names=np.array(names)[kept], features=features.cpu().numpy()[kept])
    for path in sorted(unreadable):
        print(f'skipped, cannot be read: {path}', file=sys.stderr)
    print(f'{out}: {len(kept)} images, {features.shape[1]} features each')
    return 0
