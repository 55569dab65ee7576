"""Rounds: the same samples wherever a run was interrupted, and images drawn equally often."""

from types import SimpleNamespace

import pytest

from mmebm.datasets import RoundSampler, passes_in_round
from mmebm.datasets import rounds as module


def sampler(num_images=7, round_size=10, repeats=None, seed=0):
    repeats = passes_in_round(round_size, num_images) if repeats is None else repeats
    return RoundSampler(SimpleNamespace(num_images=num_images, repeats=repeats), round_size, seed)


def drawn(one, rounds):
    samples = []
    for number in rounds:
        one.set_epoch(number)
        samples.append(list(one))
    return samples


def test_a_round_depends_on_seed_and_number_only():
    assert drawn(sampler(), [3]) == [drawn(sampler(), range(5))[3]]
    assert drawn(sampler(), [3]) != drawn(sampler(seed=1), [3])
    assert drawn(sampler(), [3]) != drawn(sampler(), [4])


def test_each_pass_has_every_image_once_in_another_order():
    rounds = drawn(sampler(), range(7))
    for samples in rounds:  # an image that comes twice has another index
        assert len(set(samples)) == len(samples) == len(sampler()) == 10
    samples = [i % 7 for part in rounds for i in part]
    passes = [samples[start : start + 7] for start in range(0, 70, 7)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len(set(map(tuple, passes))) == 10


def test_processes_share_a_round(monkeypatch):
    (whole,) = drawn(sampler(), [2])
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, 2))
        parts += drawn(sampler(), [2])
    assert [parts[0], parts[1]] == [whole[0::2], whole[1::2]]


def test_what_does_not_fit_is_refused(monkeypatch):
    with pytest.raises(ValueError, match='needs repeats=3, got 2'):
        sampler(repeats=2)
    with pytest.raises(ValueError, match='round_size must be'):
        sampler(round_size=0, repeats=1)
    monkeypatch.setattr(module, 'get_dist_info', lambda: (0, 4))
    with pytest.raises(ValueError, match='round_size=10: no multiple of 4 processes'):
        sampler()
