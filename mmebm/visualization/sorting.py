"""Sorting as chains of pictures: each patch stands where its embedding says."""

from collections.abc import Sequence

import numpy as np
import torch
from mmpretrain.structures import DataSample
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..models import EnergySortingAlgorithm
from ..models.energy_sorting import nearest_positions
from .chains import Chain

# B batch, C channels, H × W pixels, L patches of a (gh, gw) grid, D channels of an embedding,
# N descent steps.


def to_sorting_chains(
    model: EnergySortingAlgorithm,
    images: Tensor,
    data_samples: Sequence[DataSample] | None = None,
    num_steps: int | None = None,
) -> list[Chain]:
    """Shuffle a batch as validation does, sort it, and lay its patches out at every step.

    The pictures show whole patches; the network saw them with masked edges. Each position gets one
    patch (:func:`assign_positions`), while the accuracy counts the patches whose embedding is
    nearest to their own position, as :class:`mmebm.SortingMetric` does.

    Args:
        model: in the mode (training or evaluation) that it should work in.
        images: ``(B, C, H, W)``, normalised.
        data_samples: B samples with ``sample_idx``; None numbers the images from 0.
        num_steps: N ≥ 0. Defaults to the number trained with.

    Returns:
        B chains, in pixel units, without titles.
    """
    masked, order = model.disorder(images, model.validation_noise(images, data_samples))
    true = model.true_embedding
    embeddings = model.sort(masked, true[order], num_steps)  # (N + 1, B, L, D)
    right = nearest_positions(embeddings, true) == torch.arange(len(true), device=true.device)
    accuracy = right.double().mean(-1).T.cpu().numpy()  # (B, N + 1)
    with torch.no_grad():
        steps = [*embeddings, true.expand_as(embeddings[0])]
        energies = torch.stack([model.energy(masked, e).float() for e in steps]).T.cpu().numpy()
    pixels = model.to_pixels(images).permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, C)
    return [
        Chain(
            images=np.stack(
                [place_patches(clean, assign_positions(e, true), model.grid) for e in chain]
            ),
            energies=energies[b, :-1],
            clean=clean,
            clean_energy=float(energies[b, -1]),
            accuracy=accuracy[b],
        )
        for b, (clean, chain) in enumerate(zip(pixels, embeddings.unbind(1), strict=True))
    ]


def assign_positions(embedding: Tensor, true_embedding: Tensor) -> np.ndarray:
    """One patch per position, so that the sum of the distances is least.

    Args:
        embedding: of the patches, ``(L, D)``, finite.
        true_embedding: of the positions, ``(L, D)``.

    Returns:
        The position of each patch, a permutation of 0..L−1.
    """
    distance = torch.cdist(embedding.double(), true_embedding.double())
    return linear_sum_assignment(distance.cpu().numpy())[1]


def place_patches(image: np.ndarray, positions: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cut an image into patches and put each at a position.

    Args:
        image: ``(H, W, C)``, H a multiple of gh and W of gw.
        positions: ``(L,)``, a permutation of 0..L−1, row by row.
        grid: ``(gh, gw)``.

    Returns:
        A new image of the same shape.
    """
    (rows, columns), (height, width, channels) = grid, image.shape
    cells = image.reshape(rows, height // rows, columns, width // columns, channels)
    patches = cells.swapaxes(1, 2).reshape(rows * columns, -1)  # (L, ph · pw · C)
    placed = np.empty_like(patches)
    placed[positions] = patches
    placed = placed.reshape(rows, columns, height // rows, width // columns, channels)
    return placed.swapaxes(1, 2).reshape(image.shape)
