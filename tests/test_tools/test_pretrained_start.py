"""tools/train.py and PRETRAINED: which runs may be resumed, which work dirs may be reused."""

import pytest
import torch

from mmebm.utils.checkpoint import load_checkpoint_safely
from tests.pretrained import CLASSIFIER, save_pretrained
from tests.tools import load_tool, write_images

CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmebm'], allow_failed_imports=False)
model = {model}
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


@pytest.fixture
def run(tmp_path, monkeypatch, request, tool_process):
    """Train with a given PRETRAINED in tmp_path, for two iterations per epoch."""
    save_pretrained('energy', tmp_path / 'a.pth')
    save_pretrained('mae', tmp_path / 'b.pth')
    for name in ('cat', 'dog'):
        write_images(tmp_path / 'images' / name, 1, side=32)
    text = CONFIG.format(model=CLASSIFIER, images=str(tmp_path / 'images'))
    monkeypatch.chdir(tmp_path)
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
    """The error that stops the tool before anything is built."""

    def error(*arguments, **options):
        with pytest.raises(SystemExit):
            run(*arguments, **options)
        return capsys.readouterr().err

    return error


def record(epoch, work_dir='work'):
    meta = load_checkpoint_safely(f'{work_dir}/epoch_{epoch}.pth')['meta']
    return meta.get('pretrained_backbone')


def test_a_resumed_run_needs_the_file_no_more(run, refused, tmp_path):
    assert 'PRETRAINED' in refused(None, '--resume')
    assert 'gone.pth does not exist' in refused('gone.pth', '--resume')
    run('a.pth', '--resume')  # from nothing
    assert record(1)['checkpoint'] == 'a.pth'
    (tmp_path / 'a.pth').unlink()
    assert 'gone.pth does not exist' in refused('gone.pth', '--resume', *TWO)
    run('a.pth', '--resume', *TWO)
    run(None, '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert load_checkpoint_safely('work/epoch_3.pth')['meta']['iter'] == 6
    assert record(1) == record(2) == record(3)


@pytest.mark.parametrize('by', ['auto', 'path'])
def test_a_run_is_not_resumed_with_another(run, refused, by, tmp_path):
    run('a.pth')
    path = ['work/epoch_1.pth'] if by == 'path' else []
    place = 'elsewhere' if by == 'path' else 'work'
    line = refused('b.pth', '--resume', *path, *TWO, work_dir=place)
    assert 'PRETRAINED=a.pth' in line
    assert 'PRETRAINED=b.pth' in line
    checkpoint = load_checkpoint_safely('a.pth')
    checkpoint['state_dict']['backbone.cls_token'][0, 0, 0] += 1
    torch.save(checkpoint, tmp_path / 'a.pth')  # another network under the same name
    assert refused('a.pth', '--resume', *path, *TWO, work_dir=place).count('PRETRAINED=a.pth') == 2


def test_a_run_that_began_from_another_is_not_overwritten(run, refused, tmp_path):
    run('a.pth')
    before = (tmp_path / 'work/epoch_1.pth').read_bytes()
    assert 'would be overwritten' in refused('b.pth')
    run('b.pth', work_dir='elsewhere')
    for pretrained in ('b.pth', None):
        line = refused(pretrained, '--resume', 'elsewhere/epoch_1.pth', *TWO)
        assert 'work began from PRETRAINED=a.pth' in line
    assert (tmp_path / 'work/epoch_1.pth').read_bytes() == before
    (tmp_path / 'work/epoch_1.pth').write_bytes(b'PK\x03\x04')
    assert 'epoch_1.pth is damaged' in refused('a.pth')
    (tmp_path / 'work/epoch_1.pth').unlink()
    run('b.pth')
    checkpoint = load_checkpoint_safely('work/epoch_1.pth')
    del checkpoint['meta']['pretrained_backbone']  # as before the record existed
    torch.save(checkpoint, 'work/epoch_1.pth')
    run('a.pth', '--resume', *TWO)
    assert record(2) is None
