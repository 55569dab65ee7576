import math

import pytest
import torch

from mmebm.engine.hooks.neighbour_accuracy import leave_one_out_accuracy


def reference(features, labels, k, temperature=0.07):
    """Each image by the votes of the others, one at a time, in float64."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    right = 0
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        near = sorted(others, key=lambda j: -float(unit[i] @ unit[j]))[:k]
        votes = torch.zeros(int(labels.max()) + 1, dtype=torch.float64)
        for j in near:
            votes[labels[j]] += math.exp(float(unit[i] @ unit[j]) / temperature)
        right += int(votes.argmax()) == int(labels[i])
    return right / len(unit)


@pytest.mark.parametrize('k', [1, 5, 20, 100])
def test_equals_a_plain_search(k):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (40,), generator=generator)
    features = torch.randn(40, 8, generator=generator) + labels[:, None]
    found = leave_one_out_accuracy(features, labels, k)
    assert found == pytest.approx(reference(features, labels, min(k, 39)))
    assert found < 1


def test_nothing_to_compare():
    assert math.isnan(leave_one_out_accuracy(torch.ones(1, 4), torch.tensor([0])))
    assert math.isnan(
        leave_one_out_accuracy(torch.full((3, 4), torch.nan), torch.tensor([0, 1, 0]))
    )
