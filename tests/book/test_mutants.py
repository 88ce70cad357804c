"""The mutation tests: what is mutated, that killers are seen, and what the score says."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tools.measure import mutants
from tools.measure.mutants_store import Mutant, as_markdown, read, score, write

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


def name():
    return "sign"
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
from tools.measure.mutants_make import mutants_of
from tools.measure.mutants_run import Runner
root = Path(sys.argv[1])
pairs = mutants_of("tiny/__init__.py", (root / "tiny" / "__init__.py").read_text())
tests = ["tests/test_tiny.py"]
with Runner(root, "tiny", preloaded=(), slack=2) as runner:
    runner.check(tests)
    for one in runner.run(pairs, tests, workers=2):
        print(one.outcome, one.by.split("::")[-1], one.before + " -> " + one.after, sep="\\t")
"""


@pytest.fixture
def changes():
    """(before, after) of all mutants of the code above."""
    make = pytest.importorskip("tools.measure.mutants_make", reason="needs mutmut")
    return [(m.before, m.after) for m, _ in make.mutants_of("tiny/__init__.py", CODE)]


def test_numbers_operators_and_arguments_are_mutated(changes):
    assert ("LIMIT = 3", "LIMIT = 4") in changes
    assert ("if number < 0:", "if number <= 0:") in changes
    assert ("number -= 1", "number += 1") in changes
    assert ("def add(self, number: int = 1):", "def add(self, number: int = 2):") in changes
    assert len(set(changes)) == len(changes)


def test_prose_and_what_changes_nothing_is_left_alone(changes):
    text = " ".join(after for _, after in changes)
    assert "len(None)" not in text
    assert "docstring" not in text
    assert [after for _, after in changes if "sign" in after.lower()] == ['return "XXsignXX"']


def keys_of(code, function):
    make = pytest.importorskip("tools.measure.mutants_make")
    pairs = make.mutants_of("tiny/__init__.py", code)
    return {mutant.key for mutant, _ in pairs if mutant.function == function}


def test_a_key_outlives_changes_of_other_functions_and_of_docstrings():
    other = CODE.replace("Add 2 things.", "Add 3.").replace("number -= 1", "number -= 2")
    assert keys_of(CODE, "Counter.add") == keys_of(other, "Counter.add") != set()
    assert keys_of(CODE, "clipped").isdisjoint(keys_of(other, "clipped"))


def test_the_runner_tells_killed_from_survived(tmp_path):
    pytest.importorskip("tools.measure.mutants_make")
    for name, text in (("tiny/__init__.py", CODE), ("tests/test_tiny.py", TESTS)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").touch()
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(mutants.ROOT)},
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
    text = as_markdown(found, {"a/b.py": 40, "a/c/d.py": 10, "a/z.py": 2})
    assert "| `a/b.py` | 40 | 20 | 19 | 95.0 |" in text
    assert "| `a/` | 42 | 20 | 19 | 95.0 |" in text


def test_the_table_comes_back_as_it_was_stored(tmp_path):
    found = [replace(one, before='a, "b"', explanation="Équal.") for one in some(3, "killed")]
    write(tmp_path / "mutants.csv", found)
    assert read(tmp_path / "mutants.csv") == found
    assert read(tmp_path / "none.csv") == []


def test_a_file_is_judged_by_its_own_tests_or_by_those_of_its_users(tmp_path):
    for path, text in {
        "distill_lib/__init__.py": "",
        "distill_lib/plots.py": "",
        "distill_lib/terms.py": "from distill_lib import helper",
        "distill_lib/helper.py": "from distill_lib.deeper import x",
        "distill_lib/deeper.py": "from distill_lib import helper",
        "distill_lib/losses/_safe.py": "",
        "distill_lib/losses/feature.py": "from distill_lib.losses._safe import x",
        "tests/test_terms.py": "",
        "tests/test_terms_masks.py": "",
        "tests/test_determs.py": "",
        "tests/losses/test_feature.py": "",
        "tests/losses/test_safe.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    own = {"tests/test_terms.py", "tests/test_terms_masks.py"}
    losses = {"tests/losses/test_feature.py"}
    assert list(mutants.mutable_files(tmp_path).items()) == [
        ("distill_lib/losses/_safe.py", losses | {"tests/losses/test_safe.py"}),
        ("distill_lib/losses/feature.py", losses),
        ("distill_lib/terms.py", own),
        ("distill_lib/deeper.py", own),
        ("distill_lib/helper.py", own),
    ]


def test_every_file_that_is_mutated_has_tests():
    assert [file for file, tests in mutants.mutable_files().items() if not tests] == []


def test_what_is_stored_is_not_run_again_before_its_function_changes():
    pytest.importorskip("tools.measure.mutants_make")
    jobs, known = mutants.plan("tiny/__init__.py", CODE, {})
    assert len(jobs) == len(known) > 5
    stored = {one.key: replace(one, outcome="survived", explanation="Equal.") for one in known}
    assert mutants.plan("tiny/__init__.py", CODE, stored)[0] == []
    assert mutants.plan("tiny/__init__.py", CODE, stored, "killed")[0] == []
    assert len(mutants.plan("tiny/__init__.py", CODE, stored, "survived")[0]) == len(known)
    jobs, known = mutants.plan("tiny/__init__.py", "\n" + CODE, stored)
    assert jobs == []
    assert {one.explanation for one in known} == {"Equal."}
    jobs, _ = mutants.plan("tiny/__init__.py", CODE.replace("-= 1", "-= 3"), stored)
    assert {mutant.function for mutant, _ in jobs} == {"clipped"}


@pytest.mark.parametrize(
    "part", ["losses/", "distiller", "terms", "features", "signals", "training"]
)
def test_the_stored_score_is_95_percent_and_every_survivor_is_explained(part):
    found = [one for one in read(mutants.STORE) if one.file.startswith(f"distill_lib/{part}")]
    if not found:
        pytest.skip(f"{part} has not been run: make mutants")
    assert score(found)[2] >= 95
    survivors = [one for one in found if one.outcome == "survived"]
    assert [f"{one.file}:{one.line}" for one in survivors if not one.explanation] == []


def test_what_is_stored_is_of_the_code_as_it_is_today():
    """Change a function, and `make mutants` has to be run again: for that function alone."""
    make = pytest.importorskip("tools.measure.mutants_make")
    stored = read(mutants.STORE)
    today = {
        mutant.key
        for file in {one.file for one in stored}
        for mutant, _ in make.mutants_of(file, (mutants.ROOT / file).read_text())
    }
    assert {one.key for one in stored} <= today
