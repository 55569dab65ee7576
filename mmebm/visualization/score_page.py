"""A page of ranked images, in one file that needs no other and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from .page import data_uri, render


@dataclass
class RankedImage:
    """What the page shows of an image.

    Attributes:
        name: its path, as the reader knows it.
        scores: by name; NaN is shown as a dash.
        thumbnail: ``(H, W, 3)`` uint8 RGB.
        heat: where the image is strange, ``(h, w)``, ≥ 0.
    """

    name: str
    scores: Mapping[str, float]
    thumbnail: np.ndarray
    heat: np.ndarray


def score_page(
    images: Sequence[RankedImage],
    scores: Mapping[str, str],
    ranked_by: str,
    top: int = 12,
    title: str = 'Images by how unlikely they are',
    notes: Sequence[str] = (),
) -> str:
    """Make the page: for each score its histogram, the strangest and the most ordinary images.

    Args:
        images: at least one.
        scores: name of each score → what it is.
        ranked_by: the score that is open when the page is.
        top: images to show at either end, ≥ 1.
        title: of the page.
        notes: lines below it.

    Returns:
        HTML. Names and notes are escaped.
    """
    shown = [name for name in scores if any(np.isfinite(i.scores[name]) for i in images)]
    highest = float(np.percentile(np.concatenate([i.heat.ravel() for i in images]), 99.5)) or 1.0
    sections = []
    for name in sorted(shown, key=lambda name: name != ranked_by):
        ranked = list(enumerate(rank(images, name), 1))
        values = [image.scores[name] for image in images]
        rest = ranked[max(top, len(ranked) - top) :]
        sections.append((name, values, ranked[:top], rest))
    return render(
        'scores.html',
        title=title,
        notes=notes,
        scores=scores,
        shown=shown,
        sections=sections,
        uri=data_uri,
        heated=lambda image: overlay(image.thumbnail, image.heat, highest),
    )


def rank(images: Sequence[RankedImage], score: str) -> list[RankedImage]:
    """The strangest first; what is not finite counts as strange."""
    return sorted(
        images,
        key=lambda image: (
            -image.scores[score] if np.isfinite(image.scores[score]) else -np.inf,
            image.name,
        ),
    )


def overlay(image: np.ndarray, heat: np.ndarray, highest: float) -> np.ndarray:
    """A heat map over the grey image: ``(H, W, 3)`` uint8 RGB.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        heat: ``(h, w)``, brought to the image's size.
        highest: the heat that is brightest.
    """
    height, width = image.shape[:2]
    share = np.clip(heat / highest, 0, 1).astype(np.float32)
    share = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR))
    grey = np.asarray(Image.fromarray(image).convert('L').convert('RGB'), np.float32)
    colours = matplotlib.colormaps['inferno'](share)[..., :3] * 255
    strength = 0.25 + 0.6 * share[..., None]
    return np.rint((1 - strength) * grey + strength * colours).astype(np.uint8)
