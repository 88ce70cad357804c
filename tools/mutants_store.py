"""What became of every mutant, as a table; and the score of each file."""

import csv
import datetime
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, fields

from scipy.stats import binomtest

PACKAGES = ("mutmut", "libcst", "keras", "numpy", "hypothesis", "pytest")


@dataclass(frozen=True)
class Mutant:
    """One change of one file; the key stays the same while its function does."""

    file: str
    line: int
    function: str
    before: str
    after: str
    key: str
    outcome: str = ""  # killed or survived; nothing yet if not run
    by: str = ""  # the test that noticed, or "import", "timeout", "crash"
    explanation: str = ""  # of a survivor, written by hand


def read(path):
    """The stored mutants, none without a file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Mutant(**{**row, "line": int(row["line"])}) for row in csv.DictReader(file)]


def write(path, mutants):
    """Store the mutants, in the order of the files, in one step."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        names = [field.name for field in fields(Mutant)]
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        for one in sorted(mutants, key=lambda one: (one.file, one.line, one.after, one.key)):
            table.writerow(asdict(one))
    unfinished.replace(path)


def write_recipe(path, made):
    """Store beside the table how many mutants each file has, and what they ran on."""
    path = path.with_suffix(".json")
    old = json.loads(path.read_text()) if path.exists() else {}
    recipe = {
        "made": dict(sorted({**old.get("made", {}), **made}.items())),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    path.write_text(json.dumps(recipe, indent=1) + "\n")


def score(mutants):
    """(Killed, run, percent killed) of these mutants."""
    run = [one for one in mutants if one.outcome]
    killed = sum(one.outcome == "killed" for one in run)
    return killed, len(run), 100 * killed / len(run) if run else float("nan")


def as_markdown(mutants, made):
    """A row for each file and each folder; an interval where only a sample was run.

    A folder has no score before each of its files has been run, at least in part.
    """
    folders = sorted({f"{file.rpartition('/')[0]}/" for file in made})
    lines = ["| file | mutants | run | killed | % |", "|---|---|---|---|---|"]
    for name in (*sorted(made), *folders):
        files = [file for file in made if name in (file, f"{file.rpartition('/')[0]}/")]
        total = sum(made[file] for file in files)
        killed, run, percent = score([one for one in mutants if one.file in files])
        is_fair = all(
            any(one.outcome and one.file == file for one in mutants) for file in files
        )
        text = f"{percent:.1f}" if is_fair else "not yet run"
        if is_fair and run < total:
            low, high = binomtest(killed, run).proportion_ci(method="wilson")
            text += f" [{100 * low:.1f}, {100 * high:.1f}]"
        lines.append(f"| `{name}` | {total} | {run} | {killed} | {text} |")
    return "\n".join(lines)


def survivors(mutants):
    """The survivors as a list to be read."""
    text = []
    for one in mutants:
        if one.outcome == "survived":
            text.append(f"- `{one.file}:{one.line}` {one.function} ({one.key})\n")
            text[-1] += f"  - was: `{one.before}`\n  - now: `{one.after}`\n"
            text[-1] += f"  - {one.explanation}\n" if one.explanation else ""
    return "".join(text)
