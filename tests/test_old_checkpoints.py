"""Checkpoints written before the new layout of the package still load, with the same results.

``tests/data/*_0.1.pth`` were written by version 0.1: weights, and the config as text. It also
computed the numbers below.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmebm import Damage, Restorer, load_backbone

DATA = Path(__file__).parent / 'data'


@pytest.fixture
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_restoration(images):
    restore = Restorer(DATA / 'restoration_0.1.pth', device='cpu')
    model = restore.model
    expected = torch.tensor([2.1109232902526855, 1.640662431716919])
    torch.testing.assert_close(model.energy(images).detach(), expected)
    assert model.step_size.item() == pytest.approx(50.0)
    moved = (model.restore(images)[-1] - images).norm().item()
    assert moved == pytest.approx(43.3969841003418, rel=1e-5)
    photograph = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    chain = restore(photograph, Damage(corruption='config'))
    assert [image.shape for image in chain.images] == [(20, 24, 3)] * 3


def test_sorting(images):
    model = Restorer(DATA / 'sorting_0.1.pth', device='cpu').model
    shuffled = model.true_embedding.flip(0).expand(2, -1, -1)
    expected = torch.tensor([1.3409357070922852, 1.2873727083206177])
    torch.testing.assert_close(model.energy(images, shuffled).detach(), expected)
    moved = (model.sort(images, shuffled)[-1] - shuffled).norm().item()
    assert moved == pytest.approx(5.292285919189453, rel=1e-5)


def test_the_backbone_fills_another_model(images):
    model = Restorer(DATA / 'restoration_0.1.pth', device='cpu').model
    energies = model.energy(images)
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.zero_()
    filled = load_backbone(model.backbone, DATA / 'restoration_0.1.pth')
    assert filled.share == 1
    assert torch.equal(model.energy(images), energies)
