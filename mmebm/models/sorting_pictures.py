"""Pictures of sorting: each patch stands where its embedding says."""

import torch
from torch import Tensor

# B batch, C channels, L patches of ph × pw pixels in a (gh, gw) grid, D channels of an embedding.


def assign_positions(embedding: Tensor, true_embedding: Tensor) -> Tensor:
    """The position of each patch, ``(B, L)``, so that the sum of the distances is least.

    Each row is a permutation of 0..L−1.

    Args:
        embedding: of the patches, ``(B, L, D)``, finite.
        true_embedding: of the positions, ``(L, D)``.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    distance = torch.cdist(embedding.double(), true_embedding.double()).cpu().numpy()
    positions = [torch.from_numpy(linear_sum_assignment(d)[1]) for d in distance]
    return torch.stack(positions).to(embedding.device)


def place_patches(images: Tensor, positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut images into patches and put each at a position.

    Args:
        images: ``(B, C, gh · ph, gw · pw)``.
        positions: of each patch, row by row, ``(B, L)``, each row a permutation of 0..L−1.
        grid: ``(gh, gw)``.
    """
    (b, c, h, w), (gh, gw) = images.shape, grid
    cells = images.reshape(b, c, gh, h // gh, gw, w // gw)
    patches = cells.permute(0, 2, 4, 1, 3, 5).reshape(b, gh * gw, -1)  # (B, L, C · ph · pw)
    placed = patches.take_along_dim(positions.argsort(1)[..., None], 1)
    cells = placed.reshape(b, gh, gw, c, h // gh, w // gw)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
