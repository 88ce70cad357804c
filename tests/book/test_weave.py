"""Weaving: which mistakes of a Chinese page are named, and what weaving must not touch."""

import pytest
import yaml
from sample_pages import CHINESE, chinese_page

from tools.pages import weave
from tools.pages.book import read_blocks, read_notebook
from tools.pages.translation import page_problems, stamp, start

PAGE = "part/lesson"


def rewrite(book, change):
    """Apply `change` to the text of the Chinese page."""
    path = book.chinese_path(PAGE)
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    return page_problems(book, PAGE)


def blocks_of(text):
    """The page cut before each block header."""
    return ["<!--" + part for part in text.split("<!--")[1:]]


def test_a_faithful_page_has_no_problem(small_book):
    assert weave.problems(small_book) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "".join(blocks_of(text)[:2]), "missing block cell: summary"),
        (lambda text: "".join(blocks_of(text)[::2]), "missing block alt: result"),
        (
            lambda text: text.replace("cell: summary", "cell: ending"),
            "orphaned block cell: ending",
        ),
        (lambda text: text + blocks_of(text)[0], "repeated block cell: title"),
        (lambda text: "".join(blocks_of(text)[::-1]), "misordered block cell: summary"),
        (lambda text: text.replace(CHINESE["cell", "title"], ""), "empty block cell: title"),
        (lambda text: text.replace("alt:", "figure:"), "block kind 'figure'"),
        (lambda text: "words\n" + text, ":1: text before the first block"),
    ],
)
def test_wrong_blocks_are_named(small_book, change, said):
    assert said in "\n".join(rewrite(small_book, change))


def test_a_changed_english_cell_makes_its_block_stale_until_stamped(small_book, lesson):
    lesson.cells[2].source = lesson.cells[2].source.replace("See", "Read")
    from tools.pages.book import notebook_text

    small_book.notebook_path(PAGE).write_text(notebook_text(lesson), "utf-8")
    (problem,) = page_problems(small_book, PAGE)
    line = next(
        b.line for b in read_blocks(small_book.chinese_path(PAGE)) if b.cell == "summary"
    )
    assert f"lesson.md:{line}: stale block cell: summary" in problem
    stamp(small_book, small_book.chinese_path(PAGE))
    assert page_problems(small_book, PAGE) == []
    assert CHINESE["cell", "summary"] in small_book.chinese_path(PAGE).read_text("utf-8")


def test_differing_maths_is_named_with_its_block(small_book, lesson):
    text = chinese_page(
        lesson, {("cell", "title"): "# 软目标\n\n{eq}`loss` 给出 $t$ 下的损失。"}
    )
    problems = "\n".join(rewrite(small_book, lambda _: text))
    assert "block cell: title: maths missing: T" in problems
    assert "block cell: title: maths not in the English: t" in problems


def test_start_makes_one_empty_block_for_each_thing_to_translate(small_book):
    small_book.chinese_path(PAGE).unlink()
    start(small_book, PAGE)
    said = page_problems(small_book, PAGE)
    assert [problem.split(": ", 1)[1] for problem in said] == [
        "empty block cell: title",
        "empty block alt: result",
        "empty block cell: summary",
    ]
    with pytest.raises(SystemExit, match="exists already"):
        start(small_book, PAGE)


def test_weaving_leaves_code_outputs_and_ids_alone(small_book, lesson):
    folder = weave.weave(small_book)
    result = read_notebook(folder / f"{PAGE}.ipynb")
    assert [cell.id for cell in result.cells] == ["title", "result", "summary"]
    assert result.cells[0].source == CHINESE["cell", "title"]
    assert result.cells[1].source == lesson.cells[1].source
    assert result.cells[1].outputs == lesson.cells[1].outputs
    assert result.cells[1].metadata.mystnb.image.alt == CHINESE["alt", "result"]
    assert result.metadata == lesson.metadata


def test_the_chinese_site_has_its_own_words_and_language(small_book):
    folder = weave.weave(small_book)
    config = yaml.safe_load((folder / "_config.yml").read_text("utf-8"))
    contents = yaml.safe_load((folder / "_toc.yml").read_text("utf-8"))
    assert config["title"] == "蒸馏"
    assert config["sphinx"]["config"]["language"] == "zh_CN"
    assert config["sphinx"]["config"]["html_theme_options"] == {"search_bar_text": "搜索"}
    assert config["sphinx"]["config"]["book_words"] == {"cost": "开销"}
    assert contents["parts"][0]["caption"] == "基础"
    assert contents["root"] == PAGE


def test_a_caption_without_translation_is_named(small_book):
    path = small_book.root / "_toc.yml"
    path.write_text(path.read_text("utf-8").replace("Basics", "Advanced"), "utf-8")
    assert "no caption for 'Advanced'" in "\n".join(weave.problems(small_book))


def test_weaving_removes_what_no_longer_belongs(small_book):
    folder = weave.weave(small_book)
    (folder / "gone.ipynb").write_text("{}", "utf-8")
    (small_book.folder / "data.csv").write_text("a\n1\n", "utf-8")
    weave.weave(small_book)
    assert not (folder / "gone.ipynb").exists()
    assert (folder / "data.csv").exists()
    assert not (folder / "zh").exists()
