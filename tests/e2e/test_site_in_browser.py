"""The catalog's site in a real browser: search, console, foreign hosts, no JavaScript, keyboard alone."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from services.bus.catalog import Topic, load_catalog
from tests.contract.examples import SCHEMAS

pytestmark = pytest.mark.extra  # a browser

CATALOG = load_catalog(SCHEMAS)
WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
LIMIT_MS = 10_000
TABS_AT_MOST = 60
TROUBLE = ("error", "warning")
FITS = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
RESULTS = ".md-search-result__list > .md-search-result__item > a"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """What was asked for is not this test's subject."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, with a slash at the end."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not here, and this test needs it: `apt install chromium` (Debian)"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def opened(browser: Browser, size: ViewportSize = WIDE, *, scripts: bool = True) -> Iterator[Page]:
    context = browser.new_context(viewport=size, java_script_enabled=scripts)
    context.set_default_timeout(LIMIT_MS)
    try:
        yield context.new_page()
    finally:
        context.close()


@pytest.fixture(scope="module")
def home(browser: Browser, address: str) -> Iterator[Page]:
    """The home page, opened once for all searches."""
    with opened(browser) as page:
        page.goto(address)
        yield page


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with opened(browser) as page:
        yield page


def focused(page: Page) -> Any:
    """What the keyboard is at: its text, where it leads, and its name as a field."""
    return page.evaluate(
        "() => { const at = document.activeElement; return {text: (at.textContent || '').trim(), "
        "href: at.getAttribute('href'), name: at.getAttribute('name')} }"
    )


def tab_to(page: Page, **wanted: str) -> None:
    """Presses Tab until the keyboard is at what is wanted."""
    seen = []
    for _ in range(TABS_AT_MOST):
        page.keyboard.press("Tab")
        at = focused(page)
        if all(at[name] == value for name, value in wanted.items()):
            return
        seen.append(at)
    pytest.fail(f"{TABS_AT_MOST} times Tab did not lead to {wanted}, but to {seen}")


def search(page: Page, words: str) -> Locator:
    """The first result."""
    field = page.get_by_role("textbox", name="Search")
    field.click()
    field.fill("")
    results = page.locator(RESULTS)
    expect(results).to_have_count(0)
    page.keyboard.type(words)
    return results.first


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda topic: topic.name)
def test_a_topic_is_the_first_that_its_name_its_short_name_and_its_title_find(
    home: Page, topic: Topic
) -> None:
    for words in (topic.name, topic.short, topic.title):
        expect(search(home, words)).to_have_attribute(
            "href", re.compile(rf"/{re.escape(topic.name)}\.html\?h=")
        )


def test_no_page_has_a_console_error_or_asks_a_foreign_host_or_is_wider_than_the_screen(
    browser: Browser, address: str, site: Path
) -> None:
    said: list[str] = []
    asked: list[str] = []
    pages = sorted(site.rglob("*.html"))
    with opened(browser, NARROW) as page:
        page.on("console", lambda message: said.append(message.text) if message.type in TROUBLE else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("response", lambda answer: said.append(answer.url) if answer.status >= 400 else None)
        for path in pages:
            page.goto(f"{address}{path.relative_to(site)}")
            page.wait_for_function(FITS)
        page.keyboard.press("/")
        page.keyboard.type("payment")
        expect(page.locator(RESULTS).first).to_be_visible()
    assert said == []
    assert len(asked) > len(pages)
    assert [url for url in asked if not url.startswith((address, "data:", f"blob:{address}"))] == []


def test_a_foreign_request_would_be_seen(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/*", lambda route: route.continue_() if address in route.request.url else route.abort())
    page.goto(address)
    with page.expect_request("http://cdn.example/a.png"):
        page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://cdn.example/a.png'}))")
    assert "http://cdn.example/a.png" in asked


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda topic: topic.name)
def test_a_topic_reads_without_javascript(browser: Browser, address: str, topic: Topic) -> None:
    with opened(browser, scripts=False) as page:
        page.goto(address)
        page.get_by_role("link", name=topic.name, exact=True).first.click()
        expect(page.get_by_role("heading", name=topic.title, exact=False).first).to_be_visible()
        for field in topic.schema["fields"]:
            expect(page.locator(".fields").get_by_text(field["name"], exact=True).first).to_be_visible()
        go = page.locator(".tabbed-block").nth(1)
        expect(go).to_be_hidden()
        page.locator(".tabbed-labels").get_by_text("Go", exact=True).click()
        expect(go).to_be_visible()
        refused = page.locator("details.failure").first
        refused.locator("summary").click()
        expect(refused.locator("pre")).to_be_visible()


def test_the_map_and_the_flows_read_without_javascript(browser: Browser, address: str) -> None:
    with opened(browser, scripts=False) as page:
        page.goto(f"{address}map.html")
        page.locator(".drawing").get_by_role("link", name="billing.batch.closed.v1").click()
        expect(page.get_by_role("heading", name="Batch closed").first).to_be_visible()
        page.get_by_role("link", name="Flows", exact=True).first.click()
        expect(page.locator("svg.drawing")).to_be_visible()


def test_navigation_on_a_small_screen_opens_without_javascript(browser: Browser, address: str) -> None:
    with opened(browser, NARROW, scripts=False) as page:
        page.goto(address)
        page.locator("label.md-header__button[for=__drawer]").click()
        page.locator(".md-nav--primary").get_by_text("Topics", exact=True).first.click()
        page.wait_for_url("**/topics/index.html")
        page.get_by_role("link", name="billing.payment.received.v1", exact=True).click()
        expect(page.get_by_role("heading", name="Payment received").first).to_be_visible()


def test_the_keyboard_alone_leads_to_a_topic(page: Page, address: str) -> None:
    page.goto(address)
    tab_to(page, text="Skip to content")
    tab_to(page, text="Topics")
    page.keyboard.press("Enter")
    page.wait_for_url("**/topics/index.html")
    tab_to(page, text="payment.received")
    page.keyboard.press("Enter")
    page.wait_for_url("**/billing.payment.received.v1.html")
    tab_to(page, name="__tabbed_1")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tabbed-block").nth(1)).to_be_visible()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_keyboard_alone_searches(browser: Browser, address: str, size: ViewportSize) -> None:
    with opened(browser, size) as page:
        page.goto(address)
        if size is WIDE:
            tab_to(page, name="query")
        else:
            page.keyboard.press("/")  # on a small screen the field is folded away
        page.keyboard.type("batch closed")
        expect(page.locator(RESULTS).first).to_be_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_url("**/billing.batch.closed.v1.html*")
