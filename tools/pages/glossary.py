"""The book's terms: `book/glossary.csv`, one row a term, read by the pages and the checks."""

import csv

COLUMNS = ("term_en", "term_zh", "definition_en", "definition_zh", "avoid_en", "avoid_zh")


def read_terms(path):
    """The rows of the glossary as dictionaries; `avoid_*` hold words separated by `|`.

    Raises:
        ValueError: other columns than COLUMNS.
    """
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path}: columns must be {COLUMNS}, got {reader.fieldnames}")
        return list(reader)
