"""What counts as equal between an English cell and its translation."""

import pytest

from tools.pages.syntax import differences

SAME = [
    ("The loss $L$ at $T = 2$.", "在 $T=2$ 时的损失 $L$。"),
    ("$$a \\text{ if } b$$ (eq-a)", "$$a \\text{ 如果 } b$$ (eq-a)"),
    ("See {ref}`the page <soft>`.", "见 {ref}`此页 <soft>`。"),
    ("{cite:p}`hinton2015` says so.", "{cite:p}`hinton2015` 如是说。"),
    ("Got {glue:text}`gain`.", "得到 {glue:text}`gain`。"),
    (":::{admonition} Note\nUse `fit`.\n:::", ":::{admonition} 注意\n用 `fit`。\n:::"),
    (
        "```{exercise} Heat\n:label: ex\nDo it.\n```",
        "```{exercise} 温度\n:label: ex\n做吧。\n```",
    ),
    ("```{image} a.png\n:alt: A line\n```", "```{image} a.png\n:alt: 一条线\n```"),
    ("As $T$ grows, it wins.", "$T$ 越大，$T$ 越占优。"),
    ("Set `a=1,\nb=2`.", "设 `a=1, b=2`。"),
    ("It costs \\$5 and \\$6.", "要价 \\$5 和 \\$6。"),
    ("[Paper](https://a.org/x).", "[论文](https://a.org/x)。"),
    ("See <https://a.org/x>.", "见 <https://a.org/x>。"),
    ("| a | b |\n|---|---|\n| $x$ | c |", "| 甲 | 乙 |\n|---|---|\n| $x$ | 丙 |"),
]
DIFFERENT = [
    ("$T^2$", "$T$", "maths"),
    ("```{math}\n:label: a\nx + y\n```", "```{math}\n:label: a\nx - y\n```", "maths"),
    ("$$x$$ (one)", "$$x$$ (two)", "label"),
    ("(start)=\n# A", "(begin)=\n# 甲", "label"),
    ("```{exercise}\n:label: ex\n```", "```{exercise}\n:label: ey\n```", "option"),
    ("{ref}`soft`", "{ref}`hard`", "role"),
    ("{eq}`a` and {eq}`a`", "{eq}`a`", "role"),
    ("{cite:p}`hinton2015`", "{cite:p}`bucila2006`", "role"),
    ("{glue:text}`gain`", "{glue:text}`loss`", "role"),
    (":::{note}\nA.\n:::", ":::{tip}\n甲。\n:::", "directive"),
    ("```{figure} a.png\n```", "```{figure} b.png\n```", "directive"),
    (":::{note}\nSee $x$.\n:::", ":::{note}\n见 $y$。\n:::", "maths"),
    ("[a](https://a.org)", "[甲](https://b.org)", "link"),
    ("https://a.org/x", "没有", "link"),
    ("![a](a.png)", "![甲](b.png)", "image"),
    ("Use `fit`.", "用 `train`。", "code"),
    ("```python\nx = 1\n```", "```python\nx = 2\n```", "code block"),
    ("Word[^one].", "词[^two]。", "footnote"),
    ("## A", "### 甲", "heading"),
    ("| a |\n|---|\n| b |", "| 甲 |\n|---|", "table row"),
]


@pytest.mark.parametrize(("english", "chinese"), SAME)
def test_words_may_differ(english, chinese):
    assert differences(english, chinese) == []


@pytest.mark.parametrize(("english", "chinese", "kind"), DIFFERENT)
def test_what_is_not_words_may_not(english, chinese, kind):
    assert {message.split(" ")[0] for message in differences(english, chinese)} == {
        kind.split(" ")[0]
    }
