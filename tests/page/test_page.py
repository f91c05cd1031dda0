"""The console of a loaded store, as a person sees it: in a browser, at two widths, light and dark, on paper.

RENTROLL_PAGE_URL is the page that `rentroll demo` printed, RENTROLL_CHROMIUM the browser, RENTROLL_SCREENSHOTS the
folder for the pictures. What must be on the pages comes from examples/access-log/README.md.
"""

import os
import pathlib
import re

import pytest

from browser import Browser
from png import colours

URL = os.environ["RENTROLL_PAGE_URL"].rstrip("/")
PICTURES = pathlib.Path(os.environ["RENTROLL_SCREENSHOTS"])
PAGES = {"overview": "/", "tenants": "/tenants", "invoices": "/invoices", "costs": "/costs", "rejects": "/rejects", "health": "/health"}


@pytest.fixture(scope="module")
def browser():
    PICTURES.mkdir(parents=True, exist_ok=True)
    browser = Browser(os.environ["RENTROLL_CHROMIUM"])
    yield browser
    browser.close()


def first_link(browser, pattern):
    """The first link of the page whose path matches."""
    links = browser.evaluate("[...document.querySelectorAll('a[href]')].map(a => new URL(a.href).pathname)")
    for link in links:
        if re.fullmatch(pattern, link):
            return link
    raise AssertionError(f"no link matches {pattern}; there are {sorted(set(links))}")


def unbroken(text):
    """Numbers without their separators, be they commas, thin spaces or none."""
    return re.sub(r"(?<=\d)[,\u00a0\u202f\u2009 ](?=\d{3}\b)", "", text)


def timeless(text):
    """The text without what passes between two looks: times of day, and how long an answer took."""
    return re.sub(r"\b\d\d:\d\d(:\d\d)?\b|\b\d+ (ms|s)\b", "…", text)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_shows_without_complaint(browser, name, width, dark):
    status = browser.open(URL + PAGES[name], width=width, dark=dark)
    assert status == 200
    picture = browser.picture(PICTURES / f"{name}-{width}{'-dark' if dark else ''}.png")
    assert browser.problems() == []
    assert [url for url in browser.requested() if not url.startswith((URL, "data:"))] == []
    _, _, found = colours(picture)
    assert len(found) > 8, "the picture is an empty sheet"
    background = max(found, key=found.get)
    assert (sum(background) < 3 * 128) == dark, f"background {background} does not follow the reader's scheme"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_small_phone(browser, name):
    browser.open(URL + PAGES[name], width=360, height=740)
    wide, screen = browser.evaluate("[document.documentElement.scrollWidth, 360]")
    assert wide <= screen, f"the page is {wide} px wide on a screen of {screen}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_without_script(browser, name):
    assert browser.open(URL + PAGES[name], script=False) == 200
    without = timeless(browser.text())
    browser.open(URL + PAGES[name])
    assert without == timeless(browser.text())


def test_the_overview_has_the_totals_of_the_log(browser):
    browser.open(URL + "/")
    text = unbroken(browser.text())
    assert re.search(r"\b1753\b", text), text
    assert re.search(r"\b10000\b", text), text
    assert re.search(r"\b2747282740\b|\b2\.75? ?GB\b", text), text


def test_the_cost_split_adds_up_to_the_bill(browser):
    browser.open(URL + "/costs")
    assert re.search(r"\b1700\.00\b", unbroken(browser.text())), browser.text()


def test_a_tenant_can_be_looked_into(browser):
    browser.open(URL + "/tenants")
    assert browser.open(URL + first_link(browser, r"/tenants/[^/]+")) == 200
    assert browser.problems() == []
    assert "66.249.73.135" in browser.text(), "the busiest client of the log is not the first tenant"
    browser.picture(PICTURES / "tenant-1280.png")


def test_an_invoice_can_be_sent(browser):
    browser.open(URL + "/invoices")
    invoice = first_link(browser, r"/invoices/[^/]+")
    assert browser.open(URL + invoice) == 200
    number = invoice.rsplit("/", 1)[1]
    assert number in browser.text()
    for scheme in (False, True):
        browser.open(URL + invoice, dark=scheme)
        browser.picture(PICTURES / f"invoice-1280{'-dark' if scheme else ''}.png")
    browser.open(URL + invoice, width=390)
    browser.picture(PICTURES / "invoice-390.png")
    assert browser.problems() == []
    sheet = browser.pdf(PICTURES / "invoice.pdf")
    assert sheet.startswith(b"%PDF") and len(sheet) > 10_000


def test_what_is_not_there_is_said_and_is_no_empty_page(browser):
    for path in ("/tenants/no-such-tenant", "/invoices/NO-SUCH-1", "/no-such-page"):
        assert browser.open(URL + path) == 404
        assert "Not found" in browser.text()
