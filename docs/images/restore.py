"""Draws restore.jpg: python docs/images/restore.py CHECKPOINT OUTPUT

The cat of scikit-image with four kinds of damage, and what ``mmebm restore`` makes of them.
"""

import sys

import numpy as np
import skimage.data
from PIL import Image

from mmebm.corruptions.masking import grid_mask
from mmebm.models.chain import to_uint8
from mmebm.restorer import Damage, Restorer

GAP = 6


def main(checkpoint: str, output: str) -> None:
    restorer = Restorer(checkpoint)
    photograph = Image.fromarray(skimage.data.chelsea()).resize((450, 300), Image.LANCZOS)
    pixels = np.asarray(photograph)[..., ::-1].copy()  # BGR
    mask = grid_mask(*pixels.shape[:2], 6, 0.3, np.random.default_rng(0))
    noise = dict(type='GaussianNoise', gamma_range=(0.7, 0.7))
    small = np.asarray(photograph.resize((112, 75), Image.BICUBIC))[..., ::-1].copy()
    cases = [
        (pixels, Damage(mask=mask)),
        (pixels, Damage(corruption=noise)),
        (pixels, Damage(colorize=True)),
        (small, Damage(upscale=4)),
    ]
    height, width = 300, 450
    sheet = Image.new('RGB', (2 * (width + GAP) - GAP, 4 * (height + GAP) - GAP), 'white')
    for row, (image, damage) in enumerate(cases):
        images = restorer(image, damage).images
        for column, shown in enumerate((images[0], images[-1])):
            picture = Image.fromarray(to_uint8(shown)).resize((width, height))
            sheet.paste(picture, (column * (width + GAP), row * (height + GAP)))
    sheet.save(output, quality=85)


if __name__ == '__main__':
    main(*sys.argv[1:])
