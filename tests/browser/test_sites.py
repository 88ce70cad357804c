"""What a reader meets: both sites in a real browser, with no other host within reach."""

import json

import pytest

SEARCHES = ("标签平滑", "暗知识", "软目标")


def all_pages(book, prefix):
    """Addresses of all pages of one language, relative to the English site."""
    return [f"{prefix}{name}.html" for name in book.page_names()]


@pytest.mark.parametrize("prefix", ["", "zh/"])
def test_pages_are_quiet_and_stay_here(book, address, page, prefix):
    for path in all_pages(book, prefix):
        page.goto(address + path, wait_until="networkidle")
        assert page.complaints == [], path


@pytest.mark.parametrize("prefix", ["", "zh/"])
def test_formulas_are_typeset_and_none_is_wrong(book, address, page, prefix):
    for path in all_pages(book, prefix):
        page.goto(address + path, wait_until="networkidle")
        raw = page.locator("article .math").count()
        if raw:
            page.wait_for_selector("article mjx-container", state="attached")
        assert page.locator("article mjx-merror").count() == 0, path
        assert (page.locator("article mjx-container").count() > 0) == (raw > 0), path


@pytest.mark.parametrize("prefix", ["", "zh/"])
def test_a_narrow_phone_needs_no_sideways_scrolling(book, address, page, prefix):
    page.set_viewport_size({"width": 390, "height": 844})
    for path in all_pages(book, prefix):
        page.goto(address + path, wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


@pytest.mark.parametrize("prefix", ["", "zh/"])
def test_every_picture_has_words(book, address, page, prefix):
    for path in all_pages(book, prefix):
        page.goto(address + path)
        for alt in page.locator("article img").evaluate_all("all => all.map(i => i.alt)"):
            assert len(alt) > 12, (path, alt)
            assert "_images" not in alt, path
            if prefix:
                assert any("\u4e00" <= sign <= "\u9fff" for sign in alt), (path, alt)


def test_the_switch_stays_on_the_page_and_comes_back(book, address, page):
    for name in book.page_names():
        page.goto(f"{address}{name}.html")
        page.click("#language-switch")
        assert page.url == f"{address}zh/{name}.html"
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        page.click("#language-switch")
        assert page.url == f"{address}{name}.html"


def test_search_engines_are_told_of_both_languages(book, address, page):
    for prefix in ("", "zh/"):
        for path in all_pages(book, prefix):
            page.goto(address + path)
            links = page.locator("link[rel=alternate][hreflang]")
            assert {link.get_attribute("hreflang") for link in links.all()} == {"en", "zh-CN"}
            for link in links.all():
                assert page.request.get(link.evaluate("link => link.href")).ok, path
            description = page.locator("meta[name=description]").get_attribute("content")
            assert len(description) >= 10, path


@pytest.mark.parametrize("query", SEARCHES)
def test_chinese_words_are_found(address, page, query):
    page.goto(f"{address}zh/search.html?q={query}")
    page.wait_for_selector("#search-results ul.search li a", timeout=10_000)
    found = page.locator("#search-results ul.search li a").all_inner_texts()
    assert found
    assert page.complaints == []


def test_a_word_that_the_book_does_not_hold_is_not_found(address, page):
    # Each of its characters may occur somewhere; the pairs must not.
    page.goto(f"{address}zh/search.html?q=龘靐齉爩")
    page.wait_for_function("document.querySelector('#search-results h2, #search-results p')")
    page.wait_for_timeout(1000)
    assert page.locator("#search-results ul.search li").count() == 0


def test_the_chinese_download_is_the_chinese_notebook(book, address, page):
    for name in book.page_names():
        page.goto(f"{address}zh/{name}.html")
        link = page.locator("a[href$='.ipynb'].btn-download-source-button").first
        notebook = json.loads(page.request.get(link.evaluate("link => link.href")).text())
        titles = [cell for cell in notebook["cells"] if cell["id"] == "title"]
        text = "".join(titles[0]["source"])
        assert any("\u4e00" <= sign <= "\u9fff" for sign in text), name


def test_the_theme_speaks_chinese(book, address, page):
    page.goto(f"{address}zh/{book.page_names()[1]}.html")
    words = page.locator("body").inner_text()
    words += " ".join(page.locator("[title]").evaluate_all("all => all.map(e => e.title)"))
    words += " ".join(
        page.locator("[aria-label]").evaluate_all("all => all.map(e => e.ariaLabel)")
    )
    for english in (
        "Color mode",
        "Search",
        "Contents",
        "Click to show",
        "Link to this",
        "Next",
    ):
        assert english not in words


def test_a_dark_page_shows_figures_without_a_white_card(book, address, browser):
    tab = browser.new_page(color_scheme="dark")
    for path in all_pages(book, ""):
        tab.goto(address + path, wait_until="networkidle")
        for style in tab.locator("article .cell_output img").evaluate_all(
            "all => all.map(i => getComputedStyle(i).backgroundColor)"
        ):
            assert style == "rgba(0, 0, 0, 0)", path
    tab.close()
