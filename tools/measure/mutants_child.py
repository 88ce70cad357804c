"""The child that tests one mutant, and what it needs of pytest and Hypothesis."""

import os
import resource
import shutil
import sys
from collections import Counter, defaultdict
from pathlib import Path

import coverage
import hypothesis
import pytest

PLUGINS = ("-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin")
OPTIONS = ("-q", "--tb=no", "--continue-on-collection-errors", *PLUGINS)
WRONG = -1  # the code of a child that did not test what it should
LONGEST = 1800  # seconds of processor time, should nobody be left to end an endless loop


def run_tests(folder, package, tests, mutant, source, ranks, sender):
    """The body of a child: write the mutated library, run the tests, send the outcome.

    Sent are pytest's code, the tests that failed, the seconds of each test, and for the
    library without mutation also {file: {line: names of the tests that ran it}}.
    """
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    os.chdir(folder)
    library, watch = folder / package, Watch(ranks)
    if mutant is None:
        watch.trace(library)
    else:
        library = folder / "mutants" / mutant.key / package
        shutil.copytree(folder / package, library, symlinks=True)
        (library.parent / mutant.file).write_text(source)
    sys.path.insert(0, str(library.parent))
    os.environ["PYTHONPATH"] = str(library.parent)  # for tests that start a process
    first = [] if mutant is None else ["--exitfirst"]
    code = pytest.main([*OPTIONS, *first, "--rootdir", str(folder), *tests], plugins=[watch])
    module = sys.modules.get(package)
    if module is not None and Path(module.__file__).parent != library:
        code, watch.failed = WRONG, [module.__file__]
    sender.send((int(code), watch.failed, (dict(watch.seconds), watch.covered(folder))))
    if mutant is not None:
        shutil.rmtree(library.parent)
    os._exit(0)  # without TensorFlow's own farewell


class Watch:
    """A pytest plugin: picks and orders tests, times them, and remembers which one failed."""

    def __init__(self, ranks):
        self.ranks, self.seconds, self.failed, self._coverage = ranks, Counter(), [], None

    def trace(self, library):
        """Note from now on which test runs which line of the library."""
        self._coverage = coverage.Coverage(None, include=[f"{library}/*"], config_file=False)
        self._coverage.start()

    def covered(self, folder):
        """{file: {line: names of tests}}, empty if nothing was traced."""
        found = defaultdict(dict)
        if self._coverage:
            self._coverage.stop()
            data = self._coverage.get_data()
            for path in data.measured_files():
                file = Path(path).relative_to(folder.resolve()).as_posix()
                found[file] = data.contexts_by_lineno(path)
        return dict(found)

    def pytest_collection_modifyitems(self, items):
        wanted = [item for item in items if not self.ranks or item.nodeid in self.ranks]
        items[:] = sorted(wanted, key=lambda item: self.ranks.get(item.nodeid, ()))

    def pytest_runtest_logstart(self, nodeid, location):
        if self._coverage:
            self._coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)


def make_hypothesis_repeatable():
    """The same examples in each run; no shrinking, which takes minutes."""
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=phases
    )
    hypothesis.settings.load_profile("mutants")
