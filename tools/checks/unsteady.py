"""Which cells of a notebook show what the next machine may show differently.

    python -m tools.checks.unsteady             name every such cell of the book that has no tag
    python -m tools.checks.unsteady --write     give it the tag

Trained weights differ in their last digits from one processor to the next, times and memory
from run to run. An output that depends on them cannot be compared digit by digit, so its cell
carries the tag `nbval-ignore-output`. Which cells these are is derived from the code, see
dataflow.py, beginning with SOURCES and with every function of the library, or of a package
beside the page, that leads to one of them. The rule errs on the side of the tag;
a cell that it suspects wrongly says so by nbval's other tag, `nbval-check-output`, and is
compared, under other rounding too (`make shake`).
"""

import argparse
import ast
import re
import sys
from functools import cache
from pathlib import Path

from tools.checks.code_names import DEFINITIONS, words
from tools.checks.dataflow import Flow
from tools.pages.book import REPOSITORY, Book, notebook_text, read_notebook

IGNORED, COMPARED = "nbval-ignore-output", "nbval-check-output"
TRAINING = {"fit", "train_on_batch", "train_step", "apply_gradients", "minimize", "apply"}
TRAINING |= {"stateless_apply"}
CLOCKS = {"perf_counter", "process_time", "monotonic", "time", "timeit", "default_timer", "now"}
MACHINE = {"psutil", "getrusage", "tracemalloc", "cpu_count", "platform"}
SOURCES = TRAINING | CLOCKS | MACHINE
MAKERS = {"Model", "Sequential", "clone_model", "load_model"}
ANSWERS = {"predict_logits"}  # arrays, although models are mentioned on the way
RULE = (
    f"its output depends on training or time; tag it {IGNORED} "
    "(python -m tools.checks.unsteady --write)"
)


@cache
def definitions(path):
    """What a program file defines at its top: (name, whether a class, the words inside)."""
    body = ast.parse(path.read_text("utf-8")).body
    found = [node for node in body if isinstance(node, DEFINITIONS)]
    return [(node.name, isinstance(node, ast.ClassDef), words(node)) for node in found]


def leading_to(names, files):
    """`names`, and every function and class in `files` that leads to one of them."""
    defined = [one for path in files for one in definitions(path)]
    found, before = set(names), set()
    while found != before:
        before = set(found)
        found |= {name for name, _, inside in defined if inside & before}
    return found


def sources_in(files):
    """The unsteady words. A class is none: its objects train no sooner than `fit` is called."""
    classes = {name for path in files for name, is_class, _ in definitions(path) if is_class}
    return leading_to(SOURCES, files) - classes


def unsteady_cells(notebook, folder, library=REPOSITORY / "distill_lib"):
    """The code cells whose stored outputs depend on training, time or memory, in order.

    Args:
        notebook: a page with stored outputs.
        folder: where it stands; a package beside it that it imports is read too.
        library: folder of the library.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    source = "\n".join(cell.source for cell in code)
    imported = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
    beside = [path for name in imported for path in Path(folder, name).glob("*.py")]
    files = [*library.rglob("*.py"), *beside]
    flow = Flow(sources_in(files), leading_to(MAKERS, files) - ANSWERS)
    return [cell for cell in code if flow.cell(cell.source) and has_words(cell)]


def has_words(cell):
    """Whether a cell stores what nbval compares: neither pictures nor errors."""
    data = [output.get("data", {"text/plain": ""}) for output in cell.get("outputs", [])
            if output.output_type != "error"]  # fmt: skip
    return any(not bundle.get("text/plain", "").startswith("<Figure") for bundle in data)


def problems(book):
    """One sentence for each unsteady cell of all notebooks that lacks its tag."""
    found = []
    for path in map(book.notebook_path, book.notebook_names()):
        if path.exists():
            cells = untagged(read_notebook(path), path.parent)
            found += [f"{book.relative(path)}: cell {cell.id}: {RULE}" for cell in cells]
    return found


def untagged(notebook, folder, **options):
    """The unsteady cells that carry neither of the two tags."""
    found = unsteady_cells(notebook, folder, **options)
    return [
        cell for cell in found if not {IGNORED, COMPARED} & {*cell.metadata.get("tags", [])}
    ]


def tag(notebook, folder):
    """Give every unsteady cell its tag; the ids of those that had none."""
    cells = untagged(notebook, folder)
    for cell in cells:
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), IGNORED]
    return [cell.id for cell in cells]


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="add the missing tags")
    options = parser.parse_args()
    book = Book()
    found = problems(book)
    for path in map(book.notebook_path, book.notebook_names() if options.write else []):
        notebook = read_notebook(path)
        tag(notebook, path.parent)
        path.write_text(notebook_text(notebook), "utf-8")
    print("\n".join([*found, f"{len(found)} unsteady cells without a tag"]))
    sys.exit(bool(found) and not options.write)


if __name__ == "__main__":
    main()
