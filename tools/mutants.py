"""Mutation testing: break the library in every small way, and see whether a test notices.

``python tools/mutants.py [FILES] [--share 0.25] [--again survived]`` runs the tests that belong
to a file on each of its mutants, and stores after each what became of it: an interruption
loses nothing, and what is stored is not run again until its function changes. Explanations
of survivors are written into the stored table by hand, and are kept.
"""

import argparse
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from mutants_store import as_markdown, read, survivors, write, write_recipe

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "book" / "code" / "mutants.csv"
# A file is judged by its own tests alone; what the other losses share, by those of all.
TESTS = {
    **{
        path.relative_to(ROOT).as_posix(): [f"tests/losses/test_*{path.stem}*.py"]
        for path in sorted((ROOT / "distill_lib" / "losses").glob("[!_]*.py"))
    },
    "distill_lib/losses/_inputs.py": ["tests/losses/test_*.py"],
    "distill_lib/losses/_safe.py": ["tests/losses/test_*.py"],
    "distill_lib/distiller.py": ["tests/test_distiller*.py"],
    "distill_lib/terms.py": ["tests/test_terms*.py"],
    "distill_lib/features.py": ["tests/test_features*.py"],
}


def main(arguments=None):
    """Run the mutants that are asked for and not stored yet; print the survivors and score."""
    options = parsed(arguments)
    jobs, table, made = plan(options, read(STORE))
    print(f"{len(jobs)} of {sum(made.values())} mutants to run", flush=True)
    if jobs and not options.dry:
        write_recipe(STORE, made)
        execute(jobs, table, options.workers)
    chosen = [one for one in read(STORE) if one.file in made]
    print(survivors(chosen) + "\n" + as_markdown(chosen, made))
    return 0


def parsed(arguments):
    """The command line."""
    parser = argparse.ArgumentParser("mutants", description="Test the tests.")
    parser.add_argument("files", nargs="*", help=f"some of: {' '.join(TESTS)}")
    parser.add_argument("--workers", type=int, default=1, help="mutants at a time")
    parser.add_argument("--share", type=float, default=1.0, help="run a sample of this share")
    parser.add_argument("--again", choices=("killed", "survived", "all"), help="run again")
    parser.add_argument("--dry", action="store_true", help="only print what is stored")
    options = parser.parse_args(arguments)
    options.files = options.files or list(TESTS)
    if unknown := sorted(set(options.files) - TESTS.keys()):
        parser.error(f"files must be some of {sorted(TESTS)}, got {unknown}")
    if not 0 < options.share <= 1 or options.workers < 1:
        parser.error("--share must be above 0 and at most 1, --workers at least 1")
    return options


def plan(options, stored):
    """What to run as (mutant, source, tests); what stays stored; how many a file has."""
    from mutants_make import mutants_of

    stored = {one.key: one for one in stored}
    table = {one.key: one for one in stored.values() if one.file not in options.files}
    jobs, made = [], {}
    for file in options.files:
        tests, pairs = tests_of(file), mutants_of(file, (ROOT / file).read_text())
        made[file] = len(pairs)
        for mutant, source in pairs:
            mutant = replace(stored.get(mutant.key, mutant), line=mutant.line)
            if mutant.outcome:
                table[mutant.key] = mutant
            asked = not mutant.outcome or options.again in (mutant.outcome, "all")
            if asked and is_drawn(mutant.key, options.share):
                jobs.append((mutant, source, tests))
    # By keys, that is, in no order: whenever it ends, what was run is a fair sample of a file.
    return (
        sorted(jobs, key=lambda job: (options.files.index(job[0].file), job[0].key)),
        table,
        made,
    )


def execute(jobs, table, workers):
    """Run the jobs, storing each outcome as it comes."""
    from mutants_run import Runner

    with Runner(ROOT) as runner:
        for _, group in groupby(jobs, key=lambda job: job[0].file):
            group = list(group)
            runner.check(group[0][2])
            for mutant in runner.run(group, workers):
                if mutant.outcome == "killed":
                    mutant = replace(mutant, explanation="")
                table[mutant.key] = mutant
                write(STORE, table.values())


def tests_of(file):
    """The names of a file's tests; there must be some."""
    found = {path for pattern in TESTS[file] for path in ROOT.glob(pattern)}
    if not found:
        raise ValueError(f"{file} must have tests, found no {TESTS[file]}")
    return sorted(str(path.relative_to(ROOT)) for path in found)


def is_drawn(key, share):
    """Draw by the key itself: always the same sample, and a part of every larger one."""
    return int(key, 16) < share * 16 ** len(key)


if __name__ == "__main__":
    sys.exit(main())
