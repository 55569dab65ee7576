"""``mmebm demo`` without a browser: its options, and what its page calls."""

import sys

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from mmebm.cli.main import main
from mmebm.restorer import Restorer
from tests.tools import exit_code
from tests.zero_head import save_network


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('networks')
    save_network(folder / 'net.pth', zero=False)
    return folder


def test_without_gradio_one_line_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert exit_code(main, ['demo', str(folder / 'net.pth')]) == 2
    error = capsys.readouterr().err
    assert 'pip install gradio' in error
    assert error.count('\n') == 1


@pytest.fixture(scope='module')
def demo(folder):
    pytest.importorskip('gradio', reason='pip install gradio')
    from mmebm.cli import demo_page

    return demo_page.Demo(Restorer(folder / 'net.pth'))


def test_what_the_network_was_trained_on_comes_first_with_its_own_options(demo):
    (_, first), *_ = demo.choices()
    assert first == 'GriddedMask'
    assert demo.words(first) == ['patch_size=4', 'ratio=0.5']
    damage = demo.damage('GriddedMask', 'patch_size=3 ratio=0.25', 7, None)
    assert (damage.corruption.patch_size, damage.corruption.ratio) == (3, 0.25)
    assert tuple(damage.corruption.fill) == (10, 20, 30)  # of the network's training
    assert damage.seed == 7


def test_every_registered_corruption_is_offered_and_restored(demo, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    kinds = [kind for _, kind in demo.choices() if kind != 'painted']
    assert {'Colorization', 'Fog', 'GaussianNoise', 'GriddedMask', 'Shuffle'} <= set(kinds)
    monkeypatch.setattr(demo.restorer, 'shipped', True)  # it is offered for what it was measured on
    assert [kind for _, kind in demo.choices()] == ['GriddedMask', 'config', 'painted', 'none']
    for kind in kinds:
        text = demo.options(kind)[0]['value']
        chain = demo.restorer(image, demo.damage(kind, text, 0, None), 0)
        assert chain.title == {'config': 'GriddedMask', 'none': ''}.get(kind, kind)


def test_mistakes_on_the_page_are_messages(demo, tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    Image.new('RGB', (20, 20)).save(tmp_path / 'image.png')
    for name, kind, options, message in (
        ('text.png', 'none', '', 'no image of a known format'),
        ('image.png', 'painted', '', 'the mask hides nothing'),
        ('image.png', 'SuperResolution', 'scale=0', 'scale'),
        ('image.png', 'SuperResolution', '<b>', '&lt;b&gt;'),
    ):
        outputs = demo.restore(str(tmp_path / name), kind, options, None, 32, 1, 0)
        assert message in outputs[2]
        empty = dict(layers=[np.zeros((32, 32, 4), np.uint8)])  # the editor tells, late
        same, other = [str(tmp_path / name), kind, options, empty], [name, kind, options, None]
        assert demo.message(outputs[0], *same) == outputs[2]
        assert demo.message(outputs[0], *other) == ''
        drawn = dict(layers=[np.ones((32, 32, 4), np.uint8)])
        assert (demo.message(outputs[0], *same[:3], drawn) == '') == (kind == 'painted')


def test_restored_and_shown(demo, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    path, options = str(tmp_path / 'image.png'), 'gamma_range=(0.5,0.5)'
    chain, slider, text, _, heat = demo.restore(path, 'GaussianNoise', options, None, 16, 4, 0)
    assert (slider['maximum'], slider['value']) == (4, demo.restorer.model.num_steps)
    np.testing.assert_array_equal(chain.clean, pixels)
    before = peak_signal_noise_ratio(pixels / 1.0, chain.images[0].astype(float), data_range=255)
    assert f'<td>{before:.2f}</td>' in text
    assert heat.shape == (16, 24, 3)
    (first, last), _ = demo.show(chain, 0)
    np.testing.assert_array_equal(first, last)
    layer = np.zeros((16, 24, 4), np.uint8)
    layer[2:4, 5:9, 3] = 255
    chain, *_ = demo.restore(path, 'painted', '', dict(layers=[layer]), 16, 1, 0)
    hidden = (chain.images[0] != chain.clean).any(2)
    assert hidden[2:4, 5:9].all()
    assert hidden.sum() == 8
    Image.new('RGB', (20, 3000), 'red').save(tmp_path / 'long.png')  # is cut
    assert demo.pixels(str(tmp_path / 'long.png'), 32).shape == (128, 32, 3)
