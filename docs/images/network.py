"""What the network that comes with mmebm restores, beside scikit-image: a table and a picture.

python docs/images/network.py FOLDER    # of photographs that it never saw
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from skimage.restoration import denoise_nl_means, inpaint_biharmonic
from skimage.util import img_as_ubyte

from mmebm import Damage, Restorer
from mmebm.datasets import find_images, read_pixels
from mmebm.models.chain import draw_chains, to_uint8

SHORT_SIDE = 256  # pixels of each photograph
SIGMA = 25  # of the noise, in grey levels: γ so that √(1 − γ) times the mean deviation has it
GAMMA = 1 - (SIGMA / 57.7) ** 2
TASKS = {
    'noise': dict(type='GaussianNoise', gamma_range=(GAMMA, GAMMA)),
    'masks': dict(type='GriddedMask', patch_size=4, ratio=0.5),
    'super-resolution 2': dict(type='SuperResolution', scale=2),
    'super-resolution 4': dict(type='SuperResolution', scale=4),
    'colorization': dict(type='Colorization'),
}


def non_local_means(damaged: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """scikit-image's, with its advice for a known σ; contrast restored as √γ shrank it."""
    scale = np.sqrt(GAMMA)
    mean = np.array([103.53, 116.28, 123.675])
    image = ((damaged - mean) / scale + mean) / 255
    sigma = SIGMA / scale / 255
    options = dict(h=0.6 * sigma, sigma=sigma, fast_mode=True, patch_size=5, patch_distance=6)
    return 255 * denoise_nl_means(image, channel_axis=-1, **options)


def biharmonic(damaged: np.ndarray, clean: np.ndarray) -> np.ndarray:
    mask = (damaged != clean).any(-1)
    image = img_as_ubyte(np.clip(damaged, 0, 255).astype(np.uint8))
    return 255 * inpaint_biharmonic(image, mask, channel_axis=-1, split_into_regions=True)


def bicubic(scale: int) -> Callable:
    def enlarged(damaged: np.ndarray, clean: np.ndarray) -> np.ndarray:
        small = damaged[::scale, ::scale]
        size = damaged.shape[1], damaged.shape[0]
        return cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)

    return enlarged


CLASSICAL = {
    'noise': non_local_means,
    'masks': biharmonic,
    'super-resolution 2': bicubic(2),
    'super-resolution 4': bicubic(4),
}


def photographs(folder: str) -> list[np.ndarray]:
    """Pixels ``(H, W, 3)`` BGR, sides a multiple of 16 and the short one ``SHORT_SIDE``."""
    found = []
    for path in find_images(folder)[0]:
        pixels, _ = read_pixels(path)
        scale = SHORT_SIDE / min(pixels.shape[:2])
        size = [round(side * scale) // 16 * 16 for side in pixels.shape[1::-1]]
        found.append(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return found


def psnr(clean: np.ndarray, image: np.ndarray) -> float:
    """In dB, of the picture as it is shown and saved."""
    return peak_signal_noise_ratio(clean, to_uint8(image))


def main(folder: str) -> None:
    """Print the table and write ``network.jpg`` beside this file."""
    restorer, pictures, shown = Restorer(), photographs(folder), []
    astronaut = cv2.resize(skimage.data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)[
        ..., ::-1
    ]
    print('| task | damaged | restored | better than doing nothing | scikit-image, OpenCV |')
    print('| --- | ---: | ---: | ---: | ---: |')
    for task, corruption in TASKS.items():
        rows = []
        for index, pixels in enumerate(pictures):
            chain = restorer(pixels, Damage(corruption=corruption, index=index))
            before, after = (psnr(chain.clean, x) for x in (chain.images[0], chain.images[-1]))
            rest = CLASSICAL.get(task)
            damaged, clean = (np.asarray(x)[..., ::-1] for x in (chain.images[0], chain.clean))
            other = psnr(clean, rest(damaged, clean)) if rest else np.nan
            rows.append((before, after, other))
        shown.append(restorer(astronaut, Damage(corruption=corruption)))
        before, after, other = np.array(rows).T
        better = f'{(after > before).sum()} of {len(rows)}'
        line = (task, f'{before.mean():.2f}', f'{after.mean():.2f}', better, f'{other.mean():.2f}')
        print('|', ' | '.join(line), '|', flush=True)
    picture = draw_chains(shown[:-1], across=2, cell=2)
    Image.fromarray(picture).save(Path(__file__).with_name('network.jpg'), quality=88)


if __name__ == '__main__':
    main(sys.argv[1])
