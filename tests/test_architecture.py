"""The library stays small, and its arrows point one way."""

import ast
from pathlib import Path

import pytest

import distill_lib

LONGEST_LIBRARY = 6_400  # lines; the aim of the design is 3,200
LIBRARY = Path(distill_lib.__file__).parent
FILES = sorted(LIBRARY.rglob("*.py"))
NAMES = [path.relative_to(LIBRARY).as_posix() for path in FILES]


def imported(source, package):
    """Absolute names of everything that a module imports, wherever the import stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def imports_of(path):
    folder = path.parent.relative_to(LIBRARY.parent)
    return imported(path.read_text(encoding="utf-8"), ".".join(folder.parts))


def within(name, package):
    return name == package or name.startswith(package + ".")


def long_functions(source, limit):
    """Names of functions whose body has ``limit`` lines or more, the docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and body[-1].end_lineno - body[0].lineno + 1 >= limit:
                found.append(node.name)
    return found


def test_the_reader_of_imports_sees_every_form():
    source = "import a.b\nfrom c import d\ndef f():\n    from . import g\n    from .h import i"
    assert imported(source, "p.q") == {"a.b", "c.d", "p.q.g", "p.q.h.i"}
    assert imported("from ..r import s", "p.q") == {"p.r.s"}


def test_the_measure_of_functions_leaves_out_docstrings():
    body = "    x = 1\n" * 25
    assert long_functions("def f():\n" + body, 25) == ["f"]
    assert long_functions('def f():\n    """A\n    B"""\n' + body[10:], 25) == []


def test_the_files_were_found():
    assert {"data.py", "plots.py", "losses/__init__.py"} <= set(NAMES)


def test_losses_know_nothing_else_of_the_library():
    for path in (LIBRARY / "losses").glob("*.py"):
        own = {name for name in imports_of(path) if within(name, "distill_lib")}
        assert {name for name in own if not within(name, "distill_lib.losses")} == set(), path


def test_losses_use_no_backend_of_their_own():
    for path in (LIBRARY / "losses").glob("*.py"):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & {"tensorflow", "torch", "jax"}, path


def test_plots_know_nothing_of_keras_or_of_the_library():
    roots = {name.split(".")[0] for name in imports_of(LIBRARY / "plots.py")}
    assert roots == {"matplotlib", "numpy"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_library_knows_nothing_of_the_book_its_tools_and_its_tests(path):
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & {"book", "tools", "tests"}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_and_functions_are_short_and_check_without_assert(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 200
    assert long_functions(source, limit=25) == []
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source)))


def test_the_whole_library_is_small():
    """Docstrings count; the blank lines that the formatter puts between functions do not."""
    lines = [line for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) <= LONGEST_LIBRARY
