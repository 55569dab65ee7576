"""Measure what the scores of a network find: damaged images, foreign images, foreign patches.

python tools/benchmarks/benchmark_scores.py CHECKPOINT data/cifar10/test --out work_dirs/scores \
    --foreign imagenet=data/imagenet ade20k=data/ade20k

Three questions, each for every seed, which draws other images:

- unseen: images of the folder against as many others of it, blurred, compressed as JPEG, of low
  contrast, turned or pixelated; or against crops of other folders and scikit-learn's digits. Scores
  that compare with ordinary images get further ones of the folder for that.
- planted: 5 % of the images of a set are such; nothing is known of the others.
- where: a patch of a third of the side is planted into an image; pixel AUROC of the map.

A high score should mean a strange image: an AUROC below 0.5 ranks the wrong way round. Beside the
network's scores stand some that need no network: the size of the image as a PNG file, its
sharpness, and the error of a PCA of its pixels. "±" is the distance from the median, so that what
is unusually low counts as strange, too. Writes scores.csv and scores.md.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from mmebm.cli.errors import one_line_errors
from mmebm.cli.parser import OneLineParser

import mmebm  # noqa: F401  isort: skip  first, because it imports MMPretrain without warnings
import cv2
import numpy as np
import sklearn.datasets
import torch
from mmebm.apis.scoring import (
    bytes_per_pixel,
    corruption_series,
    deviation,
    knn_distance,
    score_picture,
)
from mmebm.utils.heat_map import heat_map
from rich.console import Console
from rich.progress import track
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score

from mmebm.apis import Picture, WholeImageRestorer, find_images, read_picture, to_bytes
from mmebm.evaluation.energy_metric import auroc
from mmebm.models.energy_head import pool_features
from mmebm.utils import checked_int
from mmebm.utils.tables import markdown_table, print_table, write_csv

# S side of an image, M images, D channels of a feature. An image is (S, S, 3) uint8 BGR.

NETWORK = ('energy', 'energy ±', 'gradient', 'restoration', 'knn')
BASELINES = ('file size', 'file size ±', 'sharpness', 'sharpness ±', 'PCA residual')
PCA_SIDE, PCA_COMPONENTS = 24, 20
PLANTED_SHARE = 0.05
FIRST = 10  # images that a reader would look at
PATCHES = 40  # images of each kind with a planted patch
BATCH = 64  # images
NEIGHBOURS = 5  # of knn, as `mmebm score` takes

Damage = Callable[[np.ndarray], np.ndarray]


def jpeg(image: np.ndarray, quality: int = 10) -> np.ndarray:
    """An image as it comes out of a JPEG file."""
    _, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def contrast(image: np.ndarray, factor: float = 0.4) -> np.ndarray:
    """An image with less contrast, around its mean colour."""
    mean = image.mean((0, 1))
    return np.rint(mean + factor * (image - mean)).astype(np.uint8)


def pixelated(image: np.ndarray, side: int = 3) -> np.ndarray:
    """An image in blocks of ``side`` pixels, the last ones cut."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (-(-width // side), -(-height // side)), interpolation=cv2.INTER_AREA)
    return small.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]


DAMAGES: dict[str, Damage] = {
    'Gaussian blur, σ = 1.5': lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    'JPEG, quality 10': jpeg,
    'contrast × 0.4': contrast,
    'turned by 90°': lambda image: np.ascontiguousarray(np.rot90(image)),
    'blocks of 3 × 3': pixelated,
}


# Images -----------------------------------------------------------------------------------------


def square(path: Path, side: int, share: float = 1.0, at: Sequence[float] = (0.5, 0.5)):
    """A square of a picture file, reduced or enlarged to ``side``.

    Args:
        path: the file.
        side: S, in pixels.
        share: side of the square as a share of the picture's short side, in (0, 1].
        at: where the square lies in the picture, down and across, in 0..1.
    """
    pixels = to_bytes(read_picture(path).pixels)
    length = max(1, round(min(pixels.shape[:2]) * share))
    y, x = (round((full - length) * a) for full, a in zip(pixels.shape[:2], at, strict=True))
    cut = np.ascontiguousarray(pixels[y : y + length, x : x + length])
    if length == side:
        return cut
    method = cv2.INTER_AREA if length > side else cv2.INTER_CUBIC
    return cv2.resize(cut, (side, side), interpolation=method)


def crops(files: Sequence[Path], count: int, side: int, rng: np.random.Generator) -> list:
    """Random squares of 0.3 to 1 of the short side, from files in random order, then again."""
    order = rng.permutation(len(files))
    return [
        square(files[order[i % len(files)]], side, rng.uniform(0.3, 1), rng.random(2))
        for i in range(count)
    ]


@cache
def all_digits() -> np.ndarray:
    """scikit-learn's handwritten digits, ``(1797, 8, 8)`` in 0..16."""
    return sklearn.datasets.load_digits().images


def digits(count: int, side: int, rng: np.random.Generator) -> list[np.ndarray]:
    """scikit-learn's digits, enlarged from 8 × 8 pixels, bright on black."""
    images = all_digits()
    grey = [images[i] * (255 / 16) for i in rng.choice(len(images), count, replace=False)]
    large = [cv2.resize(i, (side, side), interpolation=cv2.INTER_CUBIC) for i in grey]
    return [np.clip(np.rint(i), 0, 255).astype(np.uint8)[..., None].repeat(3, 2) for i in large]


# Scores -----------------------------------------------------------------------------------------


class Scorer:
    """The scores of single images, by name → ``(M,)``, and their features."""

    def __init__(self, restorer: WholeImageRestorer, corruptions: int, seed: int):
        self.restorer, self.seed = restorer, seed
        self.series = corruption_series(restorer.corruption, corruptions)

    def __call__(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        if images[0].shape[:2] == self.restorer.size:
            parts = [self.of_batch(np.stack(images[i : i + BATCH])) for i in starts(images)]
            scores = joined(parts)
        else:
            found = [self.of_picture(image) for image in images]
            names = ('energy', 'gradient', 'restoration', 'features')
            scores = {name: np.array([getattr(each, name) for each in found]) for name in names}
        scores['file size'] = np.log([bytes_per_pixel(image) for image in images])
        scores['sharpness'] = np.log([laplacian(image).var() + 1e-3 for image in images])
        scores['pixels'] = np.stack([small_pixels(image) for image in images])
        return scores

    def of_picture(self, image: np.ndarray, restorations: bool = True):
        """The :class:`ImageScores` of one image of any size."""
        series = self.series if restorations else []
        return score_picture(self.restorer, Picture(image), series, self.seed, len(image))

    def of_batch(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The same, quicker, of images ``(B, S, S, 3)`` that are one tile each."""
        restorer, errors = self.restorer, []
        energy, step = restorer.descent_step(images)
        for k, corruption in enumerate(self.series):
            x = np.stack(
                [corruption.corrupt(i, np.random.default_rng([self.seed, k])) for i in images]
            )
            for _ in range(restorer.model.num_steps):
                x = x + restorer.descent_step(x)[1]
            errors.append(root_mean_squares(x - images))
        with torch.no_grad():
            output = restorer.model.backbone(restorer.to_network(images))
            features = pool_features(output, restorer.model.head.in_channels)
        return {
            'energy': energy.cpu().numpy(),
            'gradient': root_mean_squares(step),
            'restoration': np.mean(errors, 0) if errors else np.full(len(images), np.nan),
            'features': features.float().cpu().numpy(),
        }


def starts(images: Sequence) -> range:
    """Where each batch begins."""
    return range(0, len(images), BATCH)


def root_mean_squares(values: np.ndarray) -> np.ndarray:
    """Of each image ``(B, S, S, 3)`` → ``(B,)``."""
    return np.sqrt(np.square(values, dtype=np.float64).mean((1, 2, 3)))


def laplacian(image: np.ndarray) -> np.ndarray:
    """Second derivative of the grey image, ``(S, S)``."""
    return cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_64F)


def small_pixels(image: np.ndarray) -> np.ndarray:
    """The pixels of a reduced image in 0..1, flat."""
    small = cv2.resize(image, (PCA_SIDE, PCA_SIDE), interpolation=cv2.INTER_AREA)
    return small.ravel() / 255


def compared(scores: dict[str, np.ndarray], known: dict[str, np.ndarray] | None) -> dict:
    """Scores by name → ``(M,)``, with those that compare images with known ones, or each other."""
    fitted = scores if known is None else known
    pca = PCA(min(PCA_COMPONENTS, len(fitted['pixels']) - 1), random_state=0)
    pca.fit(fitted['pixels'])
    residual = scores['pixels'] - pca.inverse_transform(pca.transform(scores['pixels']))
    features = None if known is None else known['features']
    both_sides = {
        f'{name} ±': deviation(scores[name], None if known is None else known[name])
        for name in ('energy', 'file size', 'sharpness')
    }
    more = both_sides | {
        'knn': knn_distance(scores['features'], features, NEIGHBOURS),
        'PCA residual': np.sqrt((residual**2).mean(1)),
    }
    return {name: (scores | more)[name] for name in (*NETWORK, *BASELINES)}


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Several sets of scores as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def figures(ordinary: np.ndarray, strange: np.ndarray) -> dict[str, float]:
    """AUROC, average precision, and the share of strange images among the first ten."""
    values = np.concatenate([ordinary, strange])
    labels = np.arange(len(values)) >= len(ordinary)
    # of equal values the ordinary ones come first, so that a constant score finds nothing
    first = np.argsort(-values, kind='stable')[: min(FIRST, len(strange))]
    return {
        'AUROC': auroc(ordinary, strange),
        'AP': float(average_precision_score(labels, values)),
        'P@10': float(labels[first].mean()),
    }


# What is measured -------------------------------------------------------------------------------


def measure_images(
    restorer: WholeImageRestorer,
    files: Sequence[Path],
    foreign: dict[str, Sequence[Path]],
    count: int,
    reference: int,
    side: int,
    corruptions: int,
    seed: int,
) -> dict[tuple[str, str], dict[str, float]]:
    """AUROC and average precision of each score, by (what is strange, score).

    Args:
        restorer: the network.
        files: ordinary images, at least ``2 * count + reference`` of them.
        foreign: name → files of another data set.
        count: M ordinary and M strange images.
        reference: further ordinary images to compare with.
        side: S of all images.
        corruptions: K of the score ``restoration``.
        seed: of everything drawn.
    """
    rng = np.random.default_rng(seed)
    order = [files[i] for i in rng.permutation(len(files))]
    ordinary, others, known = (
        [square(file, side) for file in order[first : first + number]]
        for first, number in ((0, count), (count, count), (2 * count, reference))
    )
    strange = {name: [damage(image) for image in others] for name, damage in DAMAGES.items()}
    for name, its_files in foreign.items():
        strange[f'{name} instead'] = crops(its_files, count, side, rng)
    strange["scikit-learn's digits instead"] = digits(count, side, rng)

    score = Scorer(restorer, corruptions, seed)
    of_ordinary, of_known = score(ordinary), score(known)
    of_strange = {name: score(images) for name, images in strange.items()}
    found = {}
    base = compared(of_ordinary, of_known)
    for kind, scores in of_strange.items():
        values = compared(scores, of_known)
        found |= {(kind, name): figures(base[name], values[name]) for name in base}
    planted = max(1, round(PLANTED_SHARE * (count + reference) / (1 - PLANTED_SHARE)))
    few = [
        {name: values[i : i + 1] for name, values in scores.items()}
        for i, scores in enumerate(list(of_strange.values()) * planted)
    ][:planted]
    mixed = compared(joined([of_ordinary, of_known, *few]), None)
    found |= {
        (f'{planted} of all these, planted', name): figures(values[:-planted], values[-planted:])
        for name, values in mixed.items()
    }
    return found


def measure_maps(
    restorer: WholeImageRestorer, files: Sequence[Path], side: int, seed: int
) -> dict[tuple[str, str], float]:
    """Pixel AUROC of the map on images with a planted patch, by (patch, map).

    Beside the network's map stands the sharpness of each place, smoothed alike.
    """
    rng = np.random.default_rng(seed)
    order = [files[i] for i in rng.permutation(len(files))[: 2 * PATCHES]]
    score, length = Scorer(restorer, 0, seed), side // 3
    found = defaultdict(list)
    for i in range(min(PATCHES, len(order) // 2)):
        image, other = square(order[2 * i], side), square(order[2 * i + 1], side)
        y, x = rng.integers(0, side - length + 1, 2)
        place = (slice(y, y + length), slice(x, x + length))
        noise = rng.normal(128, 64, (length, length, 3))
        patches = {
            'noise': np.clip(np.rint(noise), 0, 255).astype(np.uint8),
            'another image': other[place],
            'the same, turned by 180°': image[place][::-1, ::-1],
            'the same, blurred': DAMAGES['Gaussian blur, σ = 1.5'](image)[place],
            'a digit': digits(1, length, rng)[0],
        }
        inside = np.zeros((side, side), bool)
        inside[place] = True
        for kind, patch in patches.items():
            mixed = image.copy()
            mixed[place] = patch
            maps = {
                'heat': score.of_picture(mixed, restorations=False).heat,
                'sharpness': heat_map(laplacian(mixed)[..., None], min(restorer.size)),
            }
            for name, values in maps.items():
                found[kind, name].append(auroc(values[~inside], values[inside]))
    return {key: float(np.mean(values)) for key, values in found.items()}


# The command ------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    deviation = f' ± {np.std(values, ddof=1):.2f}' if len(values) > 1 else ''
    return f'{np.mean(values):.2f}{deviation}'


def tables(results: dict, figure: str) -> list[tuple]:
    """A row for each kind of strange image, and a column for each score."""
    kinds = list(dict.fromkeys(kind for kind, _ in results))
    names = list(dict.fromkeys(name for _, name in results))
    rows = [
        (kind, *(spread([f[figure] for f in results[kind, name]]) for name in names))
        for kind in kinds
    ]
    return [(figure, *names), *rows]


def mean_row(results: dict, figure: str) -> tuple:
    """The mean of each score over all kinds of strange images but the planted ones."""
    names = list(dict.fromkeys(name for _, name in results))
    values = {name: [] for name in names}
    for (kind, name), of_seeds in results.items():
        if 'planted' not in kind:
            values[name] += [f[figure] for f in of_seeds]
    return ('mean without planted', *(f'{np.mean(values[name]):.2f}' for name in names))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, or ``argv``."""
    parser = OneLineParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('images', metavar='FOLDER', help='ordinary images')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='for the two tables')
    parser.add_argument('--config', help='needed only where the checkpoint holds none')
    parser.add_argument(
        '--foreign', nargs='+', default=[], metavar='NAME=FOLDER', help='other data sets'
    )
    parser.add_argument('--num', type=int, default=100, help='images of each kind')
    parser.add_argument('--reference', type=int, default=90, help='images to compare with')
    parser.add_argument('--side', type=int, help="of the images in pixels (default: the network's)")
    parser.add_argument('--corruptions', type=int, default=4, help='that restoration starts from')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--device')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write; 0."""
    count = checked_int('--num', args.num, minimum=2)
    reference = checked_int('--reference', args.reference, minimum=2)
    files = find_images(args.images)
    if len(files) < 2 * count + reference:
        raise ValueError(
            f'{args.images} holds {len(files)} images, fewer than 2 × --num {count} + '
            f'--reference {reference}'
        )
    foreign = {}
    for pair in args.foreign:
        name, sign, folder = pair.partition('=')
        if not (name and sign and folder):
            raise ValueError(f'--foreign takes NAME=FOLDER, got {pair!r}')
        foreign[name] = find_images(folder)
    restorer = WholeImageRestorer(args.checkpoint, args.config, args.device)
    side = min(restorer.size) if args.side is None else checked_int('--side', args.side, minimum=8)
    console = Console()
    results, maps = defaultdict(list), defaultdict(list)
    for seed in track(args.seeds, 'seeds', console=Console(stderr=True)):
        found = measure_images(
            restorer, files, foreign, count, reference, side, args.corruptions, seed
        )
        for key, values in found.items():
            results[key].append(values)
        for key, value in measure_maps(restorer, files, side, seed).items():
            maps[key].append(value)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    names = ('AUROC', 'AP', 'P@10')
    rows = [
        dict(strange=kind, score=name, seed=seed, **{n: f'{values[n]:.4f}' for n in names})
        for (kind, name), of_seeds in results.items()
        for seed, values in zip(args.seeds, of_seeds, strict=True)
    ]
    write_csv(rows, out / 'scores.csv')
    kinds = list(dict.fromkeys(kind for kind, _ in maps))
    heat = [
        ('pixel AUROC', 'heat', 'sharpness'),
        *((kind, spread(maps[kind, 'heat']), spread(maps[kind, 'sharpness'])) for kind in kinds),
    ]
    planted = [key for key in results if 'planted' in key[0]]
    first = tables({key: results[key] for key in planted}, 'P@10')
    both = [[*tables(results, name), mean_row(results, name)] for name in ('AUROC', 'AP')]
    texts = []
    for lines in (*both, first, heat):
        head, *body = lines
        print_table(console, head, body)
        console.print()
        rule = ('---', *['---:'] * (len(head) - 1))
        texts.append(markdown_table([head, rule, *body]))
    about = (
        f'{count} images of each kind, {reference} to compare with, {side} × {side} pixels, '
        f'seeds {", ".join(map(str, args.seeds))}'
    )
    Path(out, 'scores.md').write_text('\n\n'.join([about, *texts]) + '\n', encoding='utf-8')
    console.print(f'Look at {out / "scores.md"}', soft_wrap=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 for a mistake."""
    args = parse_args(argv)
    with one_line_errors('benchmark_scores.py'):
        return run(args)


if __name__ == '__main__':
    sys.exit(main())
