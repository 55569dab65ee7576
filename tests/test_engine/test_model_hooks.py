"""Hooks that use the network, on a run of a tiny ViT with validation."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmebm.backbones.position_embedding import sincos_position_embedding

SIZE = 8


@pytest.fixture
def make_config(folder, tmp_path):
    def make(hooks, max_epochs=3, val=True, **options):
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='GriddedMask', patch_size=4, ratio=0.5, seed=0),
            dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption')),
        ]
        loader = dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            dataset=dict(type='ImageFolder', data_root=str(folder), pipeline=pipeline),
        )
        model = dict(
            type='EnergyRestorationAlgorithm',
            backbone=dict(
                type='VisionTransformer',
                arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16),
                img_size=SIZE,
                patch_size=4,
                out_type='avg_featmap',
            ),
            head=dict(type='EnergyHead', in_channels=16),
            data_preprocessor=dict(
                type='SelfSupDataPreprocessor', mean=[127.5] * 3, std=[50.0] * 3, to_rgb=True
            ),
        )
        if val:
            metric = dict(type='RestorationMetric')
            options |= dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=metric)
        backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
        return Config(
            dict(
                model=model,
                work_dir=str(tmp_path / 'work'),
                train_dataloader=loader,
                train_cfg=dict(by_epoch=True, max_epochs=max_epochs, val_interval=10),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
                custom_hooks=hooks,
                default_scope='mmpretrain',
                experiment_name=tmp_path.name,
                visualizer=dict(type='UniversalVisualizer', vis_backends=backends),
                **options,
            )
        )

    return make


@pytest.mark.parametrize('val', [True, False])
def test_pictures_of_restoration_reach_every_backend(make_config, val):
    hook = dict(type='RestorationVisualizationHook', num_images=2, interval=2)
    runner = Runner.from_cfg(make_config([hook], val=val))
    runner.train()
    drawn = sorted(path.name for path in Path(runner.log_dir).rglob('*.png'))
    assert drawn == ['restoration_2.png', 'restoration_3.png']  # every second one, and the last
    events = EventAccumulator(f'{runner.log_dir}/vis_data').Reload()
    assert [image.step for image in events.Images('restoration')] == [2, 3]
    assert runner.model.training is not val  # as the run left it


class TestSinCosStart:
    hooks = [dict(type='SinCosPositionEmbeddingHook')]
    expected = sincos_position_embedding((2, 2), 16)

    def embedding(self, config, lr=0.0):
        config.optim_wrapper.optimizer.lr = lr
        runner = Runner.from_cfg(config)
        runner.train()
        return runner.model.backbone.pos_embed.detach()[0, 1:]

    @pytest.mark.slow
    def test_is_where_training_starts_and_not_where_it_stays(self, make_config):
        assert torch.equal(self.embedding(make_config(self.hooks)), self.expected)
        assert not torch.equal(self.embedding(make_config([])), self.expected)

    @pytest.mark.slow
    def test_resumed_weights_win(self, make_config):
        config = make_config([], max_epochs=1)
        first = self.embedding(config)
        resumed = make_config(self.hooks, max_epochs=2, resume=True)
        resumed.experiment_name += ' resumed'
        assert torch.equal(self.embedding(resumed), first)
