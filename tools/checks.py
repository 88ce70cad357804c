"""Everything that can be said about the book without running it.

    python tools/checks.py           the sources: notebooks, Chinese pages, table of contents
    python tools/checks.py --site    the finished sites in _build/site too

Each problem is one line that names the file, the cell, and what is wrong. The tests in
tests/book call the same functions.
"""

import argparse
import sys
from pathlib import Path

import check_notebooks
import check_prose
import check_site
import unsteady
import weave
from pages import REPOSITORY, Book, read_notebook


def contents_problems(book):
    """Pages of the table of contents without a file, and files without a place in it."""
    names = book.page_names()
    problems = [
        f"_toc.yml: {name} is listed twice" for name in {*names} if names.count(name) > 1
    ]
    for name in names:
        for path in (book.notebook_path(name), book.chinese_path(name)):
            if not path.exists():
                problems.append(f"{book.relative(path)}: in _toc.yml, but missing")
    for path in sorted(book.folder.rglob("*.ipynb")):
        inside = path.relative_to(book.folder)
        # Notebooks in sweeps/ are run by papermill with many parameters; they are not pages.
        if inside.parts[0] == "sweeps" or ".ipynb_checkpoints" in inside.parts:
            continue
        if inside.with_suffix("").as_posix() not in names:
            problems.append(f"{book.relative(path)}: not in _toc.yml")
    for path in sorted(book.chinese.rglob("*.md")):
        if path.relative_to(book.chinese).with_suffix("").as_posix() not in names:
            problems.append(f"{book.relative(path)}: not in _toc.yml")
    return problems


def source_problems(book):
    """Every problem of the sources."""
    problems = contents_problems(book) + weave.problems(book)
    for name in book.page_names():
        path = book.notebook_path(name)
        if path.exists():
            found = check_notebooks.page_problems(read_notebook(path))
            problems += [f"{book.relative(path)}: {text}" for text in found]
    return problems + unsteady.problems(book) + check_prose.problems(book)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    parser.add_argument("--site", action="store_true", help="check the finished sites too")
    options = parser.parse_args()
    book = Book(options.root.resolve())
    found = source_problems(book)
    if options.site:
        found += check_site.problems(book)
    if found:
        sys.exit("\n".join([*found, f"{len(found)} problems"]))
    print(f"{len(book.page_names())} pages, no problem")


if __name__ == "__main__":
    main()
