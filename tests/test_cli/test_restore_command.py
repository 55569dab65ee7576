"""``mmebm restore`` from a command line to files."""

import csv
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmebm.cli.main import main
from mmebm.datasets import find_images
from tests.tools import exit_code
from tests.zero_head import save_network


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'zero.pth'
    save_network(path)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    (folder / 'nested').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (('a.png', (40, 30)), ('nested/b.png', (9, 21))):
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / 'broken.jpg').write_text('no image')
    return folder


def read(path):
    return np.asarray(Image.open(path))


def rows_of(folder):
    with open(folder / 'restored.csv', newline='', encoding='utf-8') as file:
        return {row['image']: row for row in csv.DictReader(file)}


def restore(network, images, out, *options):
    return exit_code(main, ['restore', str(network), str(images), '--out', str(out), *options])


def test_a_folder_with_a_damaged_file_then_again(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / 'out'
    assert restore(checkpoint, photos, out) == 0
    captured = capsys.readouterr()
    assert 'broken.jpg' in captured.err
    assert '2 restored, 1 skipped' in captured.out
    for name in ('a.png', 'nested/b.png'):
        np.testing.assert_array_equal(read(out / f'{name}.restored.png'), read(photos / name))
    assert not (out / 'restored.csv').exists()
    assert restore(checkpoint, photos / 'broken.jpg', out) == 1
    # what is done is kept, and not mixed with results of other options
    (out / 'a.png.restored.png').write_bytes(b'kept')
    (out / 'nested/b.png.restored.png').unlink()
    assert restore(checkpoint, photos, out) == 0
    assert (out / 'a.png.restored.png').read_bytes() == b'kept'
    assert (out / 'nested/b.png.restored.png').is_file()
    assert restore(checkpoint, photos, out, '--upscale', '2') == 2
    assert 'another upscale' in capsys.readouterr().err
    assert restore(checkpoint, photos, out, '--upscale', '2', '--overwrite') == 0
    assert Image.open(out / 'a.png.restored.png').size == (80, 60)


def test_further_pictures(photos, tmp_path):
    save_network(tmp_path / 'random.pth', zero=False)
    for kind in ('webp', 'gif'):
        options = ['--steps', '3', '--strip', '--animation', kind]
        assert restore(tmp_path / 'random.pth', photos / 'a.png', tmp_path, *options) == 0
        animation = Image.open(tmp_path / f'a.png.animation.{kind}')
        assert (animation.n_frames, animation.size) == (4, (40, 30))
    strip = read(tmp_path / 'a.png.strip.png')
    assert strip.shape[1] > 3 * strip.shape[0]


def test_masks_by_name(checkpoint, photos, tmp_path, capsys):
    (tmp_path / 'masks').mkdir()
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 5:20] = 255
    Image.fromarray(mask).save(tmp_path / 'masks/a.bmp')
    out = tmp_path / 'out'
    assert restore(checkpoint, photos, out, '--mask', str(tmp_path / 'masks')) == 0
    assert 'must hold one mask of that name, got 0' in capsys.readouterr().err
    restored = read(out / 'a.png.restored.png')
    np.testing.assert_array_equal(restored[mask == 0], read(photos / 'a.png')[mask == 0])
    assert (restored[mask > 0] == (10, 20, 30)).all()
    for wrong, message in ((mask.T, '30 × 40'), (0 * mask, 'the mask hides nothing')):
        Image.fromarray(wrong.copy()).save(tmp_path / 'wrong.png')
        options = ['--mask', str(tmp_path / 'wrong.png'), '--overwrite']
        assert restore(checkpoint, photos / 'a.png', out, *options) == 1
        assert message in capsys.readouterr().err


def test_corruption_with_figures(checkpoint, photos, tmp_path):
    corruption = ['--corruption', 'GriddedMask', 'patch_size=4', 'ratio=0.5']
    assert restore(checkpoint, photos, tmp_path, *corruption) == 0
    rows = rows_of(tmp_path)
    assert set(rows) == {'a.png', 'nested/b.png'}
    for row in rows.values():
        assert row['corruption'] == 'GriddedMask'
        assert 5 < float(row['psnr']) == float(row['psnr_corrupted']) < 20
    (tmp_path / 'a.png.restored.png').unlink()  # as if it had been interrupted: rows are kept
    assert restore(checkpoint, photos, tmp_path, *corruption) == 0
    assert set(rows_of(tmp_path)) == set(rows)
    corruption = ['--corruption', 'Colorization', '--overwrite']
    assert restore(checkpoint, photos / 'a.png', tmp_path, *corruption) == 0
    assert [row['corruption'] for row in rows_of(tmp_path).values()] == ['Colorization']


def test_whatever_a_file_is_named_it_is_restored_and_no_result_is(checkpoint, photos):
    names = [b'x' * 246 + b'0.png', b'x' * 246 + b'1.png', 'ü'.encode() * 120 + b'.png']
    for name in (b'caf\xe9.png', b'mine.restored.png', *names):
        shutil.copy(photos / 'a.png', os.fsencode(photos) + b'/' + name)
    options = ['--strip', '--animation', 'webp', '--corruption', 'config']
    for out in (photos / 'out', photos / 'out', photos, photos / 'out/again'):
        assert restore(checkpoint, photos, out, *options) == 0
        assert len(rows_of(out)) == 7
        assert 'caf\\udce9.png' in rows_of(out)
        assert len(list((out).glob('*.restored.png'))) == 6 + (out == photos)
        assert len(list((out / 'nested').glob('*.png*'))) == 3 + (out == photos)
    assert len(find_images(photos)[0]) == 8
    assert not list(photos.rglob('.*'))


def test_a_file_that_cannot_be_written_is_one_line_and_the_rest_goes_on(
    checkpoint, photos, tmp_path, capsys
):
    out = tmp_path / os.fsdecode(b'\xe9')
    (out / 'a.png.restored.png/full').mkdir(parents=True)
    assert restore(checkpoint, photos, out) == 0
    captured = capsys.readouterr()
    assert 'skipped: a.png: ' in captured.err
    assert '1 restored, 2 skipped' in captured.out
    assert (out / 'nested/b.png.restored.png').is_file()


def test_the_network_that_comes_with_mmebm(checkpoint, photos, tmp_path, capsys, monkeypatch):
    argv = ['restore', str(photos), '--out', str(tmp_path / 'out')]
    monkeypatch.setattr('mmebm.restorer.restorer.NETWORK', tmp_path)
    assert exit_code(main, argv) == 2
    assert 'name a CHECKPOINT' in capsys.readouterr().err
    state = torch.load(checkpoint, weights_only=False)
    (tmp_path / 'config.py').write_text(state['meta']['cfg'], encoding='utf-8')
    half = {k: v.half() for k, v in state['state_dict'].items()}
    save_file(half, tmp_path / 'network.safetensors')
    assert main(argv) == 0
    np.testing.assert_array_equal(read(tmp_path / 'out/a.png.restored.png'), read(photos / 'a.png'))
