"""A page in a real browser."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

PHONE = 390  # pixels across
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking']


class Seen(NamedTuple):
    """What a browser says of a page, as wide as a phone."""

    messages: list[str]
    requests: list[str]  # for what is not inside the page
    pictures: int
    broken: int
    without_alt: int
    width: int


def find_chromium() -> str:
    """The browser's path. Without one the test is skipped, or fails where one was installed."""
    found = shutil.which('chromium') or shutil.which('chromium-browser')
    if found is None:
        give_up = pytest.fail if os.environ.get('MMEBM_NEEDS_CHROMIUM') else pytest.skip
        give_up('no Chromium: apt-get install chromium')
    return found


def look_at(page: Path) -> Seen:
    """Open a file in Chromium; skips where there is none."""
    chromium = find_chromium()
    api = pytest.importorskip('playwright.sync_api', reason='pip install playwright')
    messages, requests = [], []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        tab = browser.new_page(viewport=dict(width=PHONE, height=844))
        tab.on('console', lambda message: messages.append(message.text))
        tab.on('pageerror', lambda error: messages.append(str(error)))
        tab.on('request', lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        tab.evaluate('document.querySelectorAll("details").forEach(d => d.open = true)')
        numbers = tab.evaluate(
            """[document.images.length,
            [...document.images].filter(i => !i.complete || !i.naturalWidth).length,
            [...document.images].filter(i => !i.alt).length,
            document.documentElement.scrollWidth]"""
        )
        browser.close()
    outside = [url for url in requests if url != page.as_uri() and not url.startswith('data:')]
    return Seen(messages, outside, *numbers)


def assert_sound(seen: Seen) -> None:
    assert (seen.messages, seen.requests, seen.broken, seen.without_alt) == ([], [], 0, 0)
    assert seen.width <= PHONE
