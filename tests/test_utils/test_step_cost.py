"""The cost of a step: what is counted, not how much it is."""

import pytest
import torch

from mmebm.utils.step_cost import peak_memory, step_seconds


def test_peak_memory_is_that_of_the_step():
    kept = []

    def step():
        kept.append(torch.zeros(2**18))  # freed outside of the measurement
        return (torch.zeros(2**20) + 1).sum()  # two tensors of 4 MiB at once

    for _ in range(2):
        peak = peak_memory(step, torch.device('cpu'))
        assert peak == pytest.approx(2 * 2**22 + 2**20, rel=0.01)


def test_a_call_is_made_once_and_timed():
    calls = []
    assert step_seconds(lambda: calls.append(1), torch.device('cpu')) > 0
    assert calls == [1]
