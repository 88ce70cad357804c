"""The bug museum: a check and a test of the library, and no bug passes either of them."""

import inspect
import re
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
sys.path.append(str(TESTS.parent / "book" / "code"))

import museum  # noqa: E402 (it needs the path above)

PAGES = "book/code/bug_museum.ipynb", "book/zh/code/bug_museum.md"
GUARDED = [exhibit for exhibit in museum.EXHIBITS if exhibit.guard]


def name(exhibit):
    return exhibit.bug.__name__


@pytest.mark.parametrize("exhibit", museum.EXHIBITS, ids=name)
def test_the_check_passes_the_library_and_fails_the_bug(exhibit):
    assert exhibit.check(exhibit.ours).right
    assert not exhibit.check(exhibit.bug).right


class Observer:
    """A plugin of pytest that runs a test for one function and keeps what became of it."""

    def __init__(self, function):
        self.function, self.outcomes, self.errors = function, [], []

    def pytest_collection_modifyitems(self, items):
        """Of a test with several functions for parameters, keep the one function."""
        given = [getattr(item, "callspec", None) for item in items]
        kept = [one and self.function in one.params.values() for one in given]
        if any(kept):
            items[:] = [item for item, keep in zip(items, kept, strict=True) if keep]

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.outcomes.append(report.outcome)

    def pytest_exception_interact(self, call):
        self.errors.append(call.excinfo.type)


def observe(node, function):
    """Run a test of this folder."""
    observer = Observer(function)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent)]
    pytest.main([*options, str(TESTS / node)], plugins=[observer])
    return observer


def forward(*arguments, **options):
    return put_in_place(*arguments, **options)  # noqa: F821 (a global of the module it is for)


def put(bug, function, monkeypatch):
    """Let `function` do what `bug` does, whoever holds it: only its code is exchanged."""
    signature = inspect.signature(function)
    taken = inspect.signature(bug).parameters

    def put_in_place(*arguments, **options):
        return bug(*arguments, **{k: v for k, v in options.items() if k in taken})

    monkeypatch.setitem(function.__globals__, "put_in_place", put_in_place)
    monkeypatch.setattr(function, "__signature__", signature, raising=False)
    for part in ("__kwdefaults__", "__defaults__", "__code__"):
        monkeypatch.setattr(function, part, getattr(forward, part))


@pytest.mark.parametrize("exhibit", GUARDED, ids=name)
def test_a_test_of_the_library_does_not_let_the_bug_pass(exhibit, monkeypatch):
    ours = getattr(exhibit.ours, "func", exhibit.ours)
    assert set(observe(exhibit.guard, ours).outcomes) == {"passed"}
    put(exhibit.bug, ours, monkeypatch)
    found = observe(exhibit.guard, ours)
    assert "failed" in found.outcomes
    # Because of what the bug computes, not only because it cannot be called like that.
    assert {*found.errors} & {AssertionError, pytest.fail.Exception}


def test_every_exhibit_has_its_source_and_its_test_on_the_page():
    for page in PAGES:
        text = (TESTS.parent / page).read_text("utf-8")
        for exhibit in museum.EXHIBITS:
            assert exhibit.source in text, (page, exhibit.source)
            assert exhibit.guard.rpartition("::")[2] in text, (page, exhibit.guard)
    named = re.findall(
        r"`(test_\w+)` in `([\w/]+\.py)`", (TESTS.parent / PAGES[0]).read_text("utf-8")
    )
    assert len(named) >= len(museum.EXHIBITS)
    for test, file in named:
        assert f"def {test}(" in (TESTS / file).read_text("utf-8"), (test, file)
