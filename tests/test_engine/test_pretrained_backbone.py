"""The hook on runs of a tiny classifier: what a run starts from, and when it refuses to start."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmebm.engine.hooks.pretrained_backbone import backbone_fingerprint
from tests.pretrained import ARCH, save_pretrained


class Start(Hook):
    """Remembers the weights before the first iteration."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not hasattr(self, 'weights'):
            self.weights = {k: v.clone() for k, v in runner.model.backbone.state_dict().items()}
            self.iter = runner.iter


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for name in ('a', 'b'):
        (folder / name).mkdir()
        for i in range(2):
            Image.fromarray(np.full((32, 32, 3), 40 * i, np.uint8)).save(folder / name / f'{i}.png')
    return str(folder)


@pytest.fixture
def make_runner(images, tmp_path, request):
    def make(hook=None, max_epochs=1, custom_hooks=(), **options):
        start = Start()
        config = Config(
            dict(
                model=dict(
                    type='ImageClassifier',
                    backbone=dict(
                        type='VisionTransformer',
                        arch=ARCH,
                        img_size=32,
                        patch_size=8,
                        out_type='avg_featmap',
                        final_norm=False,
                    ),
                    head=dict(
                        type='LinearClsHead',
                        num_classes=2,
                        in_channels=16,
                        loss=dict(type='CrossEntropyLoss'),
                    ),
                ),
                work_dir=str(tmp_path / 'work'),
                train_dataloader=dict(
                    batch_size=2,
                    num_workers=0,
                    sampler=dict(type='DefaultSampler', shuffle=False),
                    dataset=dict(
                        type='ImageFolder',
                        data_root=images,
                        with_label=True,
                        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
                    ),
                ),
                train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                default_hooks=dict(pretrained_backbone=hook) if hook else {},
                custom_hooks=list(custom_hooks),
                default_scope='mmpretrain',
                experiment_name=f'{request.node.name}_{max_epochs}',
                **options,
            )
        )
        runner = Runner.from_cfg(config)
        runner.register_hook(start)
        return runner, start

    return make


def hook(checkpoint):
    return dict(type='PretrainedBackboneHook', checkpoint=str(checkpoint))


def test_training_starts_from_the_checkpoint_and_says_so(make_runner, tmp_path):
    pretrained = save_pretrained('energy', tmp_path / 'a.pth')
    runner, start = make_runner(hook(tmp_path / 'a.pth'))
    runner.train()
    assert start.iter == 0
    assert all(torch.equal(start.weights[k], v) for k, v in pretrained.items())
    # and goes on from there
    after = runner.model.backbone.state_dict()
    assert not torch.equal(
        after['layers.0.attn.qkv.weight'], pretrained['layers.0.attn.qkv.weight']
    )
    (log,) = (tmp_path / 'work').rglob('*.log')
    assert 'a.pth: filled 30 of 30 tensors (100.0 %)' in log.read_text()


@pytest.mark.parametrize('checkpoint', [None, '', 'none'])
def test_no_checkpoint_is_an_error_before_the_first_iteration(make_runner, checkpoint):
    runner, start = make_runner(dict(type='PretrainedBackboneHook', checkpoint=checkpoint))
    with pytest.raises(ValueError, match=r'no checkpoint is given: set .* PRETRAINED=FILE'):
        runner.train()
    assert not hasattr(start, 'weights')


def test_a_checkpoint_of_another_network_stops_the_run(make_runner, tmp_path):
    save_pretrained('energy', tmp_path / 'a.pth', arch=dict(ARCH, num_layers=1))
    runner, start = make_runner(hook(tmp_path / 'a.pth'))
    with pytest.raises(ValueError, match=r'filled 18 of 30 .*layers\.1\.ln1\.weight'):
        runner.train()
    assert not hasattr(start, 'weights')


def test_load_from_does_not_bypass_it(make_runner, tmp_path):
    save_pretrained('energy', tmp_path / 'a.pth')
    runner, _ = make_runner(hook('none'), load_from=str(tmp_path / 'a.pth'))
    with pytest.raises(ValueError, match='load_from is set'):
        runner.train()


def test_a_resumed_run_keeps_its_weights_and_needs_no_checkpoint(make_runner, tmp_path):
    save_pretrained('energy', tmp_path / 'a.pth')
    runner, _ = make_runner(hook(tmp_path / 'a.pth'))
    runner.train()
    weights = runner.model.backbone.state_dict()
    (tmp_path / 'a.pth').unlink()
    resumed, start = make_runner(hook('none'), max_epochs=2, resume=True)
    resumed.train()
    assert start.iter == 2
    assert all(torch.equal(start.weights[k], v) for k, v in weights.items())


class TestFingerprint:
    def test_is_of_names_types_shapes_and_values(self, tmp_path):
        def of(state):
            torch.save(state, tmp_path / 'a.pth')
            return backbone_fingerprint(str(tmp_path / 'a.pth'))

        x = torch.arange(6.0)
        states = [
            dict(x=x),
            dict(y=x),
            dict(x=x.view(2, 3)),
            dict(x=x.view(torch.int32)),
            dict(x=x + torch.eye(6)[5]),
            dict(x=x, y=x),
            dict(x=x.bfloat16(), y=torch.tensor(True), z=torch.zeros(0)),
        ]
        assert len({of(state) for state in states}) == len(states)
        # the same, whatever else is in the file
        assert of(dict(x=x, y=x)) == of(
            dict(
                meta=dict(epoch=3),
                state_dict={'backbone.y': x, 'backbone.x': x, 'head.weight': x},
                optimizer=dict(state={}),
            )
        )
        # strided
        assert of(dict(x=x.view(2, 3).T)) == of(dict(x=x.view(2, 3).T.contiguous()))
