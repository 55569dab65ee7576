"""Where an image changes, as a map."""

import numpy as np
from scipy.ndimage import gaussian_filter


def heat_map(change: np.ndarray, size: int | None = None) -> np.ndarray:
    """Size of a change at each pixel: root mean square over colours and a Gaussian neighbourhood.

    Args:
        change: ``(H, W, C)``, what a descent on the energy changes, or would change: x^N − x⁰, or
            the step α∇E.
        size: side of the network's images in pixels; the Gaussian's σ is a sixteenth of it.
            Defaults to the shorter side of the change.

    Returns:
        ``(H, W)`` float32 ≥ 0, in the unit of ``change``.
    """
    size = min(change.shape[:2]) if size is None else size
    power = np.square(change, dtype=np.float32).mean(2)
    return np.sqrt(np.maximum(gaussian_filter(power, size / 16), 0))
