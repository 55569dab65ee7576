"""``mmebm restore`` from a command line to files."""

import csv

import numpy as np
import pytest
from PIL import Image

from mmebm.cli.main import main
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


def test_folder_with_a_damaged_file(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['restore', checkpoint, str(photos), '--out', str(out)]) == 0
    captured = capsys.readouterr()
    assert 'broken.jpg' in captured.err
    assert '1 of 3 images could not be restored' in captured.err
    assert '2 restored' in captured.out
    for name in ('a.png', 'nested/b.png'):
        np.testing.assert_array_equal(read(out / f'{name}.restored.png'), read(photos / name))


def test_only_damaged_files(checkpoint, photos, tmp_path):
    assert main(['restore', checkpoint, str(photos / 'broken.jpg'), '--out', str(tmp_path)]) == 1


def test_finished_images_are_skipped(checkpoint, photos, tmp_path, capsys):
    out = tmp_path / 'out'
    argv = ['restore', checkpoint, str(photos), '--out', str(out)]
    assert main(argv) == 0
    (out / 'a.png.restored.png').write_bytes(b'kept')
    (out / 'nested/b.png.restored.png').unlink()
    assert main(argv) == 0
    assert '1 of 3 images are done already' in capsys.readouterr().err
    assert (out / 'a.png.restored.png').read_bytes() == b'kept'
    np.testing.assert_array_equal(
        read(out / 'nested/b.png.restored.png'), read(photos / 'nested/b.png')
    )
    assert exit_code(main, [*argv, '--upscale', '2']) == 2
    assert 'another upscale' in capsys.readouterr().err
    assert main([*argv, '--upscale', '2', '--overwrite']) == 0
    assert Image.open(out / 'a.png.restored.png').size == (80, 60)


def test_further_pictures(checkpoint, photos, tmp_path):
    argv = ['restore', checkpoint, str(photos / 'a.png'), '--out', str(tmp_path), '--steps', '3']
    assert main([*argv, '--strip', '--animation', 'gif', '--difference']) == 0
    strip = read(tmp_path / 'a.png.strip.png')
    assert strip.shape[1] > 3 * strip.shape[0]
    assert Image.open(tmp_path / 'a.png.animation.gif').size == (40, 30)
    assert Image.open(tmp_path / 'a.png.difference.png').size == (40, 30)
    assert (
        read(tmp_path / 'a.png.difference.png') == read(tmp_path / 'a.png.difference.png')[0, 0]
    ).all()
    assert main([*argv, '--animation', 'webp']) == 0
    assert (tmp_path / 'a.png.animation.webp').is_file()


def test_the_animation_shows_every_step(photos, tmp_path):
    save_network(tmp_path / 'random.pth', zero=False)
    argv = ['restore', str(tmp_path / 'random.pth'), str(photos / 'a.png'), '--out', str(tmp_path)]
    assert main([*argv, '--steps', '3', '--animation', 'webp', '--difference']) == 0
    assert Image.open(tmp_path / 'a.png.animation.webp').n_frames == 4
    assert read(tmp_path / 'a.png.difference.png').std() > 10


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
    wrong = tmp_path / 'wrong.png'
    Image.fromarray(mask.T.copy()).save(wrong)
    argv = ['restore', checkpoint, str(photos / 'a.png'), '--out', str(tmp_path / 'out2')]
    assert main([*argv, '--mask', str(wrong)]) == 1
    assert '30 × 40' in capsys.readouterr().err


def test_corruption_with_figures(checkpoint, photos, tmp_path, capsys):
    argv = ['restore', checkpoint, str(photos), '--out', str(tmp_path), '--corruption']
    assert main([*argv, 'GriddedMask', 'patch_size=4', 'ratio=0.5']) == 0
    with open(tmp_path / 'restored.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['image'] for row in rows} == {'a.png', 'nested/b.png'}
    assert all(row['corruption'] == 'GriddedMask' for row in rows)
    assert all(5 < float(row['psnr']) < 20 for row in rows)
    assert 'mean of 2' in capsys.readouterr().err
    again = [*argv[:2], str(photos / 'a.png'), *argv[3:], 'Colorization', '--overwrite']
    assert main(again) == 0
    with open(tmp_path / 'restored.csv', newline='') as file:
        assert [row['corruption'] for row in csv.DictReader(file)] == ['Colorization']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--corruption', 'Blurr'], 'Blurr'),
        (['--corruption', 'SuperResolution', 'scale=0'], 'scale'),
        (['--corruption', 'SuperResolution', 'scale'], 'KEY=VALUE'),
        (['--steps', '-1'], '--steps'),
        (['--upscale', '0'], '--upscale'),
        (['--batch-size', '0'], '--batch-size'),
        (['--mask', 'none.png'], 'none.png'),
        (['--config', 'none.py'], 'none.py'),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(
    checkpoint, photos, tmp_path, capsys, options, message
):
    assert (
        exit_code(main, ['restore', checkpoint, str(photos), '--out', str(tmp_path), *options]) == 2
    )
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_missing_files_and_foreign_checkpoints(checkpoint, photos, tmp_path, capsys):
    out = ['--out', str(tmp_path)]
    assert exit_code(main, ['restore', 'none.pth', str(photos), *out]) == 2
    assert 'none.pth' in capsys.readouterr().err
    assert exit_code(main, ['restore', checkpoint, str(tmp_path / 'none'), *out]) == 2
    assert 'no such image or folder' in capsys.readouterr().err
    assert exit_code(main, ['restore', str(photos / 'a.png'), str(photos), *out]) == 2
    assert 'not a checkpoint' in capsys.readouterr().err


@pytest.mark.parametrize('argv', [[], ['restore'], ['restore', 'a', 'b'], ['nothing']])
def test_wrong_arguments(argv):
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert raised.value.code == 2


def test_one_damage_at_a_time(checkpoint, photos):
    with pytest.raises(SystemExit) as raised:
        main(['restore', checkpoint, str(photos), '--out', 'x', '--upscale', '2', '--colorize'])
    assert raised.value.code == 2


def test_help(capsys):
    with pytest.raises(SystemExit) as raised:
        main(['restore', '--help'])
    assert raised.value.code == 0
    assert '--upscale' in capsys.readouterr().out
