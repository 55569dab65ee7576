"""The quickstart, shortened, on a folder with a broken file; then restore.py on its checkpoint."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tools import exit_code, load_tool

RESTORE = 'visualization/restore'

pytestmark = pytest.mark.slow  # they share a checkpoint that is trained first


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('my photos')
    rng = np.random.default_rng(0)
    (folder / 'nested').mkdir()
    for name, size in (('a.png', (200, 160)), ('nested/b.jpg', (90, 300)), ('tiny.bmp', (5, 4))):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(folder / name)
    (folder / 'broken.jpg').write_text('not an image')
    return folder


@pytest.fixture(scope='module')
def trained(photos, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('work')
    argv = ['--data', str(photos), '--work-dir', str(work_dir), '--cfg-options']
    argv += ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=4']
    argv += ['samples_per_epoch=4', 'train_dataloader.num_workers=0']
    argv += ['train_dataloader.persistent_workers=False']
    argv += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False']
    assert load_tool('quickstart').main(argv) == 0
    return work_dir


def test_quickstart_draws_and_saves(trained):
    picture = np.asarray(Image.open(trained / 'restored.png'))
    assert picture.std() > 10
    assert (trained / 'epoch_1.pth').is_file()
    held_out = [p.name for p in (trained / 'photos/held_out').iterdir()]
    assert {name.split('_')[1] for name in held_out} == {'a', 'b', 'tiny'}


@pytest.mark.parametrize(('count', 'said'), [(1, True), (39, True), (40, False)])
def test_quickstart_says_when_images_are_too_few(tmp_path, monkeypatch, capsys, count, said):
    quickstart = load_tool('quickstart')
    for i in range(count):
        Image.new('RGB', (8, 8)).save(tmp_path / f'{i}.png')

    def stop(*arguments):
        raise ValueError('far enough')

    monkeypatch.setattr(quickstart, 'prepare', stop)
    assert (
        exit_code(quickstart.main, ['--data', str(tmp_path), '--work-dir', str(tmp_path / 'work')])
        == 2
    )
    output = capsys.readouterr().out
    assert ('too few to hold any out' in output) == said
    assert ('From 40 images on, every tenth is held out' in output) == said


def test_quickstart_on_a_missing_or_empty_folder(tmp_path, capsys):
    quickstart = load_tool('quickstart')
    assert exit_code(quickstart.main, ['--data', str(tmp_path / 'none')]) == 2
    assert 'none' in capsys.readouterr().err
    assert exit_code(quickstart.main, ['--data', str(tmp_path)]) == 2
    assert 'no image' in capsys.readouterr().err


def test_restore_a_folder_with_a_broken_file(trained, photos, tmp_path, capsys):
    argv = [str(trained / 'epoch_1.pth'), str(photos), '--out-dir', str(tmp_path)]
    assert load_tool(RESTORE).main(argv) == 0
    captured = capsys.readouterr()
    assert 'broken.jpg' in captured.err
    assert '1 of 4 images could not be read' in captured.err
    for name in ('a.png', 'nested/b.jpg', 'tiny.bmp'):
        assert (tmp_path / f'{name}.chain.png').is_file()
        assert Image.open(tmp_path / f'{name}.restored.png').size == (48, 48)


def test_restore_with_a_named_corruption_or_none(trained, photos, tmp_path):
    restore = load_tool(RESTORE)
    base = [str(trained / 'epoch_1.pth'), str(photos / 'a.png'), '--out-dir', str(tmp_path)]
    options = ['--corruption', 'GriddedMask', '--corruption-options', 'patch_size=8', 'ratio=0.5']
    assert restore.main(base + options) == 0
    assert restore.main([*base, '--corruption', 'none', '--num-steps', '1']) == 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--corruption', 'Blurr'], 'Blurr'),
        (['--corruption', 'SuperResolution', '--corruption-options', 'scale=0'], 'scale'),
    ],
)
def test_restore_refuses_a_wrong_corruption(trained, photos, capsys, options, message):
    assert load_tool(RESTORE).main([str(trained / 'epoch_1.pth'), str(photos), *options]) == 2
    assert message in capsys.readouterr().err


def test_restore_refuses_other_checkpoints(trained, photos, tmp_path, capsys):
    restore = load_tool(RESTORE)
    state = torch.load(trained / 'epoch_1.pth', weights_only=False)
    del state['state_dict']['head.fc.weight']
    other = tmp_path / 'other.pth'
    torch.save(dict(meta=state['meta'], state_dict=state['state_dict']), other)
    assert restore.main([str(other), str(photos)]) == 2
    assert '1 missing in the file: head.fc.weight' in capsys.readouterr().err
    torch.save(dict(state_dict={}), other)
    assert restore.main([str(other), str(photos)]) == 2
    assert 'no config' in capsys.readouterr().err
    torch.save(dict(meta=dict(cfg='import os'), state_dict={}), other)
    assert restore.main([str(other), str(photos)]) == 2
    assert 'code that is not run' in capsys.readouterr().err
    torch.save(dict(meta=dict(cfg="model = dict(type='os.system')"), state_dict={}), other)
    assert restore.main([str(other), str(photos)]) == 2
    assert 'os.system' in capsys.readouterr().err


def test_restore_needs_two_or_three_paths():
    with pytest.raises(SystemExit) as error:
        load_tool(RESTORE).main(['only.pth'])
    assert error.value.code == 2
