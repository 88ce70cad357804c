"""Cells, a page and the words of a tiny book, for the tests of the machinery."""

import nbformat

from tools.pages.book import outputs_hash, text_hash, translatable
from tools.run.execute import NEUTRAL_METADATA

FIGURE = {"image": {"alt": "A line that rises from the lower left to the upper right."}}


def markdown_cell(name, source):
    """A Markdown cell with a chosen id."""
    return nbformat.v4.new_markdown_cell(source, id=name)


def code_cell(name, source, *, outputs=(), count=1, **metadata):
    """A code cell with a chosen id; `count` None means that it never ran."""
    return nbformat.v4.new_code_cell(
        source, id=name, outputs=list(outputs), execution_count=count, metadata=metadata
    )


def picture():
    """An output that shows a picture."""
    return nbformat.v4.new_output("display_data", data={"image/png": "aGVsbG8="})


def notebook_of(*cells):
    """A notebook that looks as if tools/run/execute.py had run it."""
    notebook = nbformat.v4.new_notebook(metadata=dict(NEUTRAL_METADATA))
    notebook.cells = list(cells)
    notebook.metadata["execution"] = {"outputs_sha256": outputs_hash(notebook)}
    return notebook


CHINESE = {
    ("cell", "title"): "# 软目标\n\n{eq}`loss` 给出 $T$ 下的损失。",
    ("alt", "result"): "一条线从左下角一直上升到右上角的示意图。",
    ("cell", "summary"): "## 小结\n\n参见[论文](https://example.org/a)。",
}
CONFIG = {
    "title": "Distillation",
    "sphinx": {
        "local_extensions": {"book_site": "tools/site"},
        "config": {"language": "en", "html_theme_options": {"search_bar_text": "Search"}},
    },
}
SITE = {
    "title": "蒸馏",
    "description": "一本书。",
    "captions": {"Basics": "基础"},
    "config": {"togglebutton_hint": "展开"},
    "theme": {"search_bar_text": "搜索"},
    "strings": {"cost": "开销"},
}


GLOSSARY = """term_en,term_zh,definition_en,definition_zh,avoid_en,avoid_zh
soft target,软目标,A whole answer.,完整的回答。,soft label,软标签|软性目标
label smoothing,标签平滑,Mixing.,混合。,,
"""


def chinese_page(notebook, changes=None):
    """The text of a Chinese page for `notebook`; `changes` replaces the text of blocks."""
    words = {**CHINESE, **(changes or {})}
    return "\n".join(
        f"<!-- {kind}: {cell} en: {text_hash(text)} -->\n{words[kind, cell]}\n"
        for kind, cell, text in translatable(notebook)
    )
