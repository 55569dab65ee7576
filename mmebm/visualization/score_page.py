"""A page of ranked images in one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..report.page import data_uri, render


@dataclass
class RankedImage:
    """What the page shows of an image.

    Attributes:
        name: its path, as shown to the reader.
        scores: by name; NaN if a score is missing.
        thumbnail: ``(H, W, 3)`` uint8 RGB.
        heat: how strange each part of the image is, ``(h, w)``, ≥ 0.
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
    """Build the page: for each score a histogram, the strangest and the most ordinary images.

    Args:
        images: at least one.
        scores: name of each score → its description.
        ranked_by: the score whose section comes first and is open.
        top: number of images to show at each end of a ranking, ≥ 1.
        title: of the page.
        notes: lines below the title.

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
    """Sort images, strangest first; a score that is not finite counts as the strangest."""
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
        heat: ``(h, w)``, ≥ 0; resized to the image's size.
        highest: the heat shown brightest, > 0.
    """
    import matplotlib  # slow to import

    height, width = image.shape[:2]
    share = np.clip(heat / highest, 0, 1).astype(np.float32)
    share = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR))
    grey = np.asarray(Image.fromarray(image).convert('L').convert('RGB'), np.float32)
    colours = matplotlib.colormaps['inferno'](share)[..., :3] * 255
    strength = 0.25 + 0.6 * share[..., None]
    return np.rint((1 - strength) * grey + strength * colours).astype(np.uint8)
