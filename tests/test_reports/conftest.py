"""A browser for the tests of the pages, which open from disk as they would for a reader."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
ARGUMENTS = (
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
)


@pytest.fixture(scope='session')
def browser() -> Iterator[Browser]:
    """A browser without window; tests are skipped where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(
            'no chromium was found; install it (Debian: apt-get install chromium) to test the pages'
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            headless=True, executable_path=found, args=list(ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file: ``open_page(path, width=1280, height=900, fragment='', **context)``.

    Afterwards, nothing may stand in the console and nothing but files may have been asked for.
    """
    contexts, messages, requests, files = [], [], [], []

    def open_file(
        path: Path, width: int = 1280, height: int = 900, fragment: str = '', **options: object
    ) -> Page:
        context = browser.new_context(
            viewport=dict(width=width, height=height), offline=True, **options
        )
        contexts.append(context)
        context.on('request', lambda request: requests.append(request.url))
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on('console', lambda message: messages.append(message.text))
        page.on('pageerror', lambda error: messages.append(str(error)))
        files.append(path.resolve().as_uri())
        page.goto(files[-1] + fragment)
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not messages
    others = [url for url in requests if not url.startswith('data:')]
    assert {url.partition('#')[0] for url in others} <= set(files)
