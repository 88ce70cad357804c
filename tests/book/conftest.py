"""What the tests of the machinery share: the tools' folder, the book, and a tiny one."""

import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools" / "site")]

import sample_pages as samples  # noqa: E402 (it needs the paths above)

from tools.pages.book import Book, notebook_text, write_if_changed  # noqa: E402


@pytest.fixture
def lesson():
    """A notebook without a fault."""
    return samples.notebook_of(
        samples.markdown_cell("title", "# Soft targets\n\nThe loss at $T$ is in {eq}`loss`."),
        samples.code_cell(
            "result", "plot()", outputs=[samples.picture()], mystnb=samples.FIGURE
        ),
        samples.markdown_cell(
            "summary", "## Summary\n\nSee [the paper](https://example.org/a)."
        ),
    )


@pytest.fixture
def small_book(tmp_path, lesson):
    """A book of one page, `part/lesson`, without a fault in either language."""
    book = Book(tmp_path)
    contents = {"root": "part/lesson", "parts": [{"caption": "Basics", "chapters": []}]}
    for path, content in (
        (tmp_path / "_toc.yml", contents),
        (tmp_path / "_config.yml", samples.CONFIG),
        (book.chinese / "site.yml", samples.SITE),
    ):
        write_if_changed(path, yaml.safe_dump(content, allow_unicode=True))
    write_if_changed(book.notebook_path("part/lesson"), notebook_text(lesson))
    write_if_changed(book.folder / "glossary.csv", samples.GLOSSARY)
    write_if_changed(book.chinese_path("part/lesson"), samples.chinese_page(lesson))
    return book


@pytest.fixture(scope="session")
def real_book():
    """The book of this repository."""
    return Book(ROOT)
