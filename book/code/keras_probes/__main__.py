"""Command line: write the findings about the installed Keras as JSON, or print them."""

import argparse
import json
from pathlib import Path

from . import examine, keras_default, source_digest, versions


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="a JSON file; without it, print")
    options = parser.parse_args()
    findings = {
        name: {**finding._asdict(), "outcome": finding.outcome}
        for name, finding in examine(keras_default()).items()
    }
    result = {"versions": versions(), "source": source_digest(), "findings": findings}
    text = json.dumps(result, indent=1) + "\n"
    if options.output:
        options.output.write_text(text, "utf-8")
    else:
        print(text, end="")


main()
