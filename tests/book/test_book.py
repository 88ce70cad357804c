"""The book itself: every page, by every rule."""

import check_notebooks
import check_prose
import checks
import execute
import pytest
import weave
from pages import Book, read_notebook
from translation import page_problems

PAGES = Book().page_names()


def test_contents_match_the_files(real_book):
    assert checks.contents_problems(real_book) == []


@pytest.mark.parametrize("name", PAGES)
def test_the_notebook_follows_the_rules(real_book, name):
    notebook = read_notebook(real_book.notebook_path(name))
    assert check_notebooks.page_problems(notebook) == []


@pytest.mark.parametrize("name", PAGES)
def test_the_chinese_page_follows_the_english_one(real_book, name):
    assert page_problems(real_book, name) == []


def test_the_prose_follows_the_rules(real_book):
    assert check_prose.problems(real_book) == []


def test_the_picture_of_the_readme_is_the_one_of_the_front_page(real_book):
    found = execute.pictures(read_notebook(real_book.notebook_path("index")))
    assert set(found) == {"figures/labels.png"}
    for path, png in found.items():
        assert (real_book.folder / path).read_bytes() == png


def test_every_page_takes_less_than_a_minute_as_the_readme_says(real_book):
    records = {name: read_notebook(real_book.notebook_path(name)).metadata for name in PAGES}
    costs = {name: r.execution.cpu_seconds for name, r in records.items() if "execution" in r}
    assert costs
    assert {name: cost for name, cost in costs.items() if cost >= 60} == {}


def test_every_caption_is_translated(real_book):
    assert weave.site_problems(real_book) == []
