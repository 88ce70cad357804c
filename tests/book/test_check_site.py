"""The rules for finished pages, on pages of one line."""

import pytest

from tools.checks.check_site import dead_links, page_problems, problems

BROKEN = [
    ("<article>的**软目标**比</article>", "unrendered markup '**'"),
    ('<article><dl class="field-list"><dd>**soft</dd></dl></article>', "unrendered markup"),
    ("<article>{cite:p}`hinton2015`</article>", "unrendered markup"),
    ("<article>$$x$$</article>", "unrendered markup"),
    ('<script src="https://cdn.example.org/a.js"></script>', "fetches https://cdn"),
    ('<link rel="stylesheet" href="//cdn.example.org/a.css">', "fetches //cdn"),
    ('<article><img src="https://example.org/a.png" alt="A rising line"></article>', "fetches"),
    ("<style>@import 'https://example.org/a.css';</style>", "fetches https://example"),
    ('<article><img src="a.png"></article>', "alternative text ''"),
    ('<article><img src="a.png" alt="_images/a.png"></article>', "alternative text"),
]
GOOD = [
    "<article><code>a ** b</code><pre>**kwargs</pre></article>",
    '<article><dl><dt class="sig">f(**options)</dt></dl></article>',
    '<article><dl class="field-list"><dd><strong>**options</strong> – all</dd></dl></article>',
    '<article><span class="math">$$x$$</span></article>',
    '<article><a href="https://example.org">read</a></article>',
    '<link rel="alternate" hreflang="en" href="https://example.org/">',
    '<article><img src="a.png" alt="A rising line"></article>',
]


@pytest.mark.parametrize(("html", "said"), BROKEN)
def test_broken_pages(html, said):
    assert said in "\n".join(page_problems(html))


@pytest.mark.parametrize("html", GOOD)
def test_good_pages(html):
    assert page_problems(html) == []


def test_style_sheets_are_read_too(small_book):
    small_book.site.mkdir(parents=True)
    (small_book.site / "a.css").write_text("a { background: url(https://example.org/a.png) }")
    assert problems(small_book) == ["a.css: fetches https://example.org/a.png"]


def test_links_are_followed_to_the_heading_that_they_name(tmp_path):
    (tmp_path / "b.html").write_text('<h2 id="here">Here</h2>')
    for target in ("b.html", "b.html#here", "https://example.org/gone"):
        (tmp_path / "a.html").write_text(f'<a href="{target}">there</a>')
        assert dead_links(tmp_path) == []
    for target in ("c.html", "b.html#gone"):
        (tmp_path / "a.html").write_text(f'<a href="{target}">there</a>')
        assert target in "\n".join(dead_links(tmp_path))
