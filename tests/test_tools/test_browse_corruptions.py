"""Both tools for corruptions: pictures from the loader of a config, and costs."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tools import exit_code, load_tool

BROWSE = 'visualization/browse_corruptions'

CONFIG = """
custom_imports = dict(imports=['mmebm'], allow_failed_imports=False)
randomness = dict(seed=0)
model = dict(data_preprocessor=dict(type='SelfSupDataPreprocessor', to_rgb=True))
corruption = dict(type='GriddedMask', patch_size=4, ratio=1, fill=(0, 0, 255))
train_dataloader = dict(
    dataset=dict(
        type='ImageFolder',
        data_root={folder!r},
        pipeline=[
            dict(type='LoadImageFromFile'),
            corruption,
            dict(type='PackInputs', meta_keys=('sample_idx', 'corruption')),
        ],
    )
)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with five red images of 30 x 40 pixels."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for i in range(5):
        Image.new('RGB', (40, 30), (250, 0, 0)).save(folder / f'{i}.jpg', quality=95)
    return folder


@pytest.fixture
def config(tmp_path, folder):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(folder=str(folder)))
    return str(path)


def test_browse_draws_pairs_from_the_loader(config, tmp_path, capsys):
    output = tmp_path / 'new' / 'pairs.png'
    load_tool(BROWSE).main([config, '--num', '4', '--output', str(output)])
    assert '4 of 5 images of the train set' in capsys.readouterr().out
    pixels = np.asarray(Image.open(output).convert('RGB')).reshape(-1, 3).astype(int)
    red = (np.abs(pixels - [250, 0, 0]) < 8).all(axis=1).mean()
    blue = (np.abs(pixels - [0, 0, 255]) < 8).all(axis=1).mean()
    assert red == pytest.approx(blue, rel=0.05)  # left half clean, right half blank: RGB restored
    assert red > 0.2


def test_browse_of_more_images_than_there_are(config, tmp_path, capsys):
    output = tmp_path / 'pairs.png'
    load_tool(BROWSE).main([config, '--num', '50', '--output', str(output)])
    assert '5 of 5 images' in capsys.readouterr().out


def test_browse_with_cfg_options(config, tmp_path):
    output = tmp_path / 'pairs.png'
    options = ['train_dataloader.dataset.pipeline.1.ratio=0']
    load_tool(BROWSE).main([config, '--output', str(output), '--cfg-options', *options])
    pixels = np.asarray(Image.open(output).convert('RGB')).reshape(-1, 3).astype(int)
    assert (np.abs(pixels - [0, 0, 255]) < 8).all(axis=1).sum() == 0


def test_browse_draws_values_outside_the_range_clipped():
    browse = load_tool(BROWSE)
    clean = np.full((8, 8, 3), 100, np.uint8)
    noisy = np.where(np.arange(8)[:, None, None] < 4, np.float32(-90), np.float32(400))
    figure = browse.draw([(clean, np.broadcast_to(noisy, (8, 8, 3)), 'GaussianNoise')] * 4)
    assert len(figure.axes) == 6  # two rows of three, the last two left empty
    assert [axis.get_title() for axis in figure.axes] == ['clean | GaussianNoise'] * 4 + [''] * 2
    picture = figure.axes[0].images[0].get_array()
    assert (picture[:4, 8:] == 0).all()
    assert (picture[4:, 8:] == 255).all()
    assert (picture[:, :8] == 100).all()


def test_browse_adds_the_noise_left_to_the_device(config):
    """The noisy image as the model sees it: red, in the loader's order BGR, moved to the mean."""
    from mmengine import Config

    browse = load_tool(BROWSE)
    cfg = Config.fromfile(config)
    noise = dict(type='GaussianNoise', gamma_range=(0.25, 0.25), on_device=True)
    cfg.train_dataloader.dataset.pipeline[1] = noise
    preprocessor = dict(
        type='RestorationDataPreprocessor', mean=[100, 60, 20], std=[1, 2, 3], to_rgb=True
    )
    clean, corrupted, name = browse.load_pair(browse.build_dataset(cfg, 'train'), 0, preprocessor)
    assert name == 'GaussianNoise'
    np.testing.assert_allclose(clean.mean((0, 1)), [0, 0, 250], atol=4)
    expected = 0.5 * clean.mean((0, 1)) + 0.5 * np.array([20, 60, 100])
    np.testing.assert_allclose(corrupted.mean((0, 1)), expected, atol=0.5)
    np.testing.assert_allclose(
        (corrupted - 0.5 * clean).std((0, 1)), 0.75**0.5 * np.array([3, 2, 1]), rtol=0.1
    )


def test_browse_without_corruption(config, tmp_path, capsys):
    Path(config).write_text(Path(config).read_text().replace('            corruption,\n', ''))
    assert exit_code(load_tool(BROWSE).main, [config, '--output', str(tmp_path / 'pairs.png')]) == 2
    assert re.search(r"not corrupted, or .* is lost.*'PackInputs'", capsys.readouterr().err)
    assert not (tmp_path / 'pairs.png').exists()


def test_browse_without_loader(config, capsys):
    assert exit_code(load_tool(BROWSE).main, [config, '--split', 'val']) == 2
    assert 'config.py has no val_dataloader' in capsys.readouterr().err


def test_browse_of_no_images(config, capsys):
    with pytest.raises(SystemExit):
        load_tool(BROWSE).main([config, '--num', '0'])
    assert '--num must be >= 1, got 0' in capsys.readouterr().err


@pytest.mark.slow
def test_benchmark_writes_the_table_it_prints(folder, tmp_path, capsys, monkeypatch):
    benchmark = load_tool('benchmarks/benchmark_corruptions')
    names = ['GriddedMask 16, 50 %', 'GaussianNoise', 'MixedCorruption, float32']
    monkeypatch.setattr(benchmark, 'CORRUPTIONS', {n: benchmark.CORRUPTIONS[n] for n in names})
    monkeypatch.setattr(benchmark, 'BATCHES', 1)
    monkeypatch.setattr(benchmark, 'BATCH_SIZE', 4)
    output = tmp_path / 'costs.md'
    benchmark.main([str(folder), '--repeats', '1', '--output', str(output)])
    printed, written = capsys.readouterr().out, output.read_text()
    assert 'one thread, 5 images, 1 crops of 224² each' in written
    for name in [benchmark.BASELINE, *benchmark.CORRUPTIONS]:
        assert name in printed
        assert f'| {name} | ' in written
    lines = [line.strip('| ').split(' | ') for line in written.splitlines() if ' | ' in line]
    rows = {line[0]: line for line in lines}
    assert rows[benchmark.BASELINE][2] == rows[benchmark.BASELINE][4] == '1.00'
    # What the workers send: one image of 224², two, and a float32 one with a clean one in KB.
    assert rows[benchmark.BASELINE][6] == '151'
    for name in benchmark.CORRUPTIONS:
        assert rows[name][6] == ('753' if 'float32' in name else '301')


def test_benchmark_of_an_empty_folder(tmp_path, capsys):
    with pytest.raises(SystemExit):
        load_tool('benchmarks/benchmark_corruptions').main([str(tmp_path)])
    assert 'holds no .jpg or .jpeg file' in capsys.readouterr().err
