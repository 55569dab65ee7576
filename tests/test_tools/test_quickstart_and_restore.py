"""The quickstart, shortened, on a folder with a broken file."""

import numpy as np
import pytest
from PIL import Image

from tests.tools import exit_code, load_tool

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
