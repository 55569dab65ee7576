import itertools
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import mmebm.datasets  # noqa: F401  registers ImageFolder
from mmebm.engine.runner import EndWorkersHook
from tests.backbones import NORMALISATION
from tests.zero_head import VIT

_numbers = itertools.count()

MODEL = dict(
    type='EnergyRestorationAlgorithm',
    backbone=dict(VIT, img_size=8),
    head=dict(type='EnergyHead', in_channels=16),
    data_preprocessor=NORMALISATION,
)


class ToyModel(BaseModel):
    """Regresses noise from an image: weights depend on images, on their draws, and on dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)
        self.dropout = nn.Dropout(0.5)
        self.seen: list[float] = []

    def forward(self, noise, features, mode='tensor', **_):
        noise, features = torch.stack(list(noise)), torch.stack(list(features))
        self.seen += noise.tolist()
        if mode == 'predict':
            return [{} for _ in noise]
        distance = (self.linear(self.dropout(features)).squeeze(1) - noise).square().mean()
        return dict(loss=distance, distance_step0=distance.detach())


class Nothing(BaseMetric):
    default_prefix = 'nothing'

    def process(self, data_batch, data_samples):
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results):
        return {'count': len(results)}


class Pack:
    def __call__(self, results):
        features = torch.from_numpy(results['img'].mean((0, 1)) / 255).float()
        return dict(noise=torch.tensor(np.random.rand()).float(), features=features)


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / 'images'
    root.mkdir()
    for number in range(8):
        image = np.full((8, 8, 3), 30 * number, dtype=np.uint8)
        cv2.imwrite(str(root / f'{number}.png'), image)
    return root


@pytest.fixture
def image_folder(folder):
    """Build the config of a dataset of 8 images."""

    def build(**options) -> dict:
        pipeline = [dict(type='LoadImageFromFile'), Pack()]
        return dict(type='ImageFolder', data_root=str(folder), pipeline=pipeline, **options)

    return build


@pytest.fixture
def make_runner(tmp_path, image_folder):
    """Build a real Runner around the toy model; two iterations per epoch."""

    def make(hooks, model=None, dataset=None, work_dir='work', val=False, **options) -> Runner:
        loader = dict(
            batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True)
        )
        loader |= options.pop('loader', {})
        if val:
            options |= dict(
                val_dataloader=dict(
                    dataset=image_folder(), **loader | dict(sampler=dict(type='DefaultSampler'))
                ),
                val_cfg=dict(),
                val_evaluator=[Nothing()],
            )
        options = (
            dict(
                train_cfg=dict(by_epoch=True, max_epochs=2),
                default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
                randomness=dict(seed=3),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5)),
            )
            | options
        )
        runner = Runner(
            model=model or ToyModel(),
            work_dir=str(tmp_path / work_dir),
            train_dataloader=dict(dataset=dataset or image_folder(), **loader),
            custom_hooks=hooks,
            default_scope='mmpretrain',
            log_level='INFO',
            experiment_name=f'{os.getpid()}-{next(_numbers)}',
            **options,
        )
        runner.register_hook(EndWorkersHook())
        return runner

    return make


@pytest.fixture
def log_of():
    """Text of a runner's log file."""

    def read(runner: Runner) -> str:
        return ''.join(p.read_text() for p in Path(runner.log_dir).glob('*.log'))

    return read
