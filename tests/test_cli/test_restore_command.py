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
from tests.tools import exit_code
from tests.zero_head import SIZE, save_network, save_sorting


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


def test_folder_with_a_damaged_file(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['restore', checkpoint, str(photos), '--out', str(out)]) == 0
    captured = capsys.readouterr()
    assert 'broken.jpg' in captured.err
    assert '1 of 3 images could not be restored' in captured.err
    assert '2 restored' in captured.out
    for name in ('a.png', 'nested/b.png'):
        np.testing.assert_array_equal(read(out / f'{name}.restored.png'), read(photos / name))
    assert not (out / 'restored.csv').exists()
    assert main(['restore', checkpoint, str(photos / 'broken.jpg'), '--out', str(out)]) == 1


def test_finished_images_are_skipped(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / 'out'
    argv = ['restore', checkpoint, str(photos), '--out', str(out)]
    assert main(argv) == 0
    (out / 'a.png.restored.png').write_bytes(b'kept')
    (out / 'nested/b.png.restored.png').unlink()
    assert main(argv) == 0
    assert (out / 'a.png.restored.png').read_bytes() == b'kept'
    np.testing.assert_array_equal(
        read(out / 'nested/b.png.restored.png'), read(photos / 'nested/b.png')
    )
    assert exit_code(main, [*argv, '--upscale', '2']) == 2
    assert 'another upscale' in capsys.readouterr().err
    assert main([*argv, '--upscale', '2', '--overwrite']) == 0
    assert Image.open(out / 'a.png.restored.png').size == (80, 60)


def test_further_pictures(photos, tmp_path):
    save_network(tmp_path / 'random.pth', zero=False)
    argv = ['restore', str(tmp_path / 'random.pth'), str(photos / 'a.png'), '--out', str(tmp_path)]
    argv += ['--steps', '3', '--difference', '--strip', '--animation']
    for kind in ('webp', 'gif'):
        assert main([*argv, kind]) == 0
        animation = Image.open(tmp_path / f'a.png.animation.{kind}')
        assert animation.n_frames == 4
        assert animation.size == (40, 30)
    strip = read(tmp_path / 'a.png.strip.png')
    assert strip.shape[1] > 3 * strip.shape[0]
    difference = read(tmp_path / 'a.png.difference.png')
    assert difference.shape == (30, 40, 3)
    assert difference.std() > 10


def test_masks_by_name(checkpoint, photos, tmp_path, capsys):
    masks = tmp_path / 'masks'
    masks.mkdir()
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 5:20] = 255
    Image.fromarray(mask).save(masks / 'a.bmp')
    argv = ['restore', checkpoint, str(photos), '--out', str(tmp_path / 'out')]
    assert main([*argv, '--mask', str(masks)]) == 0
    error = capsys.readouterr().err
    assert f'nested/b.png: {masks} must hold one mask of that name, got 0' in error
    restored = read(tmp_path / 'out/a.png.restored.png')
    np.testing.assert_array_equal(restored[mask == 0], read(photos / 'a.png')[mask == 0])
    assert (restored[mask > 0] == (10, 20, 30)).all()
    Image.fromarray(mask.T.copy()).save(tmp_path / 'wrong.png')
    argv = ['restore', checkpoint, str(photos / 'a.png'), '--out', str(tmp_path / 'out2')]
    assert main([*argv, '--mask', str(tmp_path / 'wrong.png')]) == 1
    assert '30 × 40' in capsys.readouterr().err


def test_corruption_with_figures(checkpoint, photos, tmp_path, capsys):
    argv = ['restore', checkpoint, str(photos), '--out', str(tmp_path), '--corruption']
    assert main([*argv, 'GriddedMask', 'patch_size=4', 'ratio=0.5']) == 0
    rows = rows_of(tmp_path)
    assert set(rows) == {'a.png', 'nested/b.png'}
    for row in rows.values():
        assert row['corruption'] == 'GriddedMask'
        assert 5 < float(row['psnr']) == float(row['psnr_corrupted']) < 20
    assert 'mean of 2' in capsys.readouterr().out
    (tmp_path / 'a.png.restored.png').unlink()  # as if it had been interrupted: rows are kept
    assert main([*argv, 'GriddedMask', 'patch_size=4', 'ratio=0.5']) == 0
    assert set(rows_of(tmp_path)) == set(rows)
    again = [*argv[:2], str(photos / 'a.png'), *argv[3:], 'Colorization', '--overwrite']
    assert main(again) == 0
    assert [row['corruption'] for row in rows_of(tmp_path).values()] == ['Colorization']


def test_sorting(photos, tmp_path):
    save_sorting(tmp_path / 'sorting.pth')
    argv = ['restore', str(tmp_path / 'sorting.pth'), str(photos), '--out', str(tmp_path / 'out')]
    assert main([*argv, '--strip', '--steps', '2']) == 0
    for name, row in rows_of(tmp_path / 'out').items():
        assert 0 <= float(row['accuracy_shuffled']) < 1
        assert 0 <= float(row['accuracy']) <= 1
        assert Image.open(tmp_path / f'out/{name}.restored.png').size == (SIZE, SIZE)
        assert (tmp_path / f'out/{name}.strip.png').is_file()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--corruption', 'Blurr'], 'Blurr'),
        (['--corruption', 'SuperResolution', 'scale=0'], 'scale'),
        (['--corruption', 'SuperResolution', 'scale'], 'KEY=VALUE'),
        (['--steps', '-1'], '--steps'),
        (['--upscale', '0'], '--upscale'),
        (['--upscale', '2', '--colorize'], '--colorize'),
        (['--batch-size', '0'], '--batch-size'),
        (['--mask', 'none.png'], 'none.png'),
        (['--config', 'none.py'], 'none.py'),
    ],
)
def test_mistakes_exit_with_2(checkpoint, photos, tmp_path, capsys, options, message):
    argv = ['restore', checkpoint, str(photos), '--out', str(tmp_path), *options]
    assert exit_code(main, argv) == 2
    assert message in capsys.readouterr().err


def test_missing_files_and_foreign_checkpoints(checkpoint, photos, tmp_path, capsys):
    for network, images, message in (
        ('none.pth', photos, 'none.pth'),
        (checkpoint, tmp_path / 'none', 'no such image or folder'),
        (photos / 'a.png', photos, 'not a checkpoint'),
    ):
        argv = ['restore', str(network), str(images), '--out', str(tmp_path)]
        assert exit_code(main, argv) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['of values 0 and 1', 'erased', 'painted', 'of two greys'])
def test_what_a_person_means_by_a_mask(checkpoint, photos, tmp_path, kind):
    hidden = np.zeros((30, 40), bool)
    hidden[3:9, 5:20] = True
    photo = read(photos / 'a.png')
    pictures = {
        'of values 0 and 1': hidden.astype(np.uint8),
        'of two greys': np.where(hidden, 100, 20).astype(np.uint8),
        'erased': np.dstack([photo, 255 * ~hidden]).astype(np.uint8),
        'painted': np.dstack([*3 * [np.full_like(hidden, 90, np.uint8)], 255 * hidden]).astype(
            'u1'
        ),
    }
    Image.fromarray(pictures[kind]).save(tmp_path / 'mask.png')
    argv = ['restore', checkpoint, str(photos / 'a.png'), '--out', str(tmp_path)]
    assert main([*argv, '--mask', str(tmp_path / 'mask.png')]) == 0
    restored = read(tmp_path / 'a.png.restored.png')
    assert (restored[hidden] == (10, 20, 30)).all()
    np.testing.assert_array_equal(restored[~hidden], photo[~hidden])


def test_a_mask_that_hides_nothing_is_a_mistake(checkpoint, photos, tmp_path, capsys):
    Image.new('L', (40, 30)).save(tmp_path / 'mask.png')
    argv = ['restore', checkpoint, str(photos / 'a.png'), '--out', str(tmp_path)]
    assert main([*argv, '--mask', str(tmp_path / 'mask.png')]) == 1
    assert 'the mask hides nothing' in capsys.readouterr().err


def test_whatever_a_file_is_named_it_is_restored(checkpoint, photos, tmp_path):
    long, other = b'x' * 246 + b'0.png', b'x' * 246 + b'1.png'
    for name in (b'caf\xe9.png', long, other, 'ü'.encode() * 120 + b'.png'):
        shutil.copy(photos / 'a.png', os.fsencode(photos) + b'/' + name)
    argv = ['restore', checkpoint, str(photos), '--out', str(tmp_path / 'out'), '--strip']
    argv += ['--corruption', 'config']
    for _ in range(2):
        assert main(argv) == 0
    assert len(rows_of(tmp_path / 'out')) == 6
    assert 'caf\\udce9.png' in rows_of(tmp_path / 'out')
    assert len(list((tmp_path / 'out').glob('*.restored.png'))) == 5
    assert not list((tmp_path / 'out').rglob('.*'))


def test_a_file_that_cannot_be_written_is_one_line_and_the_rest_goes_on(
    checkpoint, photos, tmp_path, capsys
):
    (tmp_path / 'out/a.png.restored.png').mkdir(parents=True)
    (tmp_path / 'out/a.png.restored.png/full').touch()
    assert main(['restore', checkpoint, str(photos), '--out', str(tmp_path / 'out')]) == 0
    assert 'skipped: a.png: ' in capsys.readouterr().err
    assert (tmp_path / 'out/nested/b.png.restored.png').is_file()


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
