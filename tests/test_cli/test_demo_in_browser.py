"""``mmebm demo`` as its user sees it, in Chromium; what others may not do over HTTP."""

import pytest
from PIL import Image

from mmebm.cli import demo_command
from mmebm.cli.main import build_parser
from tests.browser import FLAGS, find_chromium
from tests.tools import write_images
from tests.zero_head import save_network

pytest.importorskip('gradio', reason='pip install gradio')
httpx = pytest.importorskip('httpx')
sync_api = pytest.importorskip('playwright.sync_api', reason='pip install playwright')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A network, photographs, and a picture of 182 million pixels in 23 kB."""
    folder = tmp_path_factory.mktemp('demo')
    save_network(folder / 'net.pth', zero=False, num_steps=1)
    write_images(folder / 'photos', 1)
    Image.new('1', (13_500, 13_500)).save(folder / 'bomb.png')  # twice Pillow's limit: 179 million
    return folder


@pytest.fixture(scope='module')
def url(folder):
    args = build_parser().parse_args(['demo', str(folder / 'net.pth'), '--max-upload', '1'])
    app = demo_command.start(args)
    yield app.local_url.rstrip('/')
    app.close()


@pytest.fixture
def page(url):
    """The page, loaded; no error may be logged, and no other host asked."""
    problems, playwright = [], sync_api.sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
    page = browser.new_page(viewport=dict(width=1100, height=800))
    page.set_default_timeout(120_000)
    page.on('console', lambda m: problems.append(m.text) if m.type == 'error' else None)
    page.on('pageerror', lambda error: problems.append(str(error)))
    page.on(
        'request',
        lambda r: None if r.url.startswith((url, 'data:', 'blob:')) else problems.append(r.url),
    )
    page.goto(url)
    page.wait_for_selector('#figures table')
    yield page
    browser.close()
    playwright.stop()
    assert problems == []


def changed(page, before, what="document.querySelector('#figures table')?.innerText"):
    """Wait until a part of the page is another."""
    page.wait_for_function(f'b => {what} && {what} !== b', arg=before)


def figures(page):
    """What they say, once there are some."""
    return page.locator('#figures table').inner_text()


RESTORED = "document.querySelectorAll('#slider img')[1].getAttribute('src')"


def test_steps_damages_and_mistakes(page):
    before = page.evaluate(RESTORED)
    slider = page.locator('#step input[type=range]')
    assert slider.get_attribute('max') == '3'
    slider.fill('0')
    slider.dispatch_event('pointerup')
    changed(page, before, RESTORED)
    page.wait_for_selector('#where img')

    options, before = page.locator('#options textarea'), figures(page)
    options.fill('patch_size=0 ratio=0.5')
    page.locator('#restore').click()
    page.get_by_text('patch_size must be an integer').wait_for()
    options.press_sequentially('5')
    page.get_by_text('patch_size must be an integer').wait_for(state='detached')
    page.locator('#damage input').click()
    page.get_by_role('option', name='Blur').click()
    page.wait_for_selector('#figures table')
    assert options.input_value().startswith('sigma_range=')
    assert figures(page) != before


def test_an_upload_is_restored(page, folder):
    before = page.evaluate(RESTORED)
    page.locator('#image button[title="Remove Image"]').click()
    page.locator('#image input[type=file]').set_input_files(folder / 'photos/0000.png')
    changed(page, before, RESTORED)
    page.locator('#image button[title="Remove Image"]').click()
    page.locator('#image input[type=file]').set_input_files(folder / 'bomb.png')
    page.get_by_text('Image size (182250000 pixels) exceeds limit').wait_for()


def test_a_painted_mask_is_filled(page):
    before = figures(page)
    page.locator('#samples img').nth(1).click()
    changed(page, before)
    page.locator('#damage input').click()
    page.get_by_role('option', name='a mask that I paint').click()
    canvas = page.locator('#editor canvas').first
    canvas.wait_for()
    page.locator('#restore').click()
    page.get_by_text('the mask hides nothing').wait_for()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 20, steps=5)
    page.mouse.up()
    page.get_by_text('the mask hides nothing').wait_for(state='detached')
    page.locator('#restore').click()
    assert 'PSNR' in figures(page)


def test_what_is_refused(url, folder):
    assert httpx.get(url).status_code == 200
    assert httpx.get(url, headers={'Host': 'evil.example'}).status_code == 400
    for path in (folder / 'net.pth', folder / 'photos/0000.png', __file__):
        assert httpx.get(f'{url}/gradio_api/file={path}').status_code == 403
    answer = httpx.post(f'{url}/gradio_api/upload', files=dict(files=('a.png', bytes(2**20 + 1))))
    assert answer.status_code == 413
    # nor is a file read that nobody uploaded
    dependencies = httpx.get(f'{url}/config').json()['dependencies']
    restore = max(dependencies, key=lambda d: len(d['inputs']))
    file = dict(path=str(folder / 'photos/0000.png'), meta=dict(_type='gradio.FileData'))
    data = [file, 'GriddedMask', '', None, 32, 1, 0]
    job = dict(data=data, fn_index=restore['id'], session_hash='x')
    assert len(data) == len(restore['inputs'])
    httpx.post(f'{url}/gradio_api/queue/join', json=job).raise_for_status()
    answer = httpx.get(f'{url}/gradio_api/queue/data?session_hash=x').text
    assert 'not uploaded by a user' in answer
    assert '"success":false' in answer
