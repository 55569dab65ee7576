"""Measure what the score finds: AUROC of damaged and foreign images against ordinary ones.

python tools/benchmarks/benchmark_scores.py CHECKPOINT data/cifar10/test --out scores.csv \
    --foreign imagenet=data/imagenet ade20k=data/ade20k

For every seed, which draws other images, ordinary images of the folder stand against as many others
of it, damaged, and against crops of other folders and scikit-learn's digits. An AUROC below 0.5
ranks the wrong way round. Beside the score stand each of its parts at each noise level alone, and
the size of the image as a PNG file, all as distance from the median of the reference images.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser

import mmebm  # noqa: F401  isort: skip  first, because it imports MMPretrain without warnings
import cv2
import numpy as np
import sklearn.datasets
from rich.console import Console
from rich.progress import track

from mmebm.corruptions import Blur, JPEGCompression, SuperResolution
from mmebm.datasets import find_images, read_picture
from mmebm.evaluation.energy_metric import auroc
from mmebm.restorer import Restorer, to_uint8
from mmebm.restorer.scoring import LEVELS, level_features, strangeness
from mmebm.utils import checked_int
from mmebm.utils.tables import print_table, write_csv

# S side of an image, M images, R reference images, D features. An image is (S, S, 3) uint8 BGR.

PARTS = ('gradient', 'energy', 'restoration')
RNG = np.random.default_rng(0)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    return to_uint8(image.mean((0, 1)) + factor * (image - image.mean((0, 1))))


DAMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'Gaussian blur, σ = 1.5': lambda image: Blur((1.5, 1.5)).corrupt(image, RNG),
    'JPEG, quality 10': lambda image: JPEGCompression((10, 10)).corrupt(image, RNG),
    'contrast × 0.4': lambda image: contrast(image, 0.4),
    'contrast × 2': lambda image: contrast(image, 2),
    'turned by 90°': lambda image: np.ascontiguousarray(np.rot90(image)),
    'inverted': lambda image: 255 - image,
    'blocks of 3 × 3': lambda image: SuperResolution(3).corrupt(image, RNG),
    'red and blue swapped': lambda image: np.ascontiguousarray(image[..., ::-1]),
    'quarters exchanged': lambda image: np.roll(image, len(image) // 2, (0, 1)),
}


def square(path: Path, side: int, share: float = 1.0, at: Sequence[float] = (0.5, 0.5)):
    """A square of a file, ``share`` of its short side, at the place ``at``, as ``(S, S, 3)``."""
    pixels = to_uint8(read_picture(path).pixels)
    length = max(1, round(min(pixels.shape[:2]) * share))
    y, x = (round((full - length) * a) for full, a in zip(pixels.shape[:2], at, strict=True))
    method = cv2.INTER_AREA if length > side else cv2.INTER_CUBIC
    return cv2.resize(pixels[y : y + length, x : x + length], (side, side), interpolation=method)


def digits(count: int, side: int, rng: np.random.Generator) -> list[np.ndarray]:
    """scikit-learn's handwritten digits, enlarged from 8 × 8 pixels, bright on black."""
    chosen = rng.choice(sklearn.datasets.load_digits().images, count, replace=False) * (255 / 16)
    large = (cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC) for digit in chosen)
    return [to_uint8(image)[..., None].repeat(3, 2) for image in large]


def described(restorer: Restorer, images: Sequence[np.ndarray]) -> np.ndarray:
    """Features of images, and the logarithm of their size as a PNG file: ``(M, D + 1)``."""
    sizes = [len(cv2.imencode('.png', image)[1]) for image in images]
    return np.column_stack([level_features(restorer, images), np.log(sizes)])


def scores_of(values: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Scores ``(M,)`` of described images by name, compared with known ones."""
    names = [f'{part}, γ = {gamma}' for part in PARTS for gamma in LEVELS] + ['PNG size']
    distances = np.abs(values - np.median(known, 0)).T
    score = strangeness(values[:, :-1], known[:, :-1])[0]
    return {'score': score, **dict(zip(names, distances, strict=True))}


def measure(
    restorer: Restorer, files: Sequence[Path], foreign: dict, count: int, reference: int, seed: int
) -> dict[tuple[str, str], float]:
    """AUROC of each score, by (what is strange, score); ``seed`` of everything drawn."""
    rng, side = np.random.default_rng(seed), min(restorer.size)
    images = [square(files[i], side) for i in rng.permutation(len(files))[: 2 * count + reference]]
    ordinary, others, known = images[:count], images[count : 2 * count], images[2 * count :]
    strange = {name: [damage(image) for image in others] for name, damage in DAMAGES.items()}
    for name, its_files in foreign.items():
        chosen = rng.choice(its_files, count, replace=len(its_files) < count)
        strange[name] = [square(f, side, rng.uniform(0.3, 1), rng.random(2)) for f in chosen]
    strange["scikit-learn's digits"] = digits(count, side, rng)
    known = described(restorer, known)
    base = scores_of(described(restorer, ordinary), known)
    found = {k: scores_of(described(restorer, images), known) for k, images in strange.items()}
    return {(k, name): auroc(base[name], found[k][name]) for k in found for name in base}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 for a mistake."""
    parser = OneLineParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('checkpoint', metavar='CHECKPOINT')
    add('images', metavar='FOLDER', help='ordinary images')
    add('--out', required=True, metavar='FILE', help='table to write, CSV')
    add('--config', help='needed only if the checkpoint holds none')
    add('--foreign', nargs='+', default=[], metavar='NAME=FOLDER', help='other data sets')
    add('--num', type=int, default=100, help='images of each kind')
    add('--reference', type=int, default=200, help='images to compare with')
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--device')
    args = parser.parse_args(argv)
    with one_line_errors('benchmark_scores.py'):
        return run(args)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write; 0."""
    count = checked_int('--num', args.num, minimum=2)
    reference = checked_int('--reference', args.reference, minimum=10)
    files, results = find_images(args.images)[0], defaultdict(list)
    if len(files) < 2 * count + reference:
        raise ValueError(f'{len(files)} images are fewer than 2 × --num + --reference')
    if wrong := [pair for pair in args.foreign if '=' not in pair]:
        raise ValueError(f'--foreign takes NAME=FOLDER, got {wrong}')
    pairs = (pair.split('=', 1) for pair in args.foreign)
    foreign = {name: find_images(folder)[0] for name, folder in pairs}
    restorer, console = Restorer(args.checkpoint, args.config, args.device), Console()
    for seed in track(args.seeds, 'seeds', console=Console(stderr=True)):
        for key, value in measure(restorer, files, foreign, count, reference, seed).items():
            results[key].append(value)
    by_kind, means = defaultdict(dict), defaultdict(list)
    for (kind, name), values in results.items():
        by_kind[kind][name] = np.mean(values)
        means[name].append(np.mean(values))
    by_kind['mean'] = {name: np.mean(values) for name, values in means.items()}
    write_csv([{'strange': kind, **row} for kind, row in by_kind.items()], Path(args.out))
    parts = sorted(set(means) - {'score', 'PNG size'}, key=by_kind['mean'].get)
    shown = ['score', 'PNG size', parts[-1]]  # the best part alone, chosen after the fact
    rows = [[kind, *(f'{row[name]:.2f}' for name in shown)] for kind, row in by_kind.items()]
    print_table(console, ['strange', *shown], rows, 'AUROC, mean over the seeds')
    return 0


if __name__ == '__main__':
    sys.exit(main())
