"""Hidden patches: a vision transformer whose other tokens do not see some of the patches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .position_embedding import check_image_size, find_position_embedding, first_transformer_layer

# B images, C channels, L patches of ph × pw pixels, T extra tokens (class token).


def changed_patches(backbone: nn.Module, images: Tensor, others: Tensor) -> Tensor:
    """The patches of a vision transformer in which two images differ, row by row.

    Args:
        backbone: see :func:`~mmebm.backbones.find_position_embedding`.
        images, others: ``(B, C, gh · ph, gw · pw)``.

    Returns:
        ``(B, L)``, bool.

    Raises:
        ValueError: the images are not of the size that the backbone was built for.
    """
    check_image_size(backbone, images)
    size = find_position_embedding(backbone).patch_size
    changed = (images != others).any(1, keepdim=True).float()
    return F.max_pool2d(changed, size).flatten(1).bool()


def patches_to_pixels(backbone: nn.Module, patches: Tensor) -> Tensor:
    """A value for each patch ``(B, L)`` → the same for each of its pixels, ``(B, 1, H, W)``."""
    found = find_position_embedding(backbone)
    (rows, columns), (height, width) = found.grid, found.patch_size
    pixels = patches.view(-1, 1, rows, columns).repeat_interleave(height, -2)
    return pixels.repeat_interleave(width, -1)


def check_hidden_patches(backbone: nn.Module) -> None:
    """Refuse a backbone whose patches cannot be hidden.

    Raises:
        ValueError: it has no absolute position embedding or no list of transformer layers.
    """
    try:
        first_transformer_layer(backbone)
    except ValueError as error:
        raise ValueError(f'hide_corrupted=True is not possible: {error}') from error


@contextmanager
def hidden_patches(hidden: Tensor | None) -> Iterator[None]:
    """Within the context, tokens attend to no hidden patch, except each of these to itself.

    So a hidden patch sees all others, and no other token knows what it holds. Every attention in
    the context must go through PyTorch's ``scaled_dot_product_attention``.

    Args:
        hidden: of the patches that the layers see, ``(B, L)``, bool; extra tokens come before them
            and are not hidden. None hides nothing.

    Raises:
        ValueError: nothing in the context called that function, or with a mask of its own, or for
            fewer tokens than patches.
    """
    if hidden is None:
        yield
        return
    mode = _HiddenPatches(hidden)
    with mode:
        yield
    if not mode.used:
        raise ValueError(
            'hide_corrupted=True has no effect: the attention of this backbone does not call '
            'torch.nn.functional.scaled_dot_product_attention'
        )


class _HiddenPatches(TorchFunctionMode):
    def __init__(self, hidden: Tensor):
        self.hidden, self.used = hidden, False

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            self.used = True
            func = self._attention
        return func(*args, **(kwargs or {}))

    def _attention(self, query, key, value, attn_mask=None, **options) -> Tensor:
        extra = query.shape[-2] - self.hidden.shape[1]
        if attn_mask is not None or extra < 0 or query.shape[-2] != key.shape[-2]:
            raise ValueError(
                'hide_corrupted=True needs global attention between all tokens, without a mask of '
                f'its own: got {query.shape[-2]} queries and {key.shape[-2]} keys for '
                f'{self.hidden.shape[1]} patches'
            )
        seen = F.pad(~self.hidden, (extra, 0), value=True)[:, None, None]  # (B, 1, 1, T + L)
        itself = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
        # Outside of this mode, but inside of the one that makes attention twice differentiable.
        return F.scaled_dot_product_attention(query, key, value, seen | itself, **options)
