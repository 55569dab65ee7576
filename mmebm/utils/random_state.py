"""Random draws that depend only on given integers, not on earlier draws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import get_worker_info


def derive_seeds(*entropy: int) -> tuple[int, int, int]:
    """Three independent seeds, for NumPy, Python's ``random`` and torch.

    Args:
        *entropy: Non-negative integers such as seed, epoch and sample index. Neighbouring values
            give unrelated seeds; the order matters.

    Returns:
        Three integers in ``[0, 2**32)``.

    Raises:
        ValueError: If a number is negative.
    """
    numpy_seed, python_seed, torch_seed = np.random.SeedSequence(entropy).generate_state(3).tolist()
    return numpy_seed, python_seed, torch_seed


@contextmanager
def fixed_random_state(*entropy: int) -> Iterator[None]:
    """Seed the generators that transforms draw from, and restore them afterwards.

    These are NumPy's global state, Python's ``random`` and torch's CPU generator; those of
    accelerators are not touched. Takes about 0.1 ms, mostly for copying the states. In a worker,
    whose generators only serve samples, they are not restored, which takes a quarter of that.

    Args:
        *entropy: Non-negative integers from which the seeds are derived.

    Raises:
        ValueError: If a number is negative.
    """
    numpy_seed, python_seed, torch_seed = derive_seeds(*entropy)
    saved = None
    if get_worker_info() is None:
        saved = np.random.get_state(), random.getstate(), torch.get_rng_state()
    np.random.seed(numpy_seed)
    random.seed(python_seed)
    # Not torch.manual_seed: that seeds the accelerators' generators as well.
    torch.default_generator.manual_seed(torch_seed)
    try:
        yield
    finally:
        if saved is not None:
            np.random.set_state(saved[0])
            random.setstate(saved[1])
            torch.set_rng_state(saved[2])
