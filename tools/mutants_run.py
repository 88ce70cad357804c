"""Run tests on mutants: one process imports TensorFlow, and forks a child for each mutant.

Importing takes ten seconds or more, a child some tenths. The parent runs no operation of
TensorFlow, whose threads would not survive a fork. A child sees a copy of the library with the
mutated file (a real file: autograph reads the source), and tests as they were at the start.
"""

import gc
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import tqdm

PRELOADED = ("tensorflow", "keras", "scipy.stats", "sklearn.datasets", "matplotlib.pyplot")
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin")
WRONG = -1  # the code of a child that did not test what it should
SLACK = 60  # seconds that a child may take beyond four times those of all its tests


class Runner:
    """Forks children that test one mutant each; to be used with ``with``."""

    def __init__(self, root, package="distill_lib", preloaded=PRELOADED, slack=SLACK):
        os.environ.update(ENVIRONMENT)
        for module in preloaded:
            importlib.import_module(module)
        _make_hypothesis_repeatable()
        self.package, self.slack = package, slack
        self._fork = multiprocessing.get_context("fork")
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        ignored = shutil.ignore_patterns("__pycache__", "assets")
        shutil.copytree(root / package, self.folder / package, ignore=ignored)
        shutil.copytree(root / "tests", self.folder / "tests", ignore=ignored)
        shutil.copy(root / "pyproject.toml", self.folder)
        if (assets := root / package / "assets").exists():
            (self.folder / package / "assets").symlink_to(assets)
        self.seconds, self._kills = {}, Counter()
        gc.collect()
        gc.freeze()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._temporary.cleanup()

    def check(self, tests):
        """Run the tests without a mutation: they must pass, and show how long they take."""
        process, results = self._start("unchanged", tests)
        outcome, by, seconds = self._outcome(process, results, float("inf"))
        if outcome != "survived":
            raise RuntimeError(f"tests must pass before anything is mutated, failed: {by}")
        self.seconds |= seconds

    def run(self, jobs, workers=1):
        """Yield the mutants of ``jobs``, (mutant, source, tests), with what became of them."""
        jobs, active = list(jobs)[::-1], {}
        with tqdm.tqdm(total=len(jobs), unit="mutant") as progress:
            while jobs or active:
                while jobs and len(active) < workers:
                    mutant, source, tests = jobs.pop()
                    process, results = self._start(mutant.key, tests, mutant, source)
                    limit = time.monotonic() + self.slack + 4 * self._time(tests)
                    active[process.sentinel] = (process, results, limit, mutant)
                ready = wait(list(active), timeout=1)
                for sentinel, (process, results, limit, mutant) in list(active.items()):
                    if sentinel in ready or time.monotonic() > limit:
                        del active[sentinel]
                        outcome, by, _ = self._outcome(process, results, limit)
                        self._kills[mutant.file, mutant.function, by] += 1
                        self._kills[mutant.file, by] += 1
                        progress.update()
                        yield replace(mutant, outcome=outcome, by=by)

    def _time(self, tests):
        """Seconds that all these tests take."""
        return sum(s for name, s in self.seconds.items() if name.split("::")[0] in tests)

    def _start(self, name, tests, mutant=None, source=None):
        receiver, sender = self._fork.Pipe(duplex=False)
        arguments = (self.folder, self.package, name, tests, mutant, source)
        ranks = {test: self._rank(test, mutant) for test in self.seconds if mutant}
        process = self._fork.Process(target=_test, args=(*arguments, ranks, sender))
        process.start()
        sender.close()
        return process, receiver

    def _rank(self, test, mutant):
        """Run first what has killed neighbours, then what is quick."""
        near = self._kills[mutant.file, mutant.function, test]
        return -near, -self._kills[mutant.file, test], self.seconds[test]

    def _outcome(self, process, results, limit):
        """Wait for the child, or end it: (killed or survived, by what, seconds a test)."""
        timed_out = not results.poll(max(0.0, min(limit - time.monotonic(), 1e6)))
        try:
            code, failed, seconds = (None, "timeout", {}) if timed_out else results.recv()
        except EOFError:
            code, failed, seconds = None, "crash", {}
        if timed_out:
            process.kill()
        process.join()
        if code == pytest.ExitCode.OK:
            return "survived", "", seconds
        if code in (WRONG, pytest.ExitCode.NO_TESTS_COLLECTED, pytest.ExitCode.USAGE_ERROR):
            raise RuntimeError(f"a mutant was not tested: code {code}, {failed}")
        return "killed", failed or "import", seconds


class _Watch:
    """A pytest plugin: orders the tests, times them, and remembers the one that failed."""

    def __init__(self, ranks):
        self.ranks, self.seconds, self.failed = ranks, Counter(), ""

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.ranks.get(item.nodeid, (0, 0, 0)))

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed = report.nodeid


def _test(folder, package, name, tests, mutant, source, ranks, sender):
    """The body of a child: write the mutated library, test it, send the outcome."""
    os.setsid()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    library = folder / package
    if mutant is not None:
        library = folder / "mutants" / name / package
        shutil.copytree(folder / package, library, symlinks=True)
        (library.parent / mutant.file).write_text(source)
    sys.path.insert(0, str(library.parent))
    watch = _Watch(ranks)
    os.chdir(folder)
    code = pytest.main([*OPTIONS, "--rootdir", str(folder), *tests], plugins=[watch])
    module = sys.modules.get(package)
    if module is not None and Path(module.__file__).parent != library:
        code, watch.failed = WRONG, str(module.__file__)
    sender.send((int(code), watch.failed, dict(watch.seconds)))
    if mutant is not None:
        shutil.rmtree(library.parent)
    os._exit(0)  # without TensorFlow's own farewell


def _make_hypothesis_repeatable():
    import hypothesis

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # shrinking takes minutes
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=phases
    )
    hypothesis.settings.load_profile("mutants")
