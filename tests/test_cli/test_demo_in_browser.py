"""``mmebm demo`` as its user sees it, in Chromium; what others may not do over HTTP."""

import struct
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from mmebm.cli import demo_command
from mmebm.cli.main import build_parser
from tests.browser import FLAGS, find_chromium
from tests.zero_head import save_network

pytest.importorskip('gradio', reason="pip install 'mmebm[demo]'")
httpx = pytest.importorskip('httpx')
sync_api = pytest.importorskip('playwright.sync_api', reason='pip install playwright')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A network, photographs, and a picture of 90 million pixels in 11 kB."""
    folder = tmp_path_factory.mktemp('demo')
    save_network(folder / 'net.pth', zero=False, num_steps=1)
    rng = np.random.default_rng(0)
    (folder / 'photos').mkdir()
    for name in ('a.png', 'b.png', '<img src=x onerror=alert(1)>.png'):
        pixels = rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'photos' / name)
    write_bomb(folder / 'bomb.png', 9500)  # Pillow's limit is 89 million
    return folder


def write_bomb(path, side):
    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((side // 8 + 1) * side))
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', pixels) + chunk(b'IEND', b'')
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + parts)


@contextmanager
def served(folder, *options):
    args = build_parser().parse_args(['demo', str(folder / 'net.pth'), *options])
    app = demo_command.start(args)
    try:
        yield app.local_url.rstrip('/')
    finally:
        app.close()


@pytest.fixture(scope='module')
def url(folder):
    with served(folder, '--max-upload', '1') as url:
        yield url


@pytest.fixture(scope='module')
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    """A page of its own, loaded; no error may be logged, and no other host asked."""
    problems = []
    page = browser.new_page(viewport=dict(width=1100, height=800))
    page.set_default_timeout(120_000)
    page.on('console', lambda m: problems.append(m.text) if m.type == 'error' else None)
    page.on('pageerror', lambda error: problems.append(str(error)))
    page.on('request', lambda r: None if is_local(r.url, url) else problems.append(r.url))
    page.goto(url)
    page.wait_for_selector('#figures b')
    yield page
    assert problems == []
    page.close()


def is_local(address, url):
    return address.startswith((url, 'data:', 'blob:'))


def figures(page):
    """What they say, once the page is done with what was asked before."""
    page.wait_for_function(
        "() => !document.querySelector('#figures').innerText.includes('processing')"
    )
    return page.locator('#figures').inner_text()


def wait_for(page, text):
    """Until the figures hold a text."""
    page.wait_for_function(
        "text => document.querySelector('#figures').innerText.includes(text)", arg=text
    )


def slide(page, name, value):
    slider = page.locator(f'#{name} input[type=range]')
    slider.fill(str(value))
    slider.dispatch_event('pointerup')


def test_the_sample_is_restored_when_the_page_opens(page):
    assert '1 of 3' in figures(page)
    assert 'dB' in figures(page)
    assert page.locator('#slider img').count() == 2
    page.wait_for_selector('#where img')
    page.wait_for_selector('#plot img')


def test_sliding_through_the_steps(page):
    after = figures(page)
    slide(page, 'step', 0)
    wait_for(page, '0 of 3')
    slide(page, 'step', 3)
    wait_for(page, '3 of 3')
    slide(page, 'step', 1)
    wait_for(page, '1 of 3')
    assert figures(page) == after


def test_another_damage_has_other_sliders_and_figures(page):
    before = figures(page)
    page.locator('#damage input').click()
    page.get_by_role('option', name='Blur').click()
    page.get_by_text('σ, in pixels').wait_for()
    assert not page.locator('#second').is_visible()
    page.wait_for_function("b => document.querySelector('#figures').innerText !== b", arg=before)


def test_an_upload_is_restored(page, folder):
    before = page.locator('#slider img').first.get_attribute('src')
    page.locator('#image button[title="Remove Image"]').click()
    page.locator('#image input[type=file]').set_input_files(folder / 'photos/a.png')
    page.wait_for_function(
        "b => document.querySelector('#slider img').getAttribute('src') !== b", arg=before
    )


def test_a_decompression_bomb_is_refused_readably(page, folder):
    page.locator('#image button[title="Remove Image"]').click()
    page.locator('#image input[type=file]').set_input_files(folder / 'bomb.png')
    page.get_by_text('Image size (90250000 pixels) exceeds limit').first.wait_for()
    page.locator('.toast-close').first.click()


def test_a_painted_mask_is_filled(page):
    before = figures(page)
    page.locator('#samples button').nth(1).click()
    page.wait_for_function("b => document.querySelector('#figures').innerText !== b", arg=before)
    page.locator('#damage input').click()
    page.get_by_role('option', name='A mask that I paint').click()
    page.locator('#editor canvas').first.wait_for()
    page.locator('#restore').click()
    page.get_by_text('Paint over the part of the picture').wait_for()
    page.locator('.toast-close').first.click()
    before = figures(page)
    canvas = page.locator('#editor canvas').first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 20, steps=5)
    page.mouse.up()
    page.locator('#restore').click()
    page.wait_for_function("b => document.querySelector('#figures').innerText !== b", arg=before)
    assert 'dB' in figures(page)


def test_a_folder_is_ranked_and_its_names_are_text(page, folder):
    page.get_by_role('tab', name='Rank a folder').click()
    page.locator('#folder textarea').fill(str(folder / 'photos'))
    page.locator('#rank').click()
    ranks = page.frame_locator('#ranks iframe')
    ranks.get_by_text('3 of 3 images of').wait_for()
    ranks.get_by_text('<img src=x onerror=alert(1)>.png').first.wait_for()
    page.wait_for_function("() => document.querySelector('#files').innerText.includes('.csv')")


def test_narrow(page):
    """Nothing is wider than a telephone."""
    page.set_viewport_size(dict(width=400, height=800))
    page.get_by_role('tab', name='Restore').click()
    assert page.evaluate('document.documentElement.scrollWidth') <= 400


# --- over HTTP


def test_other_names_of_this_machine_are_refused(url):
    assert httpx.get(url).status_code == 200
    assert httpx.get(url, headers={'Host': 'evil.example'}).status_code == 400


def test_files_of_the_machine_are_not_given_away(url, folder):
    for path in (folder / 'net.pth', folder / 'photos/a.png', __file__):
        assert httpx.get(f'{url}/gradio_api/file={path}').status_code == 403


def test_a_file_that_nobody_uploaded_is_not_read(url, folder):
    dependencies = httpx.get(f'{url}/config').json()['dependencies']
    restore = max(dependencies, key=lambda d: len(d['inputs']))
    file = dict(path=str(folder / 'photos/a.png'), meta=dict(_type='gradio.FileData'))
    data = [file, 'GriddedMask', 4, 0.5, None, 32, 1, 0]
    job = dict(data=data, fn_index=restore['id'], session_hash='x')
    assert len(data) == len(restore['inputs'])
    httpx.post(f'{url}/gradio_api/queue/join', json=job).raise_for_status()
    answer = httpx.get(f'{url}/gradio_api/queue/data?session_hash=x').text
    assert 'not uploaded by a user' in answer
    assert '"success":false' in answer


def test_a_large_upload_is_refused(url):
    answer = httpx.post(f'{url}/gradio_api/upload', files=dict(files=('a.png', bytes(2**20 + 1))))
    assert answer.status_code == 413


def test_others_on_the_network_rank_only_what_is_offered(folder):
    def tabs(*options):
        with served(folder, '--host', '0.0.0.0', *options) as url:
            components = httpx.get(f'{url}/config').json()['components']
        return [c['props'].get('label') for c in components if c['type'] == 'tabitem']

    assert tabs() == ['Restore']
    assert tabs('--folder', str(folder / 'photos')) == ['Restore', 'Rank a folder']
