"""Hooks that use the network, on a run of a tiny ViT with validation."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmebm import RestorationVisualizationHook, SinCosPositionEmbeddingHook
from mmebm.backbones.position_embedding import sincos_position_embedding

from .conftest import MODEL


@pytest.fixture
def train(make_runner, image_folder):
    def run(hooks, max_epochs=1, **options):
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='GriddedMask', patch_size=4, ratio=0.5, seed=0),
            dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption')),
        ]
        backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
        runner = make_runner(
            hooks,
            model=MODEL,
            dataset=image_folder() | dict(pipeline=pipeline),
            loader=dict(collate_fn=dict(type='default_collate')),
            train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
            visualizer=dict(type='UniversalVisualizer', vis_backends=backends),
            **options,
        )
        runner.train()
        return runner

    return run


def test_pictures_of_restoration_reach_every_backend(train):
    runner = train([RestorationVisualizationHook(num_images=2, interval=2)], max_epochs=3)
    drawn = sorted(path.name for path in Path(runner.log_dir).rglob('*.png'))
    assert drawn == ['restoration_2.png', 'restoration_3.png']  # every second one, and the last
    events = EventAccumulator(f'{runner.log_dir}/vis_data').Reload()
    assert [image.step for image in events.Images('restoration')] == [2, 3]
    assert runner.model.training  # as the run left it


def test_a_sin_cos_start_but_of_resumed_weights(train, tmp_path):
    still = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)))

    def embedding(*arguments, **options):
        return train(*arguments, **options).model.backbone.pos_embed.detach()[0, 1:]

    hook = SinCosPositionEmbeddingHook
    assert torch.equal(embedding([hook()], **still), sincos_position_embedding((2, 2), 16))
    first = embedding([], work_dir='other', **still)
    resumed = embedding([hook()], 2, work_dir='other', resume=True, load_from=None, **still)
    assert torch.equal(resumed, first)
    assert not torch.equal(resumed, sincos_position_embedding((2, 2), 16))
