"""``mmebm demo`` without a browser: its options, and what its page calls."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import mmebm
from mmebm.cli.main import main
from mmebm.restorer import Restorer
from tests.tools import exit_code
from tests.zero_head import save_network, save_sorting


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'net.pth'
    save_network(path, zero=False)
    return path


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--port', '0'], '--port must be an integer ≥ 1, got 0'),
        (['--port', '70000'], '--port must be at most 65535, got 70000'),
        (['--max-upload', '0'], '--max-upload must be a finite number > 0, got 0'),
        (['--host', '192.0.2.1'], 'cannot listen at 192.0.2.1: '),
        (['--host', 'nowhere.invalid'], 'cannot listen at nowhere.invalid: '),
    ],
)
def test_mistakes_are_one_line(network, capsys, options, message):
    assert exit_code(main, ['demo', str(network), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_without_gradio_one_line_says_what_to_install(network, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmebm.cli.demo_page', raising=False)
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert exit_code(main, ['demo', str(network)]) == 2
    error = capsys.readouterr().err
    assert 'pip install gradio' in error
    assert error.count('\n') == 1


def test_only_the_page_imports_gradio():
    """So that all else works without."""
    package = Path(mmebm.__file__).parent
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob('*.py')
        if re.search(r'^\s*(import|from) gradio', file.read_text(encoding='utf-8'), re.MULTILINE)
    }
    assert found == {'cli/demo_command.py', 'cli/demo_page.py'}


# --- the page


@pytest.fixture(scope='module')
def demo_page():
    pytest.importorskip('gradio', reason='pip install gradio')
    from mmebm.cli import demo_page

    return demo_page


@pytest.fixture(scope='module')
def demo(network, demo_page):
    return demo_page.Demo(Restorer(network))


def test_a_network_that_sorts_is_refused(demo_page, tmp_path, capsys):
    save_sorting(tmp_path / 'sorting.pth')
    assert exit_code(main, ['demo', str(tmp_path / 'sorting.pth')]) == 2
    assert 'this network sorts patches' in capsys.readouterr().err


def test_what_the_network_was_trained_on_comes_first_with_its_own_options(demo):
    (_, first), *_ = demo.choices()
    assert first == 'GriddedMask'
    assert demo.words(first) == ['patch_size=4', 'ratio=0.5']
    damage = demo.damage('GriddedMask', 'patch_size=3 ratio=0.25', 7, None)
    assert (damage.corruption.patch_size, damage.corruption.ratio) == (3, 0.25)
    assert tuple(damage.corruption.fill) == (10, 20, 30)  # of the network's training
    assert damage.seed == 7


def test_corruptions_inside_mixtures_are_found(demo_page):
    inner = dict(type='MixedCorruption', corruptions=[dict(type='GaussianNoise', on_device=True)])
    mixture = dict(type='MixedCorruption', seed=0, corruptions=[dict(type='Colorization'), inner])
    assert demo_page.trained_with(mixture) == {'Colorization': {}, 'GaussianNoise': {}}
    assert demo_page.trained_with(None) == {}


def test_every_registered_corruption_is_offered_and_restored(demo):
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    kinds = [kind for _, kind in demo.choices()]
    assert {*kinds, 'BaseCorruption', 'MixedCorruption'} >= set(mmebm.corruptions.__all__)
    for kind in kinds:
        text = demo.options(kind)[0]['value']
        chain = demo.restorer(image, demo.damage(kind, text, 0, None), 0)
        assert chain.title == {'config': 'GriddedMask', 'none': '', 'painted': ''}.get(kind, kind)


def test_painted_pixels(demo_page):
    layer = np.zeros((10, 20, 4), np.uint8)
    layer[2:4, 5:9, 3] = 255
    mask = demo_page.painted_mask(dict(layers=[layer]), (10, 20))
    assert mask.sum() == 8
    assert mask[2:4, 5:9].all()
    assert demo_page.painted_mask(dict(layers=[layer]), (20, 40))[4:8, 10:18].all()
    assert not demo_page.painted_mask(None, (3, 4)).any()


def test_mistakes_on_the_page_are_messages(demo, tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    Image.new('RGB', (20, 20)).save(tmp_path / 'image.png')
    for name, kind, options, message in (
        ('text.png', 'none', '', 'cannot be read as an image'),
        ('image.png', 'painted', '', 'Paint over'),
        ('image.png', 'SuperResolution', 'scale=0', 'scale'),
        ('image.png', 'SuperResolution', '<b>', '&lt;b&gt;'),
    ):
        outputs = demo.restore(str(tmp_path / name), kind, options, None, 32, 1, 0)
        assert message in outputs[2]
        assert outputs[0] is None


def test_restored_and_shown(demo, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    options = 'gamma_range=(0.5,0.5)'
    chain, slider, text, pair, heat = demo.restore(
        str(tmp_path / 'image.png'), 'GaussianNoise', options, None, 16, 4, 0
    )
    assert slider['maximum'] == 4
    assert slider['value'] == demo.restorer.model.num_steps
    np.testing.assert_array_equal(chain.clean, pixels)
    before = peak_signal_noise_ratio(pixels / 1.0, chain.images[0].astype(float), data_range=255)
    assert f'<td>{before:.2f}</td>' in text
    assert heat.shape == (16, 24, 3)
    pair, _ = demo.show(chain, 0)
    np.testing.assert_array_equal(pair[0], pair[1])
    Image.new('RGB', (20, 3000), 'red').save(tmp_path / 'long.png')  # is cut
    assert demo.pixels(str(tmp_path / 'long.png'), 32).shape == (128, 32, 3)
