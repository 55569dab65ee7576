"""Restore images of any size: missing pixels, small images, grey images, noise.

mmebm restore [CHECKPOINT] IMAGE|FOLDER --out FOLDER
mmebm restore CHECKPOINT photo.jpg --out FOLDER --mask mask.png
mmebm restore CHECKPOINT FOLDER --out FOLDER --upscale 4 --strip
mmebm restore CHECKPOINT FOLDER --out FOLDER --corruption Blur sigma_range=[2,2]

Writes FOLDER/IMAGE.restored.png, upright, with the image's size, alpha channel
and colour profile; images that are done already are skipped. A network trained
to sort gets each image cut to its size, with shuffled patches.
"""

import argparse
import csv
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from difflib import get_close_matches
from glob import escape
from hashlib import sha256
from pathlib import Path

from .parser import at_least

GO_ON = 'run the same command again to continue'
# what the restored pictures depend on
KEPT = ('checkpoint', 'config', 'mask', 'upscale', 'colorize', 'corruption', 'seed', 'steps')
CORRUPTIONS = (
    *('Blur', 'Colorization', 'Fog', 'FrequencyMask', 'GaussianNoise', 'GriddedMask', 'config'),
    *('JPEGCompression', 'MixedCorruption', 'RandomBlockMask', 'Shuffle', 'SuperResolution'),
)
LONGEST_NAME = 235  # bytes of 255, for .animation.webp
SHOWN_SIDE = 640  # longest side of a step in further pictures, in pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('checkpoint', nargs='?', metavar='CHECKPOINT', help='default: the one of mmebm')
    add('images', metavar='IMAGE|FOLDER')
    add('--out', required=True, metavar='FOLDER', help='folder for the pictures')
    add('--config', help='needed only if the checkpoint holds none')
    damage = parser.add_mutually_exclusive_group().add_argument
    help = 'fill in white or transparent pixels; in a folder, masks by the names of the images'
    damage('--mask', metavar='IMAGE|FOLDER', help=help)
    damage('--upscale', type=at_least(1), metavar='K', help='enlarge K times')
    damage('--colorize', action='store_true', help='colour a grey image')
    help = 'corrupt clean images first, and measure PSNR and SSIM; "config": as in validation'
    damage('--corruption', nargs='+', metavar=('NAME', 'KEY=VALUE'), help=help)
    add('--seed', type=at_least(0), default=0, help='seed of the corruption')
    add('--steps', type=at_least(0), metavar='N', help='descent steps; default: as in training')
    add('--strip', action='store_true', help='write IMAGE.strip.png too: every step')
    add('--animation', choices=['gif', 'webp'], help='write IMAGE.animation.gif or .webp too')
    add('--device', help='cpu, cuda, ...; default: the GPU if there is one')
    add('--batch-size', type=at_least(1), metavar='TILES', help='tiles per batch')
    add('--overwrite', action='store_true', help='redo images whose files exist')


def check(args: argparse.Namespace) -> None:
    if args.mask is not None and not Path(args.mask).exists():
        raise FileNotFoundError(f'--mask: no such file or folder: {args.mask}')
    if args.corruption and args.corruption[0] not in CORRUPTIONS:
        near = get_close_matches(args.corruption[0], CORRUPTIONS, n=1) or CORRUPTIONS
        raise ValueError(f'--corruption: no {args.corruption[0]}, but {", ".join(near)}')


def run(args: argparse.Namespace) -> int:
    """Restore all images; return the exit status, 1 if none could be restored."""
    from rich.console import Console
    from rich.progress import Progress

    from ..datasets import find_images
    from ..restorer import Restorer, parse_corruption
    from ..utils.tables import write_csv

    (images, notes), out = find_images(args.images), Path(args.out)
    corruption = None if args.corruption is None else parse_corruption(args.corruption)
    options, file = {name: getattr(args, name) for name in KEPT}, out / 'options.json'
    before = json.loads(file.read_text(encoding='utf-8')) if file.is_file() else options
    changed = ', '.join(name for name in KEPT if before.get(name) != options[name])
    if changed and not args.overwrite:
        raise ValueError(f'{out} was made with another {changed}: another --out, or --overwrite')
    root = Path(args.images) if Path(args.images).is_dir() else images[0].parent
    jobs = [(index, image.relative_to(root)) for index, image in enumerate(images)]
    if not args.overwrite:
        jobs = [j for j in jobs if not all(f.is_file() for f in outputs(j[1], args).values())]
    for note in notes:
        print(note, file=sys.stderr)
    if len(jobs) < len(images):
        print(f'{len(images) - len(jobs)} of {len(images)} images are done already')
    if not jobs:
        return 0
    restorer = Restorer(args.checkpoint, args.config, args.device, args.batch_size)
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(options, indent=1), encoding='utf-8')
    table, rows, problems, seen = out / 'restored.csv', {}, [], Counter()
    if table.is_file() and not args.overwrite:
        with open(table, newline='', encoding='utf-8') as opened:
            rows = {row['image']: row for row in csv.DictReader(opened)}
    try:
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task('', total=len(jobs))
            for index, name in jobs:
                try:
                    row, kinds = restore_one(restorer, root, name, index, corruption, args, bar)
                    rows |= {str(name): row} if len(row) > 2 else {}
                    seen.update(kinds)
                except (OSError, ValueError) as error:  # of this image
                    problems.append(f'skipped: {name}: {error}')
                bar.advance(task)
    finally:  # also where it is interrupted
        if rows:
            write_csv(list(rows.values()), table)
    for figure in list(next(iter(rows.values()), {}))[2:]:
        mean = sum(float(row[figure]) for row in rows.values()) / len(rows)
        print(f'{figure}: {mean:.4g}, mean of {len(rows)}')
    for line in (*(f'{n} × {kind}' for kind, n in seen.items()), *problems):
        print(line, file=sys.stderr)
    print(f'{len(jobs) - len(problems)} restored, {len(problems)} skipped: {out.resolve()}')
    return int(len(problems) == len(images))


def restore_one(restorer, root: Path, name: Path, index: int, corruption, args, bar) -> tuple:
    """Restore one image and write its files; return its figures, and notes on how it was read."""
    import numpy as np
    from PIL import Image

    from .. import restorer as api
    from ..datasets import read_picture

    mask = None if args.mask is None else read_mask(args.mask, name)
    damage = api.Damage(mask, args.upscale, args.colorize, corruption, args.seed, index)
    picture, every_step = read_picture(root / name), bool(args.strip or args.animation)

    def on_tiles(done: int, total: int) -> None:
        bar.update(bar.task_ids[0], description=f'{name.name}: tile {done} of {total}')

    chain, files = restorer(picture, damage, args.steps, every_step, on_tiles), outputs(name, args)
    first, *others = [Image.fromarray(api.to_uint8(x).copy()) for x in chain.images]
    for frame in (first, *others):
        frame.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    if args.strip:
        shown = chain
        if max(chain.images[0].shape) > SHOWN_SIDE:  # PSNR would not be the whole image's
            shown = replace(chain, images=[*map(np.asarray, (first, *others))], clean=None)
        drawing = Image.fromarray(api.draw_chains([shown], cell=2.4))
        api.save_whole(files['strip'], drawing, format='PNG')
    if args.animation:
        options = dict(format=args.animation.upper(), save_all=True, append_images=others, loop=0)
        api.save_whole(files['animation'], first, duration=[700] * len(others) + [2000], **options)
    row = dict(image=str(name), corruption=chain.title)
    if chain.accuracy is not None:
        row |= dict(accuracy_shuffled=chain.accuracy[0], accuracy=chain.accuracy[-1])
    elif chain.clean is not None:
        before, after = (api.ssim_of(chain.images[n], chain.clean) for n in (0, -1))
        row |= dict(psnr_corrupted=chain.psnr[0], psnr=chain.psnr[-1])
        row |= dict(ssim_corrupted=before, ssim=after)
    pixels = chain.images[-1][..., ::-1]
    api.save_picture(files['restored'], replace(chain.picture, pixels=pixels))
    return row, chain.picture.notes


def read_mask(path: str, name: Path):
    """The mask of an image: a file, or in a folder that of the image's name, with any extension."""
    from ..datasets import read_picture
    from ..restorer import mask_of

    file = Path(path)
    if file.is_dir():
        found = sorted(file.joinpath(name.parent).glob(f'{escape(name.stem)}.*'))
        if len(found) != 1:
            raise ValueError(f'{path} must hold one mask of that name, got {len(found)}')
        file = found[0]
    return mask_of(read_picture(file))


def outputs(name: Path, args: argparse.Namespace) -> dict[str, Path]:
    """The files to write for an image, by kind."""
    kinds = {'restored': 'png'} | ({'strip': 'png'} if args.strip else {})
    kinds |= {'animation': args.animation} if args.animation else {}
    file = name.name
    if len(os.fsencode(file)) > LONGEST_NAME:  # with what follows, the file system would refuse it
        start = os.fsencode(name.stem)[:200].decode(errors='ignore')
        file = f'{start}-{sha256(os.fsencode(file)).hexdigest()[:8]}{name.suffix}'
    folder = Path(args.out, name.parent)
    return {kind: folder / f'{file}.{kind}.{ending}' for kind, ending in kinds.items()}
