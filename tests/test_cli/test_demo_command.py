"""``mmebm demo`` without a browser: its options, and what its page calls."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmebm
from mmebm.cli import demo_command
from mmebm.cli.main import main
from tests.tools import exit_code
from tests.zero_head import save_network


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp('network') / 'net.pth'
    save_network(path, zero=False)
    return path


# --- the command


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--port', '0'], '--port must be an integer ≥ 1, got 0'),
        (['--max-upload', '0'], '--max-upload must be a finite number > 0, got 0'),
        (['--folder', 'nowhere'], '--folder: no such folder: nowhere'),
        (['--port', '70000'], '--port must be at most 65535, got 70000'),
        (['--host', '192.0.2.1'], 'cannot listen at 192.0.2.1: Cannot assign requested address'),
        (['--host', 'nowhere.invalid'], 'cannot listen at nowhere.invalid: '),
    ],
)
def test_mistakes_are_one_line(network, capsys, options, message):
    assert exit_code(main, ['demo', str(network), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_without_gradio_one_line_says_what_to_install(network, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert exit_code(main, ['demo', str(network)]) == 2
    error = capsys.readouterr().err
    assert "pip install 'mmebm[demo]'" in error
    assert error.count('\n') == 1


@pytest.mark.parametrize(
    ('host', 'expected'),
    [
        ('127.0.0.1', True),
        ('127.8.9.1', True),
        ('localhost', True),
        ('::1', True),
        ('0.0.0.0', False),
        ('::', False),
        ('192.168.1.2', False),
        ('example.org', False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host, expected):
    assert demo_command.alone(host) is expected


def test_only_the_page_imports_gradio():
    """So that all else works without."""
    package = Path(mmebm.__file__).parent
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob('*.py')
        if re.search(r'^\s*(import|from) gradio', file.read_text(), re.MULTILINE)
    }
    assert found == {'cli/demo_command.py', 'cli/demo_page.py'}


# --- the page


@pytest.fixture(scope='module')
def demo_page():
    pytest.importorskip('gradio', reason="pip install 'mmebm[demo]'")
    demo_command.import_gradio()
    from mmebm.cli import demo_page

    return demo_page


@pytest.fixture(scope='module')
def demo(network, demo_page):
    from mmebm.apis import WholeImageRestorer

    return demo_page.Demo(WholeImageRestorer(network), None)


def test_what_the_network_was_trained_on_comes_first_with_its_own_options(demo):
    (_, first), *_ = demo.choices()
    assert first == 'GriddedMask'
    damage = demo.damage('GriddedMask', 4, 0.25, 7, None)
    assert damage.corruption == dict(
        type='GriddedMask', patch_size=4, ratio=0.25, fill=[10, 20, 30]
    )
    assert damage.seed == 7


def test_corruptions_inside_mixtures_are_found(demo_page):
    mixture = dict(
        type='MixedCorruption',
        seed=0,
        corruptions=[
            dict(type='Colorization'),
            dict(type='MixedCorruption', corruptions=[dict(type='GaussianNoise', on_device=True)]),
        ],
    )
    assert demo_page.trained_with(mixture) == {
        'Colorization': dict(type='Colorization'),
        'GaussianNoise': dict(type='GaussianNoise'),
    }
    assert demo_page.trained_with(None) == {}


def test_every_choice_builds_at_both_ends_of_its_sliders(demo):
    from mmebm.corruptions import MixedCorruption

    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for _, kind in demo.choices():
        if kind not in demo.kinds:
            continue
        options = demo.kinds[kind].options
        ends = [[o.low, o.high, o.value] for o in options] or [[0, 0, 0]]
        for values in zip(*ends, strict=True):
            damage = demo.damage(kind, *values, *[0] * (2 - len(values)), 0, None)
            corrupted = MixedCorruption([damage.corruption], seed=0)(dict(img=image, sample_idx=0))
            assert corrupted['corruption'] == kind


def test_every_registered_corruption_is_offered(demo):
    import mmebm.corruptions

    offered = set(demo.kinds) | {'BaseCorruption', 'MixedCorruption'}
    assert offered == set(mmebm.corruptions.__all__)


def test_painted_pixels(demo_page):
    layer = np.zeros((10, 20, 4), np.uint8)
    layer[2:4, 5:9, 3] = 255
    painted = dict(layers=[layer])
    mask = demo_page.painted_mask(painted, (10, 20))
    assert mask.sum() == 8
    assert mask[2:4, 5:9].all()
    assert demo_page.painted_mask(painted, (20, 40))[4:8, 10:18].all()
    assert not demo_page.painted_mask(None, (3, 4)).any()


def test_a_long_image_is_cut(demo, tmp_path):
    Image.new('RGB', (20, 3000), 'red').save(tmp_path / 'long.png')
    assert demo.picture(str(tmp_path / 'long.png'), 32).pixels.shape == (128, 32, 3)


def test_folders_outside_the_one_given_are_refused(network, demo_page, tmp_path):
    inside = tmp_path / 'open' / 'photos'
    inside.mkdir(parents=True)
    (tmp_path / 'secret').mkdir()
    (tmp_path / 'open' / 'link').symlink_to(tmp_path / 'secret')
    demo = demo_page.Demo(restorer=_Restorer(), folder=tmp_path / 'open')
    assert demo.folder_of('photos') == inside
    assert demo.folder_of(str(inside)) == inside
    for text in ('..', '../secret', str(tmp_path / 'secret'), 'link', '/'):
        with pytest.raises(ValueError, match=r'Only .*open and what is below it'):
            demo.folder_of(text)
    with pytest.raises(FileNotFoundError, match='no such folder'):
        demo.folder_of('nothing')
    with pytest.raises(ValueError, match='Name a folder'):
        demo.folder_of(' ')


class _Restorer:
    size, corruption = (16, 16), None


def test_ranking_follows_no_link_out_of_the_folder(network, demo_page, tmp_path):
    from mmebm.apis import WholeImageRestorer

    rng = np.random.default_rng(0)
    (tmp_path / 'open').mkdir()
    for name in ('open/a.png', 'open/b.png', 'secret.png'):
        pixels = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / 'open' / 'c.png').symlink_to(tmp_path / 'secret.png')
    demo = demo_page.Demo(WholeImageRestorer(network), tmp_path / 'open')
    frame, _ = demo.rank(str(tmp_path / 'open'), 'energy', 10, 0)
    assert 'a.png' in frame
    assert 'c.png' not in frame
    assert '<iframe class="ranks" sandbox title' in frame


def test_mistakes_on_the_page_are_messages(demo, demo_page, tmp_path):
    import gradio

    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(gradio.Error, match='cannot be read as an image'):
        demo.restore(str(tmp_path / 'text.png'), 'none', 0, 0, None, 32, 1, 0)
    Image.new('RGB', (20, 20)).save(tmp_path / 'image.png')
    with pytest.raises(gradio.Error, match='Paint over'):
        demo.restore(str(tmp_path / 'image.png'), 'painted', 0, 0, None, 32, 1, 0)


def test_restored_and_shown(demo, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    steps, slider, pair, text, heat, plot = demo.restore(
        str(tmp_path / 'image.png'), 'GaussianNoise', 0.5, 0, None, 16, 4, 0
    )
    assert steps.num_steps == slider['maximum'] == 4
    assert slider['value'] == demo.restorer.model.num_steps
    np.testing.assert_array_equal(pair[0], steps.frame(0))
    assert f'{steps.psnr(slider["value"]):.2f} dB' in text
    assert heat.shape == (16, 24, 3)
    energies = plot.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(energies, steps.energies)
    pair, text, *_ = demo.show(steps, 0)
    np.testing.assert_array_equal(pair[0], pair[1])
    assert '0 of 4' in text
