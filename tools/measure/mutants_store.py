"""What became of every mutant, as a table; and the score of each file."""

import csv
import datetime
import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass, fields

PACKAGES = ("mutmut", "keras", "tensorflow-cpu", "hypothesis", "pytest")


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
    by: str = ""  # the test that noticed, or its file; or "timeout", "crash"
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


def read_made(path):
    """How many mutants each file has, as it was stored beside the table."""
    path = path.with_suffix(".json")
    return json.loads(path.read_text())["made"] if path.exists() else {}


def write_recipe(path, made):
    """Store beside the table how many mutants each file has, and what they ran on."""
    packages = [name for name in PACKAGES if _is_installed(name)]
    recipe = {
        "made": dict(sorted(made.items())),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }
    path.with_suffix(".json").write_text(json.dumps(recipe, indent=1) + "\n")


def _is_installed(name):
    """TensorFlow goes by two names, of which one is installed."""
    return any(importlib.metadata.distributions(name=name))


def score(mutants):
    """(Killed, run, percent killed) of these mutants."""
    run = [one for one in mutants if one.outcome]
    killed = sum(one.outcome == "killed" for one in run)
    return killed, len(run), 100 * killed / len(run) if run else float("nan")


def as_markdown(mutants, made):
    """A row for each file and each folder: `made` says how many mutants a file has."""
    lines = ["| file | mutants | run | killed | % |", "|---|---|---|---|---|"]
    groups = {file: [file] for file in sorted(made)}
    for file in sorted(made):
        groups.setdefault(f"{file.rpartition('/')[0]}/", []).append(file)
    for name, files in groups.items():
        killed, run, percent = score([one for one in mutants if one.file in files])
        total = sum(made[file] for file in files)
        lines.append(f"| `{name}` | {total} | {run} | {killed} | {percent:.1f} |")
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
