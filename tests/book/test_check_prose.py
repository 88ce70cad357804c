"""The rules for prose: what is a typed result, an avoided term, a figure without words."""

import pytest
from sample_pages import chinese_page

from tools.checks import check_prose
from tools.checks.check_prose import avoided_terms, typed_results
from tools.pages.glossary import read_terms

TYPED = [
    "The student reaches 93.1 % after training.",
    "It gains 4.1 points.",
    "About 90% of them agree.",
    "学生达到 93.1 % 的准确率。",
    "约有 90％ 一致。",
    "提高了百分之五。",
    "A fact {cite:p}`hinton2015`. Then 0.83 of ours.",
    "{cite:p}`hinton2015`说过。然后我们得到 0.83。",
    "| run | accuracy |\n|---|---|\n| one | 0.83 |",
    ":::{note}\nIt reaches 0.83.\n:::",
]
FREE = [
    "The temperature is $T = 2.5$, or `temperature=2.5`.",
    "$$\nL = 0.5 z^2\n$$",
    "```python\nx = 0.5\n```",
    "```{math}\nx = 0.5\n```",
    "```{image} a.png\n:width: 0.5\n```",
    "They report 98.4 % on it {cite:p}`hinton2015`.",
    "{cite:t}`hinton2015` 报告了 98.4 % 的结果。",
    "We keep a tenth, 0.1, for validation. <!-- given -->",
    "| symbol | default |\n|---|---|\n| $T$ | 2.0 |",
    "| 符号 | 默认 |\n|---|---|\n| $T$ | 2.0 |",
    "Python 3.11, Keras 3.12.0 and TensorFlow 2.21 work.",
    "Section 2.1 of the document, 第 2.1 节。",
    "See [the paper](https://arxiv.org/abs/1503.02531).",
    "Twelve pages, 784 inputs, 5 seeds, 1,000 images.",
    "It gains {glue:text}`gain` points.",
    "<!-- it was 0.83 -->",
    "The difference with its 95 % interval, and 其 95 % 置信区间。",
]


@pytest.mark.parametrize("text", TYPED)
def test_typed_results_are_found(text):
    assert list(typed_results(text))


@pytest.mark.parametrize("text", FREE)
def test_givens_are_free(text):
    assert list(typed_results(text)) == []


def test_the_line_of_a_typed_result_is_its_own():
    ((line, said),) = typed_results("# Title\n\n```python\nx = 0.1\n```\n\nIt is 0.83 now.")
    assert line == 7
    assert "'0.83'" in said


@pytest.fixture
def terms(small_book):
    return read_terms(small_book.folder / "glossary.csv")


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("A soft label tells more.", "en", True),
        ("Soft labels tell more.", "en", True),
        ("Call `soft label` what you like.", "en", False),
        ("Others say soft label. <!-- quoted -->", "en", False),
        ("A soft target tells more.", "en", False),
        ("软性目标说得更多。", "zh", True),
        ("软标签说得更多。", "zh", True),
        ("软目标与标签平滑。", "zh", False),
    ],
)
def test_avoided_terms(terms, text, language, found):
    assert bool(list(avoided_terms(text, terms, language))) == found


def test_an_approved_term_may_hold_an_avoided_one(terms):
    terms[0]["avoid_zh"] = "标签"
    assert list(avoided_terms("标签平滑。", terms, "zh")) == []
    assert list(avoided_terms("标签。", terms, "zh"))


def test_a_glossary_with_other_columns_is_refused(tmp_path):
    (tmp_path / "glossary.csv").write_text("english,chinese\na,b\n", "utf-8")
    with pytest.raises(ValueError, match="columns must be"):
        read_terms(tmp_path / "glossary.csv")


def test_both_languages_are_read_and_places_are_named(small_book, lesson):
    path = small_book.chinese_path("part/lesson")
    changed = {
        ("cell", "summary"): "## 小结\n\n得到 0.83。[论文](https://example.org/a)",
        ("alt", "result"): "线",
    }
    page = chinese_page(lesson, changed).replace("-->\n", "-->\n\n")
    path.write_text(page, "utf-8")
    first, second = check_prose.problems(small_book)
    number = (
        path.read_text("utf-8").splitlines().index("得到 0.83。[论文](https://example.org/a)")
        + 1
    )
    assert f"book/zh/part/lesson.md:{number}: typed number" in first
    assert "alt: result" in second
