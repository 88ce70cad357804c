"""Weave the Chinese text into the executed English notebooks.

    python -m tools.pages.weave                          check, then write _build/zh-source
    python -m tools.pages.weave --check                  only check
    python -m tools.pages.weave --start math/objective   make a Chinese page of empty blocks
    python -m tools.pages.weave --stamp book/zh/math/objective.md

A Chinese page holds one block for each Markdown cell, in the notebook's order, and one for
each alternative text of a figure. A block opens with a line that names its cell and the hash
of the English text it translates, so that an edit of the English is noticed:

    <!-- cell: smallest en: 1a2b3c4d -->
    <!-- alt: figure-cell en: 5e6f7a8b -->

`--stamp` is for a translator who has read the English again: it renews the hashes.
"""

import argparse
import copy
import shutil
import sys
from pathlib import Path

import yaml

from tools.pages.book import (
    REPOSITORY,
    Book,
    notebook_text,
    read_blocks,
    read_notebook,
    write_if_changed,
)
from tools.pages.translation import page_problems, stamp, start

SOURCE_FOLDER = "zh-source"
LEFT_BEHIND = ("zh", "conftest.py", ".ipynb_checkpoints", "__pycache__", "_build")


def woven(notebook, blocks):
    """A copy of `notebook` with Chinese text; code, outputs and cell ids as they were."""
    result = copy.deepcopy(notebook)
    text = {(block.kind, block.cell): block.text for block in blocks}
    for cell in result.cells:
        if cell.cell_type == "markdown":
            cell.source = text["cell", cell.id]
            continue
        settings = cell.metadata.get("mystnb", {})
        for kind, group, key in (("alt", "image", "alt"), ("caption", "figure", "caption")):
            if (kind, cell.id) in text:
                settings[group][key] = text[kind, cell.id]
    return result


def site_words(book):
    """The words of the Chinese site that belong to no page: `book/zh/site.yml`."""
    return yaml.safe_load((book.chinese / "site.yml").read_text("utf-8"))


def site_problems(book):
    """What `site.yml` does not translate of the table of contents."""
    known = site_words(book)["captions"]
    wanted = _titles(book.table_of_contents())
    return [f"book/zh/site.yml: no caption for {title!r}" for title in wanted - known.keys()]


def _titles(node):
    """Every caption and title of a table of contents."""
    if isinstance(node, list):
        return set().union(*map(_titles, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    own = {value for key, value in node.items() if key in ("caption", "title")}
    return own.union(*map(_titles, node.values()))


def _translated(node, words):
    """A table of contents with its captions and titles replaced."""
    if isinstance(node, list):
        return [_translated(item, words) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: words[value] if key in ("caption", "title") else _translated(value, words)
        for key, value in node.items()
    }


def chinese_config(book):
    """The Chinese `_config.yml`: the English one with the words and language replaced."""
    config = yaml.safe_load((book.root / "_config.yml").read_text("utf-8"))
    words = site_words(book)
    config.update({key: words[key] for key in ("title", "author") if key in words})
    sphinx = config["sphinx"]
    # Jupyter Book resolves these from the folder of the config file, which moves.
    sphinx["local_extensions"] = {
        name: str((book.root / path).resolve())
        for name, path in sphinx["local_extensions"].items()
    }
    sphinx["config"].update(language="zh_CN", **words.get("config", {}))
    sphinx["config"]["book_words"] = words.get("strings", {})
    sphinx["config"]["book_description"] = words["description"]
    sphinx["config"]["html_theme_options"].update(words.get("theme", {}))
    return config


def weave(book):
    """Write the Chinese sources; the caller has checked them.

    Returns:
        The folder that holds `_config.yml`, `_toc.yml` and the notebooks.
    """
    target = book.build / SOURCE_FOLDER
    wanted = set()
    for name in book.page_names():
        notebook = woven(
            read_notebook(book.notebook_path(name)), read_blocks(book.chinese_path(name))
        )
        wanted.add(target / f"{name}.ipynb")
        write_if_changed(target / f"{name}.ipynb", notebook_text(notebook))
    contents = _translated(book.table_of_contents(), site_words(book)["captions"])
    for name, content in (("_toc.yml", contents), ("_config.yml", chinese_config(book))):
        wanted.add(target / name)
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        write_if_changed(target / name, text)
    wanted |= _copy_companions(book, target)
    for path in target.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    return target


def _copy_companions(book, target):
    """Copy what pages refer to (figures, bibliography, tables); return the copies."""
    copies = set()
    for path in book.folder.rglob("*"):
        inside = path.relative_to(book.folder)
        if path.is_dir() or path.suffix == ".ipynb" or set(LEFT_BEHIND) & set(inside.parts):
            continue
        copies.add(target / inside)
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target / inside)
    return copies


def problems(book):
    """Everything that is wrong with the Chinese text of the whole book."""
    pages = [name for name in book.page_names() if book.notebook_path(name).exists()]
    found = [problem for name in pages for problem in page_problems(book, name)]
    return found + site_problems(book)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--start", metavar="PAGE", help="make a Chinese page of empty blocks")
    parser.add_argument("--stamp", metavar="FILE", nargs="+", type=Path, help="renew hashes")
    options = parser.parse_args()
    book = Book(options.root.resolve())
    if options.start:
        return start(book, options.start)
    for path in options.stamp or []:
        stamp(book, path)
    found = problems(book)
    if found:
        sys.exit("\n".join(found))
    if not (options.check or options.stamp):
        print(book.relative(weave(book)))


if __name__ == "__main__":
    main()
