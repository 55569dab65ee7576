"""Score how strange images are, to a network and by size, and where; strange images score high."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import torch

from ..corruptions import BaseCorruption, MixedCorruption
from ..evaluation import nearest
from ..models.energy_head import pool_features
from ..utils import checked_int
from ..utils.heat_map import heat_map
from .kept_scores import KeptScores
from .picture_files import Picture, check_pixels, read_picture, to_bytes
from .restoration import UnreadableImageError
from .whole_images import WholeImageRestorer

# H × W pixels BGR, D channels of a feature, M images, K corruptions.

SCORES = {
    'energy': 'mean energy of the tiles',
    'gradient': 'size of the step α∇E, root mean square in grey levels',
    'restoration': 'error after restoring K seeded corruptions, root mean square in grey levels',
    'knn': "distance to the most similar images, in the backbone's features (1 − cosine)",
    'size': 'how far the size as a PNG file is from the median; uses no network',
}
TILES_ACROSS = 2  # short side of a scored image, in sides of the network's images
THUMBNAIL_SIDE = 160


@dataclass
class ImageScores:
    """The scores of one image; higher is stranger.

    Attributes:
        path: the file.
        energy, gradient, restoration, knn, size: see :data:`SCORES`; NaN if not requested, or if it
            cannot be computed (``knn`` and ``size`` of a single image).
        bytes_per_pixel: of the image, as it was scored, as a PNG file.
        heat: where the network wants to change the image, the step α∇E: see
            :func:`mmebm.utils.heat_map.heat_map`. ``(h, w)`` float32 in grey levels, of the image
            as it was scored, reduced to at most 160 pixels.
        thumbnail: ``(h', w', 3)`` uint8 RGB, its longer side 160 pixels.
        features: ``(D,)`` float32, mean over the tiles.
    """

    path: Path
    energy: float
    gradient: float
    restoration: float
    knn: float
    size: float
    bytes_per_pixel: float
    heat: np.ndarray
    thumbnail: np.ndarray
    features: np.ndarray


@dataclass
class ReferenceImage:
    """An ordinary image that others are compared with; see :class:`ImageScores`."""

    path: Path
    bytes_per_pixel: float
    features: np.ndarray


def score_images(
    restorer: WholeImageRestorer,
    paths: Sequence[str | Path],
    corruptions: int = 4,
    seed: int = 0,
    neighbours: int = 5,
    reference: Sequence[str | Path] = (),
    short_side: int | None = None,
    on_image: Callable[[], None] | None = None,
    kept: str | Path | None = None,
) -> tuple[list[ImageScores], list[str]]:
    """Score image files.

    Images are scored at a reduced size: the short side is at most twice the network's, and images
    smaller than the network's size are enlarged to it.

    Args:
        restorer: the network.
        paths: M files.
        corruptions: K ≥ 0 corruptions that each image is restored from, the same for all images;
            the kinds of a mixture take turns. 0 skips the score ``restoration``, which takes most
            of the time.
        seed: of the corruptions, ≥ 0.
        neighbours: k ≥ 1 nearest images that ``knn`` averages over; fewer if there are fewer.
        reference: files of ordinary images, which ``knn`` and ``size`` compare with. Defaults to
            the other images.
        short_side: short side of an image when it is scored, in pixels, ≥ 1. Defaults as above.
        on_image: called after each file, those of ``reference`` included.
        kept: folder in which the scores of each image are kept, and looked up: an image that was
            scored by the same network with the same options is not scored again. None keeps
            nothing.

    Returns:
        Scores in the order of the paths, and a message for each file that could not be read.

    Raises:
        TypeError, ValueError: an option has the wrong type or is out of range; or K > 0 and the
            network was validated without a corruption.
    """
    corruptions = checked_int('corruptions', corruptions, minimum=0)
    seed = checked_int('seed', seed, minimum=0)
    neighbours = checked_int('neighbours', neighbours, minimum=1)
    if short_side is not None:
        short_side = checked_int('short_side', short_side, minimum=1)
    series = corruption_series(restorer.corruption, corruptions)
    of_picture = str((restorer.corruption, corruptions, seed) if corruptions else None)
    store = KeptScores(kept, restorer.fingerprint(), str((short_side, of_picture)).encode())
    reference_store = KeptScores(kept, restorer.fingerprint(), str(short_side).encode())

    def scored(path: Path) -> ImageScores:
        return score_picture(restorer, read_picture(path), series, seed, short_side, path)

    def described(path: Path) -> ReferenceImage:
        pixels = scored_size(read_picture(path), restorer.size, short_side)
        return ReferenceImage(path, bytes_per_pixel(pixels), tile_features(restorer, pixels))

    found, problems = _each(paths, ImageScores, scored, store, on_image)
    known, more = _each(reference, ReferenceImage, described, reference_store, on_image)
    problems += more
    if found:
        compare(found, known or None, neighbours)
    return found, problems


def compare(
    found: Sequence[ImageScores], known: Sequence[ReferenceImage] | None, neighbours: int
) -> None:
    """Fill in the scores that compare images with ordinary ones, or with each other."""
    features = [
        None if images is None else np.stack([each.features for each in images])
        for images in (found, known)
    ]
    sizes = [
        None if images is None else np.log([each.bytes_per_pixel for each in images])
        for images in (found, known)
    ]
    distances = knn_distance(*features, neighbours)
    for each, distance, size in zip(found, distances, deviation(*sizes), strict=True):
        each.knn, each.size = float(distance), float(size)


def _each(
    paths: Sequence[str | Path],
    kind: type,
    compute: Callable,
    store: KeptScores,
    on_image: Callable[[], None] | None,
) -> tuple[list, list[str]]:
    """What was kept of each image, else computed and kept; and a message for each that failed."""
    found, problems = [], []
    for path in map(Path, paths):
        try:
            scores = store.get(kind, path)
            if scores is None:
                scores = compute(path)
                store.put(scores)
            found.append(scores)
        except UnreadableImageError as error:
            problems.append(f'{path}: {error}')
        if on_image is not None:
            on_image()
    return found, problems


def score_picture(
    restorer: WholeImageRestorer,
    picture: Picture,
    series: Sequence[BaseCorruption],
    seed: int = 0,
    short_side: int | None = None,
    path: Path = Path(),
) -> ImageScores:
    """Score one picture by itself; ``knn`` and ``size``, which need others, are NaN.

    Args:
        restorer: the network.
        picture: as :func:`read_picture` returns it.
        series: K corruptions to restore from.
        seed: of the corruptions, ≥ 0.
        short_side: see :func:`score_images`.
        path: stored in the result.

    Raises:
        UnreadableImageError: see :func:`scored_size`.
    """
    pixels = scored_size(picture, restorer.size, short_side)
    step, (energy,) = restorer(pixels, 1)
    errors = [restoration_error(restorer, pixels, c, seed, k) for k, c in enumerate(series)]
    heat, scale = heat_map(step, min(restorer.size)), THUMBNAIL_SIDE / max(pixels.shape[:2])
    return ImageScores(
        path=path,
        energy=energy,
        gradient=root_mean_square(step),
        restoration=float(np.mean(errors)) if errors else float('nan'),
        knn=float('nan'),
        size=float('nan'),
        bytes_per_pixel=bytes_per_pixel(pixels),
        heat=_reduced(heat, min(scale, 1.0)),
        thumbnail=_reduced(pixels[..., ::-1], scale),
        features=tile_features(restorer, pixels),
    )


def corruption_series(corruption: dict | None, count: int) -> list[BaseCorruption]:
    """Build ``count`` corruptions; the kinds of a mixture take turns.

    Args:
        corruption: config, or None if there is none.
        count: K ≥ 0.

    Raises:
        ValueError: K > 0 and there is no corruption.
    """
    if not count:
        return []
    if corruption is None:
        raise ValueError('the network was validated without a corruption: set corruptions=0')
    built = MixedCorruption([corruption])
    while len(built.corruptions) == 1 and isinstance(built.corruptions[0], MixedCorruption):
        built = built.corruptions[0]
    return [built.corruptions[k % len(built.corruptions)] for k in range(count)]


def restoration_error(
    restorer: WholeImageRestorer,
    pixels: np.ndarray,
    corruption: BaseCorruption,
    seed: int,
    index: int,
) -> float:
    """Corrupt ``(H, W, 3)`` uint8, restore, and compare: root mean square in grey levels."""
    corrupted = corruption.corrupt(pixels, np.random.default_rng([seed, index]))
    difference, _ = restorer(corrupted)
    return root_mean_square(corrupted + difference - pixels)


def root_mean_square(values: np.ndarray) -> float:
    """Root mean square over all entries."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def bytes_per_pixel(pixels: np.ndarray) -> float:
    """Of an image ``(H, W, 3)`` uint8 as a PNG file."""
    return len(cv2.imencode('.png', pixels)[1]) / (pixels.shape[0] * pixels.shape[1])


def deviation(values: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Distance of each value from the median, in median absolute deviations.

    Args:
        values: ``(M,)``.
        known: ``(R,)``, of which both are taken; None takes those of ``values``.

    Returns:
        ``(M,)``, ≥ 0; NaN if there is nothing to compare with.
    """
    if known is None and len(values) < 2:
        return np.full(len(values), np.nan)
    known = values if known is None else known
    median = np.median(known)
    spread = np.median(np.abs(known - median))
    return np.abs(values - median) / max(spread, 1e-6)  # all may be alike


def scored_size(
    picture: Picture, size: tuple[int, int], short_side: int | None = None
) -> np.ndarray:
    """Resize a picture for scoring: ``(H, W, 3)`` uint8 BGR.

    Args:
        picture: of any size.
        size: ``(h, w)`` of the network's images.
        short_side: of the result, in pixels; see :func:`score_images` for the default.

    Raises:
        UnreadableImageError: the result would exceed the pixel limit (a very long image).
    """
    pixels = to_bytes(picture.pixels)
    short, own = min(pixels.shape[:2]), min(size)
    if short_side is None:
        short_side = max(own, min(TILES_ACROSS * own, short))
    scale = short_side / short
    check_pixels(*(ceil(side * scale) for side in pixels.shape[:2]))
    return _reduced(pixels, scale)


def _reduced(pixels: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return np.ascontiguousarray(pixels)
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method)


@torch.no_grad()
def tile_features(restorer: WholeImageRestorer, pixels: np.ndarray) -> np.ndarray:
    """The backbone's pooled features of an image, mean over its tiles: ``(D,)`` float32."""
    outputs = (restorer.model.backbone(x) for x in restorer.tiles(pixels))
    channels = restorer.model.head.in_channels
    features = [pool_features(output, channels).float() for output in outputs]
    return torch.cat(features).mean(0).cpu().numpy()


def knn_distance(features: np.ndarray, known: np.ndarray | None, neighbours: int) -> np.ndarray:
    """Mean distance, 1 − cosine, of each feature to the nearest known ones.

    Args:
        features: ``(M, D)``.
        known: ``(R, D)``; None compares each feature with the others of ``features``.
        neighbours: k ≥ 1; fewer if there are fewer.

    Returns:
        ``(M,)`` in [0, 2]; NaN if there is nothing to compare with.
    """
    count = len(features) - 1 if known is None else len(known)
    k = min(neighbours, count)
    if not len(features) or k < 1:
        return np.full(len(features), np.nan)
    queries = torch.from_numpy(features)
    if known is not None:
        similarities, _ = nearest(torch.from_numpy(known), queries, k)
        return 1 - similarities.mean(1).numpy()
    similarities, indices = nearest(queries, queries, k + 1)
    own = indices == torch.arange(len(queries))[:, None]
    # Among identical images one may be missing from its own neighbours: drop the last instead.
    own[~own.any(1), -1] = True
    return 1 - similarities[~own].view(len(queries), k).mean(1).numpy()
