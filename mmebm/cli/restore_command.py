"""Restore whole images of any size: missing pixels, small images, grey images, noise.

mmebm restore CHECKPOINT IMAGE|FOLDER --out FOLDER
mmebm restore CHECKPOINT photo.jpg --out FOLDER --mask mask.png
mmebm restore CHECKPOINT FOLDER --out FOLDER --upscale 4 --strip
mmebm restore CHECKPOINT FOLDER --out FOLDER --corruption GaussianNoise gamma_range='[0.5,0.5]'

Each image is restored to FOLDER/IMAGE.restored.png, upright, with its size, alpha channel and
colour profile. Images whose files exist already are skipped.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

FIGURES = ('psnr_corrupted', 'psnr', 'ssim_corrupted', 'ssim')
# what the restored pictures depend on
KEPT = ('checkpoint', 'config', 'mask', 'upscale', 'colorize', 'corruption', 'seed', 'steps')
STRIP_SIDE, ANIMATION_SIDE = 512, 640  # the longest side of a step in these pictures, in pixels
GO_ON = 'run the same command again to continue'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('images', metavar='IMAGE|FOLDER')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder for the pictures')
    parser.add_argument('--config', help='needed only if the checkpoint holds none')
    damage = parser.add_argument_group(
        'what is wrong with the images', 'at most one of these'
    ).add_mutually_exclusive_group()
    damage.add_argument(
        '--mask',
        metavar='IMAGE|FOLDER',
        help='white pixels are missing, and no others change; a folder must hold a mask for each '
        'image, with the same name',
    )
    damage.add_argument('--upscale', type=int, metavar='K', help='enlarge K times')
    damage.add_argument('--colorize', action='store_true', help='colour a grey image')
    damage.add_argument(
        '--denoise',
        action='store_true',
        help='the images are noisy already and enter as they are (the default)',
    )
    damage.add_argument(
        '--corruption',
        nargs='+',
        metavar=('NAME', 'KEY=VALUE'),
        help='corrupt clean images first, by a registered corruption and its options, and report '
        'PSNR and SSIM; "config" takes the one that the network was validated with',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruption')
    parser.add_argument(
        '--steps',
        type=int,
        metavar='N',
        help='descent steps; defaults to the number used in training',
    )
    wishes = parser.add_argument_group('further pictures')
    wishes.add_argument('--strip', action='store_true', help='IMAGE.strip.png: every step')
    wishes.add_argument(
        '--animation',
        choices=['gif', 'webp'],
        help='IMAGE.animation.gif or .webp: every step, animated',
    )
    wishes.add_argument(
        '--difference',
        action='store_true',
        help='IMAGE.difference.png: how much each pixel changed',
    )
    parser.add_argument('--device', help="'cpu', 'cuda', ... Defaults to the GPU if there is one")
    parser.add_argument('--batch-size', type=int, metavar='TILES', help='tiles per batch')
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='redo images whose files exist, even with other options',
    )


def run(args: argparse.Namespace) -> int:
    """Restore all images; return the exit status, 1 if none could be restored."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from ..apis import UnreadableImageError, WholeImageRestorer, find_images
    from ..utils import checked_int

    for name, minimum in (('steps', 0), ('upscale', 1), ('batch_size', 1), ('seed', 0)):
        value = getattr(args, name)
        if value is not None:
            checked_int(f'--{name.replace("_", "-")}', value, minimum)
    images = find_images(args.images)
    corruption = chosen_corruption(args.corruption)
    check_masks(args.mask)
    root = Path(args.images) if Path(args.images).is_dir() else images[0].parent
    out = Path(args.out)
    check_options(out, args)
    jobs = [
        (index, image, image.relative_to(root))
        for index, image in enumerate(images)
        if args.overwrite
        or not all(f.is_file() for f in outputs(out, image.relative_to(root), args).values())
    ]
    console = Console(stderr=True)
    done = len(images) - len(jobs)
    if done:
        console.print(f'{done} of {len(images)} images are done already')
    if not jobs:
        return 0
    restorer = WholeImageRestorer(args.checkpoint, args.config, args.device, args.batch_size)
    write_options(out, args)
    rows, problems = [], []
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bar:
        task = bar.add_task('images', total=len(jobs))
        for index, image, name in jobs:
            tiles = bar.add_task(f'tiles of {image.name}', total=None)
            try:
                rows.append(restore_one(restorer, image, name, index, corruption, args, bar, tiles))
            except (UnreadableImageError, MaskError) as error:
                problems.append(f'{name}: {error}')
            bar.remove_task(tiles)
            bar.advance(task)
    if corruption is not None:
        show(out, console)
    print(f'{len(rows)} restored: {out.resolve()}')
    for problem in problems:
        print(f'skipped: {problem}', file=sys.stderr)
    if problems:
        print(f'{len(problems)} of {len(images)} images could not be restored', file=sys.stderr)
    return int(bool(problems) and len(problems) == len(images))


class MaskError(ValueError):
    """The mask of an image is missing, unreadable or of another size."""


def restore_one(restorer, image, name, index, corruption, args, bar, tiles) -> dict:
    """Restore one image and write all its files, the restored picture last."""
    from PIL import Image

    from ..apis import Damage, read_picture, restore_image, save_picture, save_whole, to_bytes

    picture = read_picture(image)
    mask = None if args.mask is None else read_mask(args.mask, name, picture.pixels.shape[:2])
    damage = Damage(mask, args.upscale, args.colorize, corruption, args.seed, index)
    factor = args.upscale or 1
    height, width = (side * factor for side in picture.pixels.shape[:2])
    bar.update(tiles, total=restorer.num_tiles(height, width, args.steps))
    frames: list[Image.Image] = []

    def keep_frame(n, start, difference):
        frame = Image.fromarray(to_bytes(start, difference)[..., ::-1].copy())
        if mask is not None:  # what the mask protects does not change
            shown = Image.fromarray(to_bytes(start)[..., ::-1].copy())
            frame = Image.composite(frame, shown, Image.fromarray(mask))
        frame.thumbnail((ANIMATION_SIDE, ANIMATION_SIDE))
        frames.append(frame)

    restoration = restore_image(
        restorer,
        picture,
        damage,
        args.steps,
        keep_frame if args.strip or args.animation else None,
        lambda count: bar.advance(tiles, count),
    )
    files = outputs(Path(args.out), name, args)
    if args.difference:
        save_whole(files['difference'], difference_map(restoration.difference), format='PNG')
    if args.strip:
        last = restorer.energy(restoration.start.pixels + restoration.difference)
        energies = [*restoration.energies, last]
        save_whole(
            files['strip'], strip(frames, energies, restoration.corruption or 'input'), format='PNG'
        )
    if args.animation:
        save_whole(
            files['animation'],
            frames[0],
            format=args.animation.upper(),
            save_all=True,
            append_images=frames[1:],
            duration=[700] * (len(frames) - 1) + [2000],
            loop=0,
        )
    row = dict(image=str(name), corruption=restoration.corruption, **restoration.figures())
    if restoration.clean is not None:
        add_row(Path(args.out, 'restored.csv'), row)
    save_picture(files['restored'], restoration.start, restoration.difference)
    return row


def chosen_corruption(words: list[str] | None):
    """Build the corruption ``NAME KEY=VALUE ...``; return ``'config'`` and None as they are.

    Raises:
        TypeError, ValueError: it is not registered, or an option is wrong.
    """
    from mmengine.config import DictAction

    from ..corruptions import MixedCorruption

    if words is None:
        return None
    name, *pairs = words
    if name == 'config':
        if pairs:
            raise ValueError(f'--corruption config takes no options, got {pairs}')
        return name
    options = {}
    for pair in pairs:
        key, sign, value = pair.partition('=')
        if not (key and sign):
            raise ValueError(f'an option of --corruption is KEY=VALUE, got {pair!r}')
        options[key] = DictAction._parse_iterable(value)
    try:
        return MixedCorruption([dict(type=name, **options)]).corruptions[0]
    except TypeError as error:  # of Python too, where an option is missing or unknown
        raise TypeError(f'--corruption {name}: {error}') from error


def check_masks(path: str | None) -> None:
    """Raise FileNotFoundError if the mask, or the folder of masks, does not exist."""
    if path is not None and not Path(path).exists():
        raise FileNotFoundError(f'no such mask or folder of masks: {path}')


def read_mask(path: str, name: Path, shape: tuple[int, int]):
    """The mask of an image, bool ``(H, W)``: True where it is missing.

    Args:
        path: the mask, or a folder that holds it under the image's name, with any extension.
        name: path of the image, relative to its folder.
        shape: ``(H, W)`` of the image.

    Raises:
        MaskError: it is missing, ambiguous, unreadable or of another size.
    """
    from ..apis import UnreadableImageError, read_picture

    file = Path(path)
    if file.is_dir():
        found = sorted(file.joinpath(name.parent).glob(f'{escaped(name.stem)}.*'))
        if len(found) != 1:
            raise MaskError(f'{path} must hold one mask of that name, got {len(found)}')
        file = found[0]
    try:
        mask = read_picture(file).pixels.mean(2) >= 128
    except UnreadableImageError as error:
        raise MaskError(f'the mask {file} {error}') from error
    if mask.shape != shape:
        raise MaskError(
            f'the mask has {mask.shape[1]} × {mask.shape[0]} pixels, the image '
            f'{shape[1]} × {shape[0]}'
        )
    return mask


def escaped(text: str) -> str:
    from glob import escape

    return escape(text)


def outputs(out: Path, name: Path, args: argparse.Namespace) -> dict[str, Path]:
    """The files to write for an image, by kind."""
    kinds = {'restored': 'png'}
    kinds |= {kind: 'png' for kind in ('strip', 'difference') if getattr(args, kind)}
    if args.animation:
        kinds['animation'] = args.animation
    return {kind: Path(out, f'{name}.{kind}.{ending}') for kind, ending in kinds.items()}


def check_options(out: Path, args: argparse.Namespace) -> None:
    """Refuse to mix results of different options in one folder.

    Raises:
        ValueError: the folder holds results of other options.
    """
    file = out / 'options.json'
    if args.overwrite or not file.is_file():
        return
    before = json.loads(file.read_text())
    changed = [name for name in KEPT if before.get(name) != getattr(args, name)]
    if changed:
        raise ValueError(
            f'{out} holds images restored with another {", ".join(changed)}: choose another '
            '--out, or --overwrite'
        )


def write_options(out: Path, args: argparse.Namespace) -> None:
    out.mkdir(parents=True, exist_ok=True)
    options = {name: getattr(args, name) for name in KEPT}
    Path(out, 'options.json').write_text(json.dumps(options, indent=1))
    if args.overwrite:  # its rows may belong to other options
        Path(out, 'restored.csv').unlink(missing_ok=True)


def difference_map(difference):
    """How much each pixel changed, as a heat map: black is 0, brightest the 99.9th percentile."""
    import matplotlib
    import numpy as np
    from PIL import Image

    size = np.empty(difference.shape[:2], np.float32)
    for row, values in zip(size, difference, strict=True):
        row[:] = np.abs(values).mean(1)
    top = float(np.percentile(size, 99.9)) or float(size.max()) or 1.0
    colours = (matplotlib.colormaps['inferno'](np.arange(256))[:, :3] * 255).astype(np.uint8)
    return Image.fromarray(colours[np.clip(size * (255 / top), 0, 255).astype(np.uint8)])


def strip(frames, energies: list[float], title: str):
    """The chain x⁰..x^N as a row of pictures with their energies; ``title`` stands above x⁰."""
    import numpy as np
    from PIL import Image

    from ..visualization import Chain, draw_chains

    shown = []
    for frame in frames:
        frame = frame.copy()
        frame.thumbnail((STRIP_SIDE, STRIP_SIDE))
        shown.append(np.asarray(frame, np.float32))
    chain = Chain(np.stack(shown), np.array(energies), title=title)
    return Image.fromarray(draw_chains([chain], cell=2.4))


def add_row(file: Path, row: dict) -> None:
    """Append a row of metrics; the first one writes the header."""
    new = not file.is_file()
    with open(file, 'a', newline='') as opened:
        writer = csv.DictWriter(opened, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def show(out: Path, console) -> None:
    """Print ``restored.csv``, which may hold earlier runs too, as a table."""
    from rich.table import Table

    file = out / 'restored.csv'
    if not file.is_file():
        return
    with open(file, newline='') as opened:
        rows = list({row['image']: row for row in csv.DictReader(opened)}.values())
    table = Table(title='PSNR in dB, and SSIM')
    for column in (
        'image',
        'corruption',
        'PSNR corrupted',
        'restored',
        'SSIM corrupted',
        'restored',
    ):
        table.add_column(column)
    values = [[float(row[name]) for name in FIGURES] for row in rows]
    for row, figures in list(zip(rows, values, strict=True))[:20]:
        table.add_row(row['image'], row['corruption'], *written(figures))
    if len(rows) > 20:
        table.add_row(f'... {len(rows) - 20} more in {file}')
    if len(rows) > 1:
        table.add_section()
        means = [sum(column) / len(rows) for column in zip(*values, strict=True)]
        table.add_row(f'mean of {len(rows)}', '', *written(means))
    console.print(table)


def written(figures: list[float]) -> list[str]:
    return [f'{figures[0]:.2f}', f'{figures[1]:.2f}', f'{figures[2]:.3f}', f'{figures[3]:.3f}']
