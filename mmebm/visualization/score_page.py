"""A page of ranked images in one self-contained HTML file."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib
import numpy as np
from PIL import Image

BINS = 40
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em;
  color: #222; background: #fff }
h2 { margin-top: 1.6em } h3 { margin-bottom: .4em } summary h2 { display: inline }
summary { cursor: pointer; margin-top: 1.5em }
.cards { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0; width: 276px; background: #f4f4f4; border-radius: 6px; padding: 8px }
.pair { display: flex; gap: 4px }
figure img { width: 136px; height: 136px; object-fit: contain; background: #fff }
figcaption { font-size: 12px; overflow-wrap: anywhere } figcaption b { font-size: 13px }
svg { width: 100%; max-width: 640px; height: 130px } svg rect { fill: #4a74a8 }
svg text { font-size: 11px; fill: #444 }
"""


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
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>',
        *(f'<p>{escape(note)}</p>' for note in notes),
        '<p>The map beside each image shows where it is strange: the brighter, the more the '
        'network wants to change. The scale is the same for all images.</p>',
    ]
    for name in sorted(shown, key=lambda name: name != ranked_by):
        ranked = rank(images, name)
        parts += [
            f'<details{" open" if name == ranked_by else ""}><summary><h2>By {escape(name)}</h2>'
            f'</summary><p>{escape(scores[name])}; higher is stranger.</p>',
            histogram([image.scores[name] for image in ranked]),
            '<h3>Strangest</h3>',
            cards(ranked[:top], 1, name, shown, highest),
        ]
        rest = ranked[max(top, len(ranked) - top) :]
        if rest:
            first = len(ranked) - len(rest) + 1
            parts += ['<h3>Most ordinary</h3>', cards(rest, first, name, shown, highest)]
        parts.append('</details>')
    return '\n'.join([*parts, '</body></html>'])


def rank(images: Sequence[RankedImage], score: str) -> list[RankedImage]:
    """Sort images, strangest first; a score that is not finite counts as the strangest."""
    return sorted(
        images,
        key=lambda image: (
            -image.scores[score] if np.isfinite(image.scores[score]) else -np.inf,
            image.name,
        ),
    )


def histogram(values: Sequence[float], bins: int = BINS) -> str:
    """The finite values as an SVG histogram."""
    finite = np.array([v for v in values if np.isfinite(v)])
    counts, edges = np.histogram(finite, bins)
    highest = max(counts.max(), 1)
    bars = ''.join(
        f'<rect x="{16 * i}" y="{100 - 100 * count / highest:.1f}" width="15" '
        f'height="{100 * count / highest:.1f}"><title>{count} in {edges[i]:.4g} to '
        f'{edges[i + 1]:.4g}</title></rect>'
        for i, count in enumerate(counts)
    )
    width = 16 * bins
    return (
        f'<svg viewBox="0 0 {width} 120" role="img" aria-label="histogram">{bars}'
        f'<text x="0" y="115">{edges[0]:.4g}</text>'
        f'<text x="{width}" y="115" text-anchor="end">{edges[-1]:.4g}</text></svg>'
    )


def cards(
    images: Sequence[RankedImage], first: int, score: str, scores: Sequence[str], highest: float
) -> str:
    """Images beside their heat maps, numbered from ``first``, with all their scores."""
    figures = []
    for number, image in enumerate(images, first):
        values = ', '.join(
            f'{escape(name)} {image.scores[name]:.4g}' for name in scores if name != score
        )
        figures.append(
            f'<figure><div class="pair"><img alt="" src="{data_uri(image.thumbnail)}">'
            f'<img alt="where" src="{data_uri(overlay(image.thumbnail, image.heat, highest))}">'
            f'</div><figcaption><b>{number}. {image.scores[score]:.4g}</b> {escape(image.name)}<br>'
            f'{values}</figcaption></figure>'
        )
    return f'<div class="cards">{"".join(figures)}</div>'


def overlay(image: np.ndarray, heat: np.ndarray, highest: float) -> np.ndarray:
    """A heat map over the grey image: ``(H, W, 3)`` uint8 RGB.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        heat: ``(h, w)``, ≥ 0; resized to the image's size.
        highest: the heat shown brightest, > 0.
    """
    height, width = image.shape[:2]
    share = np.clip(heat / highest, 0, 1).astype(np.float32)
    share = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR))
    grey = np.asarray(Image.fromarray(image).convert('L').convert('RGB'), np.float32)
    colours = matplotlib.colormaps['inferno'](share)[..., :3] * 255
    strength = 0.25 + 0.6 * share[..., None]
    return np.rint((1 - strength) * grey + strength * colours).astype(np.uint8)


def data_uri(image: np.ndarray) -> str:
    """``(H, W, 3)`` uint8 RGB as a data URI that holds a JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format='JPEG', quality=80)
    return f'data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'
