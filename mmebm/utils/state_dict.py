"""Compare the tensors of a file with those of a network, and describe the differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn


class Fit(NamedTuple):
    """How the tensors of a file fit a network; as text, how many fit and what differs."""

    total: int  # number of tensors of the network
    missing: Sequence[str] = ()  # the network's that are not in the file
    unused: Sequence[str] = ()  # the file's that are not in the network
    unfit: Sequence[str] = ()  # a sentence for each that has another shape
    resized: Sequence[str] = ()  # that were given the network's shape

    @property
    def share(self) -> float:
        """Share of the network's tensors that the file fills, in [0, 1]."""
        return 1 - (len(self.missing) + len(self.unfit)) / max(self.total, 1)

    @property
    def differences(self) -> str:
        """What does not fit, counted and with examples; empty if everything fits."""
        found = {
            'missing in the file': self.missing,
            'not in the network': self.unused,
            'do not fit': self.unfit,
            'resized': self.resized,
        }
        return '; '.join(f'{len(n)} {what}: {shortened(n)}' for what, n in found.items() if n)

    def __str__(self) -> str:
        filled = self.total - len(self.missing) - len(self.unfit)
        text = f'filled {filled} of {self.total} tensors ({100 * self.share:.1f} %)'
        return '; '.join(filter(None, [text, self.differences]))


def check_fit(network: nn.Module, tensors: Mapping[str, Any], path: str | Path, what: str) -> None:
    """Refuse tensors whose names and shapes are not exactly those of the network.

    Raises:
        ValueError: names the first of each kind, the file (``path``) and the network (``what``).
    """
    own = {name: _shape(value) for name, value in network.state_dict().items()}
    file = {name: _shape(value) for name, value in tensors.items()}
    unfit = [
        f'{name} is {shape} in the file, {own[name]} in the network'
        for name, shape in file.items()
        if name in own and own[name] != shape
    ]
    missing, unused = [n for n in own if n not in file], [n for n in file if n not in own]
    differences = Fit(len(own), missing, unused, unfit).differences
    if differences:
        raise ValueError(f'{path} belongs to another network than {what}: {differences}')


def shortened(names: Sequence[object], most: int = 6) -> str:
    """The first names, separated by commas, and dots if there are more."""
    return ', '.join(map(str, names[:most])) + (', ...' if len(names) > most else '')


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if hasattr(value, 'shape') else None
