"""Every step of a restoration, with what can be said of it, for looking at."""

from dataclasses import dataclass

import numpy as np

from ..utils import checked_int
from ..utils.heat_map import heat_map
from .picture_files import Picture, to_bytes
from .whole_images import Damage, WholeImageRestorer, damaged, psnr_in_bands, ssim_in_bands

# H × W pixels BGR, N descent steps.


@dataclass(frozen=True)
class StepByStep:
    """A picture on its way from damaged to restored, all steps kept.

    Attributes:
        start: x⁰, ``(H, W, 3)`` BGR in pixel units, as the network got it.
        differences: ``xⁿ − x⁰`` for n = 0..N, each ``(H, W, 3)`` float32; zero where a mask
            protects the pixel.
        energies: mean over the tiles, of x⁰ to x^N.
        heats: where the network wants to change each of them: see
            :func:`mmebm.utils.heat_map.heat_map`, ``(H, W)`` in grey levels.
        clean: the undamaged pixels, or None if they are not known.
        damage: what was done to them, or ''.
    """

    start: np.ndarray
    differences: list[np.ndarray]
    energies: list[float]
    heats: list[np.ndarray]
    clean: np.ndarray | None
    damage: str

    @property
    def num_steps(self) -> int:
        """N."""
        return len(self.differences) - 1

    def frame(self, n: int) -> np.ndarray:
        """xⁿ for display: ``(H, W, 3)`` uint8 RGB."""
        return np.ascontiguousarray(to_bytes(self.start, self.differences[n])[..., ::-1])

    def psnr(self, n: int) -> float:
        """Of xⁿ against ``clean`` in dB; NaN without it."""
        if self.clean is None:
            return float('nan')
        return psnr_in_bands(self.start, self.clean, self.differences[n])

    def ssim(self, n: int) -> float:
        """Of xⁿ against ``clean``; NaN without it."""
        if self.clean is None:
            return float('nan')
        return ssim_in_bands(self.start, self.clean, self.differences[n])


def restore_step_by_step(
    restorer: WholeImageRestorer,
    picture: Picture,
    damage: Damage | None = None,
    num_steps: int | None = None,
) -> StepByStep:
    """Restore a picture and keep every step.

    One step more is computed than is kept, for the energy and the map of the last one. Takes
    16 bytes of memory per pixel and step.

    Args:
        restorer: the network.
        picture: as :func:`mmebm.apis.read_picture` gives it.
        damage: what is wrong with it; see :class:`Damage`. A mask is taken to hide what is known,
            so that ``clean`` is the picture.
        num_steps: N ≥ 0. Defaults to the number trained with.

    Raises:
        TypeError, ValueError: ``num_steps`` is not an integer ≥ 0, or the damage does not fit.
    """
    damage = damage or Damage()
    if num_steps is None:
        num_steps = restorer.model.num_steps
    num_steps = checked_int('num_steps', num_steps, minimum=0)
    start, clean, name = damaged(restorer, picture, damage)
    differences: list[np.ndarray] = []
    _, energies = restorer(
        start.pixels, num_steps + 1, lambda n, x, difference: differences.append(difference.copy())
    )
    size = min(restorer.size)
    heats = [heat_map(differences[n + 1] - differences[n], size) for n in range(num_steps + 1)]
    differences.pop()
    if damage.mask is not None:
        clean = picture.pixels
        for values in (*differences, *heats):
            values[~damage.mask] = 0
    return StepByStep(start.pixels, differences, energies, heats, clean, name)
