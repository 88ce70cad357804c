"""The mutation tests: what is mutated, that killers are seen, and what the score says."""

import os
import subprocess
import sys
from dataclasses import replace

import mutants
import pytest
from mutants_store import Mutant, as_markdown, read, score, write

CODE = '''"""A docstring with 1 + 1."""

LIMIT = 3


class Counter:
    """Of things."""

    def add(self, number: int = 1):
        """Add 2 things."""
        if number < 0:
            raise ValueError("number must not be negative")
        return len([1]) + number


def clipped(number):
    while number > LIMIT:
        number -= 1
    return number
'''
TESTS = """
from tiny import Counter, clipped

def test_add():
    assert Counter().add(2) == 3

def test_clipped():
    assert [clipped(n) for n in (1, 3, 5)] == [1, 3, 3]
"""
RUN = """
import sys
from pathlib import Path
from mutants_make import mutants_of
from mutants_run import Runner
root = Path(sys.argv[1])
pairs = mutants_of("tiny/__init__.py", (root / "tiny" / "__init__.py").read_text())
tests = ["tests/test_tiny.py"]
with Runner(root, "tiny", preloaded=(), slack=2) as runner:
    runner.check(tests)
    for one in runner.run([(*pair, tests) for pair in pairs], workers=2):
        print(one.outcome, one.by.split("::")[-1], one.before + " -> " + one.after, sep="\\t")
"""


@pytest.fixture
def changes():
    """(before, after) of all mutants of the code above."""
    make = pytest.importorskip("mutants_make", reason="make mutants installs mutmut")
    return [(m.before, m.after) for m, _ in make.mutants_of("tiny/__init__.py", CODE)]


def test_numbers_operators_and_arguments_are_mutated(changes):
    assert ("LIMIT = 3", "LIMIT = 4") in changes
    assert ("if number < 0:", "if number <= 0:") in changes
    assert ("number -= 1", "number += 1") in changes
    assert ("def add(self, number: int = 1):", "def add(self, number: int = 2):") in changes
    assert len(set(changes)) == len(changes)


def test_prose_and_what_changes_nothing_is_left_alone(changes):
    text = " ".join(after for _, after in changes)
    assert "XX" not in text
    assert "len(None)" not in text
    assert "docstring" not in text


def keys_of(code, function):
    make = pytest.importorskip("mutants_make")
    pairs = make.mutants_of("tiny/__init__.py", code)
    return {mutant.key for mutant, _ in pairs if mutant.function == function}


def test_a_key_outlives_changes_of_other_functions_and_of_docstrings():
    other = CODE.replace("Add 2 things.", "Add 3.").replace("number -= 1", "number -= 2")
    assert keys_of(CODE, "Counter.add") == keys_of(other, "Counter.add") != set()
    assert keys_of(CODE, "clipped").isdisjoint(keys_of(other, "clipped"))


def test_the_runner_tells_killed_from_survived(tmp_path):
    pytest.importorskip("mutants_make")
    for name, text in (("tiny/__init__.py", CODE), ("tests/test_tiny.py", TESTS)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").touch()
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(mutants.ROOT / "tools")},
        cwd=tmp_path,
    )
    found = {}
    for line in done.stdout.splitlines():
        outcome, by, change = line.split("\t")
        found[change] = outcome, by
    assert found["LIMIT = 3 -> LIMIT = 4"] == ("killed", "test_clipped")
    assert found["number -= 1 -> number += 1"] == ("killed", "timeout")
    assert found["if number < 0: -> if number <= 0:"] == ("survived", "")
    change = "return len([1]) + number -> return len([1]) - number"
    assert found[change] == ("killed", "test_add")
    assert (tmp_path / "tiny/__init__.py").read_text() == CODE


def some(count, outcome, file="a/b.py"):
    return [Mutant(file, 1, "f", "x", "y", f"{outcome}{i}", outcome) for i in range(count)]


def test_the_score_is_the_share_of_killed_among_those_that_were_run():
    found = some(19, "killed") + some(1, "survived") + some(4, "")
    assert score(found) == (19, 20, 95.0)
    assert "| `a/b.py` | 20 | 20 | 19 | 95.0 |" in as_markdown(found, {"a/b.py": 20})
    sample = as_markdown(found, {"a/b.py": 40})
    assert "| `a/` | 40 | 20 | 19 | 95.0 [76.4, 99.1] |" in sample


def test_the_table_comes_back_as_it_was_stored(tmp_path):
    found = [replace(one, before='a, "b"', explanation="Équal.") for one in some(3, "killed")]
    write(tmp_path / "mutants.csv", found)
    assert read(tmp_path / "mutants.csv") == found
    assert read(tmp_path / "none.csv") == []


def test_samples_are_nested_and_of_the_size_that_was_asked_for():
    keys = [f"{i * 7919 % 4096:03x}" for i in range(4096)]
    small, large = ({key for key in keys if mutants.is_drawn(key, s)} for s in (0.25, 0.5))
    assert small < large
    assert len(small) == 1024
    assert all(mutants.is_drawn(key, 1.0) for key in keys)


@pytest.mark.parametrize("part", ["losses/", "distiller.py", "terms.py", "features.py"])
def test_the_stored_score_is_95_percent_and_every_survivor_is_explained(part):
    found = [one for one in read(mutants.STORE) if one.file.startswith(f"distill_lib/{part}")]
    if not found:
        pytest.skip(f"{part} has not been run since its tests changed: make mutants")
    assert score(found)[2] >= 95
    survivors = [one for one in found if one.outcome == "survived"]
    assert [f"{one.file}:{one.line}" for one in survivors if not one.explanation] == []


def test_what_is_stored_is_of_the_code_as_it_is_today():
    """Change a function, and `make mutants` has to be run again: for that function alone."""
    make = pytest.importorskip("mutants_make")
    today = {
        mutant.key
        for file in mutants.TESTS
        for mutant, _ in make.mutants_of(file, (mutants.ROOT / file).read_text())
    }
    assert {one.key for one in read(mutants.STORE)} <= today
