"""Probe `keras.distillation` in each release of Keras, and store the findings.

    python -m tools.measure.conformance                    every release from 3.12.0 on
    python -m tools.measure.conformance 3.12.0 3.15.1      these releases

uv lays each release over this environment, whose TensorFlow serves them all. A release whose
findings lie below `_build/conformance` is not probed again, unless the probes have changed. All
findings there go to `book/code/keras_conformance.csv`, which the page reads.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys

from tools.pages.book import REPOSITORY

FIRST = (3, 12, 0)
PROBES = REPOSITORY / "book" / "code" / "keras_probes"
RESULTS = REPOSITORY / "book" / "code" / "keras_conformance.csv"
WORKPLACE = REPOSITORY / "_build" / "conformance"
COLUMNS = ("keras", "tensorflow", "source", "probe", "value", "expected", "outcome")


def number(version):
    """A version such as "3.15.1" as numbers, by which releases are put in order."""
    return tuple(int(part) for part in version.split("."))


def releases(listing):
    """Final releases from `FIRST` on in the output of `pip index versions`, in order."""
    line = re.search(r"^Available versions: (.*)$", listing, re.M)[1]
    finals = [text for text in line.split(", ") if re.fullmatch(r"\d+\.\d+\.\d+", text)]
    return sorted((text for text in finals if number(text) >= FIRST), key=number)


def fingerprint(folder=PROBES):
    """Checksum over the probes: findings of other probes are not kept."""
    files = sorted(folder.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def probe(version):
    """Probe one release, unless that has been done.

    Returns:
        The path of its findings.
    """
    findings = WORKPLACE / f"{version}-{fingerprint()}.json"
    if findings.exists():
        return findings
    part = findings.with_suffix(".part")
    program = [sys.executable, "-m", "uv", "run", "--no-project", "--active"]
    program += [
        "--with",
        f"keras=={version}",
        "python",
        "-m",
        PROBES.name,
        "--output",
        str(part),
    ]
    settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, **settings}
    subprocess.run(program, env=environment, cwd=PROBES.parent, check=True)
    found = json.loads(part.read_text("utf-8"))["versions"]["keras"]
    if found != version:
        sys.exit(f"keras {version} was to be probed, but {found} was imported")
    part.rename(findings)
    return findings


def rows(path):
    """The rows of the table that one file of findings makes."""
    result = json.loads(path.read_text("utf-8"))
    about = [result["versions"]["keras"], result["versions"]["tensorflow"], result["source"]]
    for name, finding in result["findings"].items():
        value = f"{finding['value']:.6g}"
        yield [*about, name, value, f"{finding['expected']:g}", finding["outcome"]]


def gather(paths, target=RESULTS):
    """Write the table of all findings, releases in order."""
    ordered = sorted(paths, key=lambda path: number(path.name.split("-")[0]))
    with target.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(row for path in ordered for row in rows(path))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", help="releases; default: all, by the index")
    wanted = parser.parse_args().versions
    if not wanted:
        index = [sys.executable, "-m", "pip", "index", "versions", "keras"]
        wanted = releases(subprocess.check_output(index, text=True))
    WORKPLACE.mkdir(parents=True, exist_ok=True)
    for version in wanted:
        print(version, probe(version).name, flush=True)
    gather(WORKPLACE.glob(f"*-{fingerprint()}.json"))
    print(RESULTS.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()
