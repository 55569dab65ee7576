"""Histograms of oriented gradients, patch by patch."""

import math

import pytest
import torch

from mmebm import PatchHOG


def reference(image, patch, cell, bins):
    """Of an image ``(3, H, W)``, patch by patch, from the definition: pixel by pixel."""
    _, height, width = image.shape

    def at(colour, row, column):  # mirrored at the border, which is not repeated
        row, column = abs(row), abs(column)
        row, column = min(row, 2 * height - 2 - row), min(column, 2 * width - 2 - column)
        return float(image[colour, row, column])

    def histogram(colour, top, left):
        found = [0.0] * bins
        for y in range(top, top + cell):
            for x in range(left, left + cell):
                across = down = 0.0
                for offset, weight in ((-1, 1), (0, 2), (1, 1)):
                    across += weight * (
                        at(colour, y + offset, x - 1) - at(colour, y + offset, x + 1)
                    )
                    down += weight * (at(colour, y - 1, x + offset) - at(colour, y + 1, x + offset))
                angle = math.atan2(across, down) % math.pi
                found[min(int(angle / math.pi * bins), bins - 1)] += math.hypot(across, down)
        length = math.sqrt(sum(value**2 for value in found))
        return [value / length for value in found]

    patches = []
    for top in range(0, height, patch[0]):
        for left in range(0, width, patch[1]):
            cells = [
                [
                    histogram(colour, top + y, left + x)
                    for y in range(0, patch[0], cell)
                    for x in range(0, patch[1], cell)
                ]
                for colour in range(3)
            ]
            patches.append([c[b] for colour in cells for b in range(bins) for c in colour])
    return torch.tensor(patches)


@pytest.mark.parametrize(('patch', 'cell', 'bins'), [(4, 4, 9), ((4, 8), 2, 5)])
def test_equals_the_definition(patch, cell, bins):
    images = torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    hog = PatchHOG(patch_size=patch, pool=cell, nbins=bins)
    size = (patch, patch) if isinstance(patch, int) else patch
    expected = torch.stack([reference(image, size, cell, bins) for image in images])
    found = hog(images)
    assert found.shape == (2, 8 * 16 // (size[0] * size[1]), hog.values)
    torch.testing.assert_close(found, expected)


def test_is_exact_in_mixed_precision_and_after_a_cast():
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    hog = PatchHOG(patch_size=4, pool=4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = hog(images)
    assert torch.equal(mixed, hog(images))  # of the same type, too
    torch.testing.assert_close(hog.double()(images.double()), mixed)


def test_bad_options_and_images():
    for options, error in (
        (dict(patch_size=4, pool=3), r'pool=3 must divide patch_size=\(4, 4\)'),
        (dict(patch_size=0), 'patch_size must be'),
        (dict(patch_size=4, pool=0), 'pool must be'),
        (dict(patch_size=4, pool=4, nbins=0), 'nbins must be'),
    ):
        with pytest.raises(ValueError, match=error):
            PatchHOG(**options)
    hog = PatchHOG(patch_size=(4, 8), pool=4)
    for shape in ((1, 3, 8, 12), (1, 3, 6, 8), (1, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match=r'H a multiple of 4 and W of 8, got shape'):
            hog(torch.zeros(shape))
