"""Mutation testing: break the library in every small way, and see whether a test notices.

    python -m tools.measure.mutants                                  all methods
    python -m tools.measure.mutants distill_lib/losses/response.py   some files
    python -m tools.measure.mutants --again survived                 what no test noticed
    python -m tools.measure.mutants --dry                            print what is stored

What became of a mutant is stored as soon as it is known: an interruption loses nothing, and
what is stored is not run again before its function changes. The order within a file is
arbitrary, so what was run is a fair sample at any time. Explanations of survivors are written
into the stored table by hand, and are kept.
"""

import argparse
import ast
import re
import sys
from dataclasses import replace
from pathlib import Path

from tools.measure.mutants_store import (
    as_markdown,
    read,
    read_made,
    survivors,
    write,
    write_recipe,
)

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "book" / "code" / "mutants.csv"
PACKAGE = "distill_lib"
# Data, networks, figures, measures: what the book needs beside the methods.
LEFT_OUT = {"compress", "data", "evaluate", "models", "plots", "pruning", "schemes"}
# What matters most is mutated first, then what helps it.
FIRST = ("losses", "distiller", "terms", "features", "signals", "training")


def mutable_files(root=ROOT):
    """The files that are mutated, as {path below `root`: the files of the tests that judge it}.

    A file is judged by the tests that bear its name. What only helps others, a private file or
    one without such tests, is judged by the tests of those that import it.
    """
    paths = {
        path.relative_to(root).as_posix(): path
        for path in sorted((root / PACKAGE).rglob("*.py"))
        if path.name != "__init__.py"
    }
    imports = {file: _imports(path) for file, path in paths.items()}
    parts = {file: Path(file).with_suffix("").parts[1] for file in paths}
    ranks = {file: (*FIRST, parts[file]).index(parts[file]) for file in paths}
    wanted = [file for file in sorted(paths, key=ranks.get) if parts[file] not in LEFT_OUT]
    return {file: _tests_of(file, imports, root) for file in wanted}


def _imports(path):
    """The dotted names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def _tests_of(file, imports, root, above=()):
    """The test files of `file`: of its name, else of its package, else of its users.

    A private file is judged by the tests of its users in any case.
    """
    inside = Path(file).relative_to(PACKAGE)
    own = _tests_named(inside.stem.strip("_"), inside, root)
    if not inside.stem.startswith("_"):
        for package in inside.parts[:-1]:
            own = own or _tests_named(package, inside, root)
        if own:
            return own
    dotted = file.removesuffix(".py").replace("/", ".")
    users = [user for user in imports if dotted in imports[user] and user not in above]
    return own.union(*(_tests_of(user, imports, root, (*above, file)) for user in users))


def _tests_named(word, inside, root):
    """The test files with a word in their name, of all or of the file's own folder."""
    pattern = re.compile(rf"(^|_){re.escape(word)}(_|$)")
    folders = {root / "tests", root / "tests" / inside.parent}
    paths = {path for folder in folders for path in folder.glob("test_*.py")}
    return {p.relative_to(root).as_posix() for p in paths if pattern.search(p.stem[5:])}


def parsed(arguments, files):
    """The command line."""
    parser = argparse.ArgumentParser("mutants", description="Test the tests.")
    parser.add_argument("files", nargs="*", help=f"some of: {' '.join(files)}")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time")
    parser.add_argument("--again", choices=("killed", "survived", "all"), help="run again")
    parser.add_argument("--tests", nargs="*", default=[], help="test files to add")
    parser.add_argument("--dry", action="store_true", help="only print what is stored")
    options = parser.parse_args(arguments)
    options.files = options.files or list(files)
    if unknown := sorted({*options.files} - files.keys()):
        parser.error(f"files must be some of {sorted(files)}, got {unknown}")
    return options


def plan(file, code, stored, again=None):
    """What is to be run of one file.

    Returns:
        a list of (mutant, mutated code) to run, and a list of all mutants of the file, those
        with an outcome that is stored.
    """
    from tools.measure.mutants_make import mutants_of

    jobs, known = [], []
    for mutant, mutated in mutants_of(file, code):
        # The line is of today: a function may have moved.
        mutant = replace(stored.get(mutant.key, mutant), line=mutant.line)
        known.append(mutant)
        if not mutant.outcome or again in (mutant.outcome, "all"):
            jobs.append((mutant, mutated))
    # Keys are checksums: ordered by them, whatever has been run is a fair sample.
    return sorted(jobs, key=lambda job: job[0].key), known


def main(arguments=None):
    """Run the mutants that are asked for and not stored yet; print the survivors and score."""
    files = mutable_files()
    options = parsed(arguments, files)
    table = {one.key: one for one in read(STORE) if one.file in files}
    plans = {
        file: plan(file, (ROOT / file).read_text("utf-8"), table, options.again)
        for file in options.files
    }
    made = {file: len(known) for file, (_, known) in plans.items()}
    table = {key: one for key, one in table.items() if one.file not in made}
    table |= {one.key: one for _, known in plans.values() for one in known if one.outcome}
    jobs = {file: waiting for file, (waiting, _) in plans.items() if waiting}
    print(f"{sum(map(len, jobs.values()))} of {sum(made.values())} mutants to run", flush=True)
    if jobs and not options.dry:
        kept = {file: count for file, count in read_made(STORE).items() if file in files}
        write_recipe(STORE, {**kept, **made})
        tests = {file: sorted({*files[file], *options.tests}) for file in jobs}
        run_all(jobs, tests, table, options.workers)
    chosen = [one for one in table.values() if one.file in made]
    print(survivors(chosen) + "\n" + as_markdown(chosen, made))
    return 0


def run_all(jobs, tests, table, workers):
    """Run {file: jobs}, storing each outcome as it comes."""
    from tools.measure.mutants_run import Runner

    with Runner(ROOT) as runner:
        for file in jobs:
            print(f"{file}: {len(jobs[file])}, {' '.join(tests[file])}", flush=True)
            runner.check(tests[file])
            for mutant in runner.run(jobs[file], tests[file], workers):
                if mutant.outcome == "killed":
                    mutant = replace(mutant, explanation="")
                table[mutant.key] = mutant
                write(STORE, table.values())


if __name__ == "__main__":
    sys.exit(main())
