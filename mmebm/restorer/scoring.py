"""Score how strange images are: far from reference images, in features at ten noise levels.

A network trained to restore noise holds the gradient of the log density at many noise levels; as in
multiscale score matching, all of them describe an image.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import torch

from ..datasets import Picture, UnreadableImageError, read_picture
from ..models import energy_gradient
from ..models.chain import heat_map, to_uint8
from .pictures import check_pixels
from .restorer import Restorer

# H × W pixels BGR, h × w of a tile, B tiles in a batch, M images, R reference images, L levels.

LEVELS = (1, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1)  # γ, the share of the image left
THUMBNAIL_SIDE = 160
LEAST_REFERENCES = 10
FOLDS = 20


@dataclass
class ImageScore:
    """How strange one image is."""

    path: Path
    features: np.ndarray  # (3 L,), see level_features
    heat: np.ndarray  # heat_map of the step α∇E, at most 160 pixels long
    thumbnail: np.ndarray  # uint8 RGB, 160 pixels long
    bytes_per_pixel: float  # of the scored image as a PNG file: a baseline without network
    score: float = float('nan')  # Mahalanobis distance from the reference; higher is stranger
    p_value: float = float('nan')  # share of the reference at least as strange, in (0, 1]


def score_images(
    restorer: Restorer,
    paths: Sequence[str | Path],
    reference: Sequence[str | Path] = (),
    on_image: Callable[[], None] = lambda: None,
) -> tuple[list[ImageScore], list[str]]:
    """Score image files, at the size that :func:`scored_size` gives them.

    Args:
        restorer: the network, which restores.
        paths: M files.
        reference: R files of ordinary images, at least ten. Defaults to the others of ``paths``:
            then p-values are ranks, however ordinary the images are.
        on_image: called after each file, those of ``reference`` included.

    Returns:
        Scores, strangest first; and messages on files that could not be read, or not as a whole.
    """
    if restorer.sorts:
        raise ValueError('this network sorts patches: scores need one that restores pixels')
    problems, notes = [], Counter()

    def described(files: Sequence[str | Path]) -> list[ImageScore]:
        found = []
        for file in map(Path, files):
            try:
                picture = restorer.seen(read_picture(file))
                pixels = scored_size(picture, min(restorer.size))
                found.append(_described(restorer, file, pixels))
                notes.update(picture.notes)
            except UnreadableImageError as error:
                problems.append(f'skipped: {file}: {error}')
            on_image()
        return found

    known, found = described(reference), described(paths)
    if found:
        features, references = (np.array([i.features for i in each]) for each in (found, known))
        values = strangeness(features, references if reference else None)
        for image, score, p_value in zip(found, *values, strict=True):
            image.score, image.p_value = float(score), float(p_value)
    messages = [*(f'{n} × {kind}' for kind, n in notes.items()), *problems]
    return sorted(found, key=lambda image: (-image.score, str(image.path))), messages


def _described(restorer: Restorer, path: Path, pixels: np.ndarray) -> ImageScore:
    (step, _), *_ = restorer.descend(pixels, 1)
    scale = THUMBNAIL_SIDE / max(pixels.shape[:2])
    return ImageScore(
        path=path,
        features=level_features(restorer, [pixels])[0],
        heat=resized(heat_map(step, min(restorer.size)), min(scale, 1.0)),
        thumbnail=resized(np.ascontiguousarray(pixels[..., ::-1]), scale),
        bytes_per_pixel=len(cv2.imencode('.png', pixels)[1]) / (pixels.size / 3),
    )


def level_features(restorer: Restorer, images: Sequence[np.ndarray]) -> np.ndarray:
    """What a network says of images at ten noise levels, mean over their tiles: ``(M, 3 L)``.

    At each level γ an image becomes ``√γ x + √(1−γ) ε``, x in normalised pixels, ε ~ N(0, I) the
    same for all. Its features are ``log ‖∇(αE)‖`` at all levels, then E, then ``log ‖x^N − x‖``,
    norms as root mean square over the pixels. Images are ``(H, W, 3)`` uint8 BGR, not smaller than
    the network's.
    """
    model, found = restorer.model, []
    for image in images:
        parts = []
        for tiles in restorer.tiles(image):
            clean = restorer.to_network(tiles)  # (B, C, h, w)
            noise = np.random.default_rng(0).standard_normal(clean.shape[1:], np.float32)
            noise = torch.from_numpy(noise).to(clean.device)
            alpha = model.step_size.detach() * clean[0, 0].numel() / np.prod(restorer.size)
            levels = []
            for gamma in LEVELS:
                x = gamma**0.5 * clean + (1 - gamma) ** 0.5 * noise
                energy, gradient = energy_gradient(model.energy, x, alpha)
                x = x - gradient
                for _ in range(1, model.num_steps):
                    x = x - energy_gradient(model.energy, x, alpha)[1]
                figures = _log_size(gradient), energy.detach().double(), _log_size(x - clean)
                levels.append(torch.stack(figures))  # (3, B)
            parts.append(torch.stack(levels, 1).flatten(0, 1))  # (3 L, B)
        found.append(torch.cat(parts, 1).mean(1).cpu().numpy())
    return np.stack(found)


def strangeness(
    features: np.ndarray, reference: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mahalanobis distance from reference images, and its p-value.

    Reference images are compared with others of them (20-fold), with Ledoit and Wolf's covariance.

    Args:
        features: ``(M, D)``.
        reference: ``(R, D)``, R ≥ 10; None compares each image with the others.

    Returns:
        Distances ``(M,)``, and the share of reference images, the image itself included, whose
        distance is at least as large, ``(M,)``.
    """
    known = features if reference is None else reference
    if len(known) < LEAST_REFERENCES:
        least = f'at least {LEAST_REFERENCES}: --reference FOLDER'
        raise ValueError(f'{len(known)} images are too few to compare with, {least}')
    own = np.empty(len(known))
    for fold in range(min(FOLDS, len(known))):
        held_out = np.arange(len(known)) % FOLDS == fold
        own[held_out] = _distance(known[~held_out], known[held_out])
    if reference is None:
        return own, (own[:, None] <= own).mean(1)
    distances = _distance(reference, features)
    return distances, ((distances[:, None] <= own).sum(1) + 1) / (len(own) + 1)


def _distance(known: np.ndarray, features: np.ndarray) -> np.ndarray:
    from sklearn.covariance import LedoitWolf  # takes a second, which not every start should pay

    mean, deviation = known.mean(0), known.std(0) + 1e-9
    fitted = LedoitWolf(assume_centered=True).fit((known - mean) / deviation)
    return np.sqrt(fitted.mahalanobis((features - mean) / deviation))


def _log_size(change: torch.Tensor) -> torch.Tensor:
    """Logarithm of the root mean square, ``(B, ...)`` → ``(B,)``."""
    return (change.double().square().flatten(1).mean(1).sqrt() + 1e-9).log()


def scored_size(picture: Picture, own: int, short_side: int | None = None) -> np.ndarray:
    """Resize a picture to a short side, by default its own within ``own`` and twice ``own``.

    As ``(H, W, 3)`` uint8 BGR; UnreadableImageError if a very long one exceeds the pixel limit.
    """
    short = min(picture.pixels.shape[:2])
    scale = (short_side or max(own, min(2 * own, short))) / short
    check_pixels(*(ceil(side * scale) for side in picture.pixels.shape[:2]))
    return resized(to_uint8(picture.pixels), scale)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """An image ``(H, W, ...)``, reduced by areas or enlarged by cubes."""
    if scale == 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)
