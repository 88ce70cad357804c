"""The reference in a browser: names are found, linked both ways, and fit on a phone."""

import pytest

PAGE, NAME = "math/objective.html", "distill_lib.losses.response.mixed_loss"


@pytest.fixture(autouse=True)
def _with_reference(book):
    if "reference" not in book.page_names() or "math/objective" not in book.page_names():
        pytest.skip("a book without these pages")


@pytest.mark.parametrize("prefix", ["", "zh/"])
def test_a_name_in_code_leads_to_its_entry_and_the_entry_back(address, page, prefix):
    page.goto(address + prefix + PAGE, wait_until="domcontentloaded")
    page.locator("article a.book-name", has_text="mixed_loss").first.click()
    assert page.url == f"{address}{prefix}reference.html#{NAME}"
    assert page.locator(f"[id='{NAME}']").is_visible()
    entry = page.locator(f"dl.py:has(> dt[id='{NAME}'])")
    entry.locator(".book-pages a[href='math/objective.html']").first.click()
    assert page.url == address + prefix + PAGE
    assert page.complaints == []


@pytest.mark.parametrize("prefix", ["", "zh/"])
@pytest.mark.parametrize("query", ["mixed_loss", "train_many", "Comparison"])
def test_a_name_is_found(address, page, prefix, query):
    page.goto(f"{address}{prefix}search.html?q={query}")
    entry = f"#search-results ul.search a[href*='reference.html#'][href$='.{query}']"
    page.wait_for_selector(entry, timeout=10_000)
    assert page.complaints == []


def test_the_chinese_reference_speaks_chinese_around_the_docstrings(address, page):
    page.goto(f"{address}zh/reference.html", wait_until="domcontentloaded")
    fields = page.locator("article dl.field-list > dt").all_inner_texts()
    assert {field.strip(":：\n ") for field in fields} >= {"参数", "返回"}
    pages = page.locator("article .book-pages > p").all_inner_texts()
    assert len(pages) > 10
    for line in [*fields, *pages]:
        assert any("\u4e00" <= sign <= "\u9fff" for sign in line), line
