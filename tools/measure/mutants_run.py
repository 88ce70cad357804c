"""Run tests on mutants: one process imports TensorFlow, and forks a child for each mutant.

Importing takes ten seconds or more, a child some tenths. The parent runs no operation of
TensorFlow, whose threads would not survive a fork. A child sees a copy of the library with the
mutated file (a real file: autograph reads the source), and tests as they were at the start.
"""

import ast
import contextlib
import gc
import importlib
import io
import multiprocessing
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import tqdm

from tools.measure.mutants_child import OPTIONS, WRONG, make_hypothesis_repeatable, run_tests

PRELOADED = ("tensorflow", "keras", "scipy.stats", "sklearn.datasets", "matplotlib.pyplot")
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
SLACK = 30  # seconds that a child may take beyond four times those of its tests


class Runner:
    """Forks children that test one mutant each; to be used with ``with``."""

    def __init__(self, root, package="distill_lib", preloaded=PRELOADED, slack=SLACK):
        os.environ.update(ENVIRONMENT)
        for module in preloaded:
            importlib.import_module(module)
        make_hypothesis_repeatable()
        self._fork = multiprocessing.get_context("fork")
        self._temporary = tempfile.TemporaryDirectory()
        self.folder, self.package, self.slack = Path(self._temporary.name), package, slack
        _copy(root, self.folder, package)
        self._checked, self._seconds = set(), {}
        self._covered, self._kills = defaultdict(set), Counter()
        _warm_up(self.folder / "warm")
        gc.collect()
        gc.freeze()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._temporary.cleanup()

    def check(self, tests):
        """Run the tests without a mutation. Note which of them runs what, and how long.

        A test that fails judges nothing: it is named, and left out.
        """
        if not (new := [test for test in tests if test not in self._checked]):
            return
        code, failed, (seconds, covered) = self._result(*self._start(new))
        if not seconds:
            raise RuntimeError(f"{new} must be tests that run, got code {code}: {failed}")
        for name in failed:
            print(f"not used, for it fails without any mutation: {name}", flush=True)
            seconds.pop(name, None)
        self._checked.update(new)
        self._seconds |= seconds
        for file, lines in covered.items():
            for line, names in lines.items():
                self._covered[file, line] |= {name for name in names if name in seconds}

    def run(self, jobs, tests, workers=1):
        """Yield the mutants of ``jobs``, (mutant, source), with what ``tests`` made of them."""
        waiting, active = list(jobs)[::-1], {}
        with tqdm.tqdm(total=len(waiting), unit="mutant") as progress:
            while waiting or active:
                while waiting and len(active) < workers:
                    mutant, source = waiting.pop()
                    chosen = self._chosen(mutant, tests)
                    child = self._start(chosen, mutant, source)
                    patience = self.slack + 4 * sum(self._seconds[name] for name in chosen)
                    active[child[0].sentinel] = [mutant, child, patience]
                for mutant, child, timed_out in self._ended(active):
                    outcome, by = self._outcome(*child, timed_out)
                    self._kills[mutant.file, mutant.function, by] += 1
                    self._kills[mutant.file, by] += 1
                    progress.update()
                    yield replace(mutant, outcome=outcome, by=by)

    def _ended(self, active):
        """Wait up to a second; take from ``active`` what has ended, or has had its time."""
        # Seconds are counted, not read off a clock: it may have been suspended.
        ready = wait(list(active), timeout=1)
        for entry in active.values():
            entry[2] -= not ready
        for sentinel in [key for key, entry in active.items() if key in ready or entry[2] <= 0]:
            mutant, child, _ = active.pop(sentinel)
            yield mutant, child, sentinel not in ready

    def _start(self, tests, mutant=None, source=None):
        """Fork a child for these tests: of a mutant by name, else whole files."""
        ranks = {test: self._rank(test, mutant) for test in tests} if mutant else {}
        tests = sorted({test.split("::")[0] for test in tests})
        receiver, sender = self._fork.Pipe(duplex=False)
        arguments = (self.folder, self.package, tests, mutant, source, ranks, sender)
        process = self._fork.Process(target=run_tests, args=arguments)
        process.start()
        sender.close()
        return process, receiver

    def _chosen(self, mutant, tests):
        """The tests that run a line of the mutated function; all, if none is known to.

        And those that run no line of the library here: they start a process of their own.
        """
        found = [test for test in self._seconds if test.split("::")[0] in tests]
        if not found:
            raise ValueError(f"{mutant.file} must have a test that passes, found none")
        span = _span((self.folder / mutant.file).read_text(), mutant.function)
        inside = {test for line in span for test in self._covered[mutant.file, line]}
        unseen = set(found).difference(*self._covered.values())
        return [test for test in found if test in inside | unseen] if inside else found

    def _rank(self, test, mutant):
        """Run first what has killed neighbours, then what is quick."""
        near = self._kills[mutant.file, mutant.function, test]
        return -near, -self._kills[mutant.file, test], self._seconds[test]

    def _outcome(self, process, results, timed_out):
        """Wait for the child, or end it: killed or survived, and by what."""
        if timed_out:
            process.kill()
            process.join()
            return "killed", "timeout"
        code, failed, _ = self._result(process, results)
        if code == pytest.ExitCode.OK:
            return "survived", ""
        if code in (WRONG, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise RuntimeError(f"a mutant was not tested: code {code}, {failed}")
        return "killed", failed[0] if failed else "crash"

    def _result(self, process, results):
        """What a child sent: pytest's code, failed tests, measurements. A crash sends none."""
        try:
            sent = results.recv()
        except EOFError:
            sent = None, [], ({}, {})
        process.join()
        return sent


def _copy(root, folder, package):
    """What the children need of the repository, so that nobody's edits disturb them."""
    ignored = shutil.ignore_patterns("__pycache__", "assets")
    for name in (package, "tests"):
        shutil.copytree(root / name, folder / name, ignore=ignored)
    shutil.copy(root / "pyproject.toml", folder)
    if (root / package / "assets").exists():
        (folder / package / "assets").symlink_to(root / package / "assets")


def _warm_up(folder):
    """Let pytest import its plugins here, once, with a test of nothing."""
    folder.mkdir()
    (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*OPTIONS, "--rootdir", str(folder), str(folder)])


def _span(code, function):
    """The lines of the body of ``function`` or ``Class.method``; none if there is no such."""
    body = ast.parse(code).body
    for name in function.split("."):
        found = [node for node in body if getattr(node, "name", None) == name]
        if not found:
            return range(0)
        node, body = found[0], found[0].body
    return range(node.body[0].lineno, node.end_lineno + 1)
