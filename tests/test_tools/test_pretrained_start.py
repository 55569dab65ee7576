"""tools/train.py and PRETRAINED: which runs may be resumed, which work dirs may be reused."""

import shutil

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader
from PIL import Image

from mmebm.utils.checkpoint import load_checkpoint_safely
from tests.pretrained import ARCH, save_pretrained
from tests.tools import load_tool

CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmebm'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer', arch={arch}, img_size=32, patch_size=8,
        out_type='avg_featmap', final_norm=False,
    ),
    head=dict(
        type='LinearClsHead', num_classes=2, in_channels=16, loss=dict(type='CrossEntropyLoss')),
)
train_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageFolder', data_root={images!r}, with_label=True, serialize_data=False,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1),
    pretrained_backbone=dict(
        type='PretrainedBackboneHook', checkpoint='{{{{$PRETRAINED:none}}}}'),
)
"""
TWO = ('--cfg-options', 'train_cfg.max_epochs=2')
train = load_tool('train')


@pytest.fixture(scope='module')
def templates(tmp_path_factory):
    """A folder of two images, and two pretrained checkpoints of one network."""
    folder = tmp_path_factory.mktemp('templates')
    for i, name in enumerate(('cat', 'dog')):
        (folder / 'images' / name).mkdir(parents=True)
        image = Image.fromarray(np.full((32, 32, 3), 40 * i, np.uint8))
        image.save(folder / 'images' / name / '0.png')
    save_pretrained('energy', folder / 'a.pth')
    save_pretrained('mae', folder / 'b.pth')
    return folder


@pytest.fixture
def run(templates, tmp_path, monkeypatch, request):
    """Train with a given PRETRAINED in tmp_path, for two iterations per epoch."""
    for name in ('a.pth', 'b.pth'):
        shutil.copy(templates / name, tmp_path)
    text = CONFIG.format(arch=ARCH, images=str(templates / 'images'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    # yapf formats the config five times per run, which takes longer than the training
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())
    number = 0

    def train_with(pretrained, *arguments, work_dir='work'):
        nonlocal number
        number += 1  # MMEngine keeps one logger per name and second
        config = tmp_path / 'finetune.py'
        config.write_text(f'{text}experiment_name = {f"{request.node.name} {number}"!r}\n')
        if pretrained is None:
            monkeypatch.delenv('PRETRAINED', raising=False)
        else:
            monkeypatch.setenv('PRETRAINED', str(pretrained))
        train.main([str(config), '--work-dir', work_dir, *arguments])

    return train_with


@pytest.fixture
def refused(run, capsys):
    """The one line of an error that stops the tool before anything is built."""

    def error(*arguments, **options):
        with pytest.raises(SystemExit) as raised:
            run(*arguments, **options)
        assert raised.value.code == 2
        (line,) = (x for x in capsys.readouterr().err.splitlines() if 'error: ' in x)
        return line

    return error


def record(epoch, work_dir='work'):
    meta = load_checkpoint_safely(f'{work_dir}/epoch_{epoch}.pth')['meta']
    return meta.get('pretrained_backbone')


def forget(path):
    """Turn a checkpoint into one from before the record existed."""
    checkpoint = load_checkpoint_safely(path)
    del checkpoint['meta']['pretrained_backbone']
    torch.save(checkpoint, path)


def logs(folder):
    return ''.join(file.read_text() for file in sorted(folder.rglob('*.log')))


@pytest.mark.parametrize('again', ['a.pth', None])
def test_a_resumed_run_continues(run, again):
    run('a.pth')
    assert load_checkpoint_safely('work/epoch_1.pth')['meta']['iter'] == 2
    assert record(1)['checkpoint'] == 'a.pth'
    run(again, '--resume', *TWO)
    assert load_checkpoint_safely('work/epoch_2.pth')['meta']['iter'] == 4
    assert record(2) == record(1)  # even if the run that saved it was given none


def test_the_same_weights_in_another_place_and_format(run, tmp_path):
    run('a.pth')
    (tmp_path / 'b.pth').unlink()
    state = load_checkpoint_safely('a.pth')['state_dict']
    backbone = {k: v for k, v in state.items() if k.startswith('backbone.')}
    torch.save(dict(reversed(backbone.items())), tmp_path / 'published.pth')
    (tmp_path / 'a.pth').rename(tmp_path / 'moved.pth')
    run('moved.pth', '--resume', *TWO)
    assert record(2) == record(1)
    run('published.pth', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert record(3) == record(1)


def test_a_resumed_run_no_longer_needs_the_file(run, refused, tmp_path):
    run('a.pth')
    (tmp_path / 'a.pth').unlink()
    assert 'gone.pth does not exist' in refused('gone.pth', '--resume', *TWO)
    run('a.pth', '--resume', *TWO)
    assert record(2) == record(1)


@pytest.mark.parametrize('by', ['auto', 'path'])
def test_a_run_is_not_resumed_with_another(run, refused, by):
    run('a.pth')
    path = ['work/epoch_1.pth'] if by == 'path' else []
    place = 'elsewhere' if by == 'path' else 'work'
    error = refused('b.pth', '--resume', *path, *TWO, work_dir=place)
    assert 'the resumed run began from PRETRAINED=a.pth (weights ' in error
    assert 'but PRETRAINED=b.pth (weights ' in error
    assert 'has changed' not in error
    assert 'resume without PRETRAINED, or start another run with a --work-dir of its own' in error


def test_a_run_is_not_resumed_with_another_file_of_the_same_name(run, refused, tmp_path):
    run('a.pth')
    shutil.copy(tmp_path / 'b.pth', tmp_path / 'a.pth')
    error = refused('a.pth', '--resume', *TWO)
    assert error.count('PRETRAINED=a.pth') == 2
    assert 'which has changed since is given' in error


def test_one_changed_number_is_another_network(run, refused, tmp_path):
    run('a.pth')
    checkpoint = load_checkpoint_safely('a.pth')
    checkpoint['state_dict']['backbone.cls_token'][0, 0, 0] += 1
    torch.save(checkpoint, tmp_path / 'b.pth')
    assert 'but PRETRAINED=b.pth' in refused('b.pth', '--resume', *TWO)


def test_a_checkpoint_without_a_record_cannot_be_checked(run, tmp_path):
    run('a.pth')
    forget('work/epoch_1.pth')
    run('b.pth', '--resume', *TWO)
    said = 'does not record which PRETRAINED its run began from: it cannot be checked'
    assert logs(tmp_path / 'work').count(said) == 1
    assert record(2) is None
    run(None, '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert logs(tmp_path / 'work').count(said) == 1


def test_resuming_from_nothing_starts_anew(run, refused):
    assert 'no checkpoint is given: set the environment' in refused(None, '--resume')
    assert 'gone.pth does not exist' in refused('gone.pth', '--resume')
    run('a.pth', '--resume')
    assert record(1)['checkpoint'] == 'a.pth'


class TestWorkDirs:
    def test_a_run_that_began_from_another_is_not_overwritten(self, run, refused):
        run('a.pth')
        before = load_checkpoint_safely('work/epoch_1.pth')['state_dict']
        error = refused('b.pth')
        assert 'the run in work began from PRETRAINED=a.pth (weights ' in error
        assert 'would be overwritten by one from PRETRAINED=b.pth' in error
        assert '--work-dir, or continue the old run with --resume' in error
        after = load_checkpoint_safely('work/epoch_1.pth')['state_dict']
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        run('b.pth', work_dir='elsewhere')

    def test_nor_by_a_run_resumed_from_another_place(self, run, refused):
        run('a.pth')
        run('b.pth', work_dir='elsewhere')
        for pretrained in ('b.pth', None):
            error = refused(pretrained, '--resume', 'elsewhere/epoch_1.pth', *TWO)
            assert 'the run in work began from PRETRAINED=a.pth' in error

    def test_the_same_run_may_be_repeated(self, run, tmp_path):
        run('a.pth')
        (tmp_path / 'a.pth').rename(tmp_path / 'moved.pth')
        run('moved.pth')
        assert record(1)['checkpoint'] == 'moved.pth'

    def test_a_run_without_a_record_or_without_its_checkpoint_is_no_obstacle(self, run, tmp_path):
        run('a.pth')
        forget('work/epoch_1.pth')
        run('b.pth')
        (tmp_path / 'work' / 'epoch_1.pth').unlink()
        run('a.pth')
        assert record(1)['checkpoint'] == 'a.pth'

    def test_a_run_that_cannot_be_read_is_not_overwritten(self, run, refused, tmp_path):
        run('a.pth')
        (tmp_path / 'work' / 'epoch_1.pth').write_bytes(b'PK\x03\x04')
        error = refused('a.pth')
        assert 'the run in work would be overwritten, and it cannot be checked which: ' in error
        assert 'epoch_1.pth is damaged' in error
        assert 'Name another folder with --work-dir' in error
