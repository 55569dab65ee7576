"""Checkpoints written before the new layout of the package still load, with the same results.

``tests/data/*_0.1.pth`` were written by version 0.1: weights, and the config as text. It also
computed the numbers below.
"""

from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS

from mmebm import load_backbone
from mmebm.utils.checkpoint import load_checkpoint_safely
from mmebm.utils.config_text import config_inside

DATA = Path(__file__).parent / 'data'


def load(name):
    checkpoint = load_checkpoint_safely(DATA / name)
    model = MODELS.build(config_inside(checkpoint, name).model)
    model.load_state_dict(checkpoint['state_dict'])
    return model.eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_restoration(images):
    model = load('restoration_0.1.pth')
    expected = torch.tensor([2.1109232902526855, 1.640662431716919])
    torch.testing.assert_close(model.energy(images).detach(), expected)
    assert model.step_size.item() == pytest.approx(50.0)
    moved = (model.restore(images)[-1] - images).norm().item()
    assert moved == pytest.approx(43.3969841003418, rel=1e-5)


def test_sorting(images):
    model = load('sorting_0.1.pth')
    shuffled = model.true_embedding.flip(0).expand(2, -1, -1)
    expected = torch.tensor([1.3409357070922852, 1.2873727083206177])
    torch.testing.assert_close(model.energy(images, shuffled).detach(), expected)
    moved = (model.sort(images, shuffled)[-1] - shuffled).norm().item()
    assert moved == pytest.approx(5.292285919189453, rel=1e-5)


def test_the_backbone_fills_another_model(images):
    model = load('restoration_0.1.pth')
    energies = model.energy(images)
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.zero_()
    filled = load_backbone(model.backbone, DATA / 'restoration_0.1.pth')
    assert filled.share == 1
    assert torch.equal(model.energy(images), energies)
