"""Draw ``corruptions.png``, and ``corruptions_beyond_paper.jpg``: photographs from scikit-image."""

from pathlib import Path

import cv2
import numpy as np
import skimage.data
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmebm.corruptions import (
    BaseCorruption,
    Blur,
    Colorization,
    Fog,
    FrequencyMask,
    GaussianNoise,
    GriddedMask,
    JPEGCompression,
    RandomBlockMask,
    Shuffle,
    SuperResolution,
)

RGB = dict(to_rgb=False, seed=0)  # scikit-image's arrays are RGB, unlike those of MMCV's loader
COLUMNS = {
    'GriddedMask\n16, 50 %': GriddedMask(16, 0.5, **RGB),
    'GriddedMask\n32, 70 %': GriddedMask(32, 0.7, **RGB),
    'RandomBlockMask\n75 small': RandomBlockMask(75, (0.01, 0.025), (0.5, 2), **RGB),
    'RandomBlockMask\n25 large': RandomBlockMask(25, (0.02, 0.05), (0.5, 2), **RGB),
    'SuperResolution\n12×': SuperResolution(12, seed=0),
    'GaussianNoise\nγ = 0.1': GaussianNoise((0.1, 0.1), **RGB),
    'Colorization\n': Colorization(**RGB),
}
BEYOND_THE_PAPER = {
    'Blur\nσ = 3': Blur((3, 3), seed=0),
    'JPEGCompression\nquality 5': JPEGCompression((5, 5), **RGB),
    'FrequencyMask\n0.02 to 0.12': FrequencyMask((0.02, 0.02), 0.1, seed=0),
    'FrequencyMask\n0 to 0.05': FrequencyMask((0, 0), 0.05, seed=0),
    'Shuffle\n32': Shuffle(32, seed=0),
    'Shuffle\n56, 50 %': Shuffle(56, 0.5, seed=0),
    'Fog\n': Fog(**RGB),
}
PHOTOGRAPHS = ('astronaut', 'coffee', 'chelsea', 'rocket')
SIDE = 224


def square(image: np.ndarray) -> np.ndarray:
    """Cut the largest square from the middle, and scale it to SIDE x SIDE."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = image[top : top + side, left : left + side]
    return cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def draw(columns: dict[str, BaseCorruption], path: Path) -> None:
    """Draw a photograph per row, and the corruptions beside it."""
    figure = Figure(figsize=(1.4 * (1 + len(columns)), 1.4 * len(PHOTOGRAPHS) + 0.5))
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(PHOTOGRAPHS), 1 + len(columns))
    for i, (name, row) in enumerate(zip(PHOTOGRAPHS, axes, strict=True)):
        clean = square(getattr(skimage.data, name)())
        pictures = [c(dict(img=clean, sample_idx=i))['img'][0] for c in columns.values()]
        for axis, picture in zip(row, [clean, *pictures], strict=True):
            axis.imshow(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
            axis.set_axis_off()
    for axis, title in zip(axes[0], ['clean\n', *columns], strict=True):
        axis.set_title(title, fontsize=9)
    figure.subplots_adjust(0, 0, 1, 1 - 0.5 / figure.get_figheight(), wspace=0.04, hspace=0.04)
    figure.savefig(path, dpi=90, pil_kwargs=dict(quality=85) if path.suffix == '.jpg' else None)


draw(COLUMNS, Path(__file__).with_suffix('.png'))
draw(BEYOND_THE_PAPER, Path(__file__).with_name('corruptions_beyond_paper.jpg'))
