"""The build's guards, without a build."""

import build
import check_site
import checks
import pytest
from book_site.cards import card
from book_site.search import SearchHan
from pages import only_pages


def test_an_empty_site_is_noticed(small_book):
    html = small_book.build / "en" / "_build" / "html" / "part"
    assert build.page_faults(small_book, "en") == ["en: part/lesson.html was not built"]
    html.mkdir(parents=True)
    (html / "lesson.html").write_text("<html></html>")
    assert "has only 13 bytes" in build.page_faults(small_book, "en")[0]
    (html / "lesson.html").write_text("x" * build.SMALLEST_PAGE)
    assert build.page_faults(small_book, "en") == []


@pytest.mark.parametrize("name", ["_toc.yml", "book/glossary.csv", "book/zh/part/lesson.md"])
def test_every_ingredient_changes_the_fingerprint(small_book, name):
    before = build.fingerprint(small_book)
    assert build.fingerprint(small_book) == before
    path = small_book.root / name
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    assert build.fingerprint(small_book) != before


def test_publishing_english_keeps_chinese(small_book):
    for language, text in (("zh", "中文"), ("en", "English")):
        html = small_book.build / language / "_build" / "html"
        html.mkdir(parents=True)
        (html / "index.html").write_text(text, "utf-8")
        build.publish(small_book, language)
    assert (small_book.site / "index.html").read_text("utf-8") == "English"
    assert (small_book.site / "zh" / "index.html").read_text("utf-8") == "中文"


def test_a_failing_build_ends_with_the_problems_and_no_stamp(small_book):
    small_book.chinese_path("part/lesson").unlink()
    with pytest.raises(SystemExit, match=r"lesson\.md: in _toc\.yml, but missing"):
        build.build(small_book)
    assert not (small_book.build / "site.stamp").exists()


def test_orphans_and_gaps_of_the_contents_are_named(small_book):
    assert checks.contents_problems(small_book) == []
    (small_book.folder / "stray.ipynb").write_text("{}", "utf-8")
    (small_book.chinese / "stray.md").write_text("", "utf-8")
    small_book.notebook_path("part/lesson").unlink()
    assert checks.contents_problems(small_book) == [
        "book/part/lesson.ipynb: in _toc.yml, but missing",
        "book/stray.ipynb: not in _toc.yml",
        "book/zh/stray.md: not in _toc.yml",
    ]


def test_a_draft_lists_only_pages_that_exist():
    contents = {
        "root": "a",
        "parts": [{"caption": "P", "chapters": [{"file": "b"}, {"file": "c"}]}],
    }
    assert only_pages(contents, ["a", "c"])["parts"][0]["chapters"] == [{"file": "c"}]


def test_han_is_indexed_by_character_and_pair():
    terms = SearchHan({}).split("用KL散度 soft_target")
    assert terms == ["用", "KL", "散", "度", "散度", "soft_target"]


def test_the_card_says_minutes_when_seconds_are_many():
    words = {
        "cost": "Cost", "minutes": "{value} min", "seconds": "{value} s",
        "memory": "{value} MB", "machine": "{cores} x {cpu}", "measured": "{date}",
    }  # fmt: skip
    record = {
        "cpu_seconds": 150, "peak_memory_mb": 1234, "cores": 2, "cpu": "A <b>",
        "versions": {"python": "3.11.7"}, "date": "2026-01-01",
    }  # fmt: skip
    html = card(words, record)
    assert "<li>2 min</li>" in html
    assert "<li>1,234 MB</li>" in html
    assert "A &lt;b&gt;" in html
    assert "<li>20 s</li>" in card(words, {**record, "cpu_seconds": 20.4})


def test_the_finished_sites_have_no_problem(real_book):
    if not (real_book.build / "site.stamp").exists():
        pytest.skip("not built; run tools/build.py")
    assert check_site.problems(real_book) == []
