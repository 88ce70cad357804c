"""`{glossary-table}`: the book's terms in the language of the page, from one CSV file."""

import csv
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def read_terms(path):
    """The rows of the glossary as dictionaries; columns are named in the file's first line."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _row(cells):
    row = nodes.row()
    for cell in cells:
        content = cell if isinstance(cell, nodes.Node) else nodes.Text(cell)
        row += nodes.entry("", nodes.paragraph("", "", content))
    return row


def table(header, rows, classes):
    """A docutils table of plain cells."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=width) for width in (20, 20, 60)]
    group += nodes.thead("", _row(header))
    group += nodes.tbody("", *[_row(row) for row in rows])
    return nodes.table("", group, classes=classes)


class GlossaryTable(SphinxDirective):
    """All terms, sorted in the page's language, each with an address `#term-…`."""

    def run(self):
        """Build the table; the page is read again when the CSV file changes."""
        path = Path(self.env.srcdir) / "glossary.csv"
        self.env.note_dependency(str(path))
        own, other = ("zh", "en") if self.config.language == "zh_CN" else ("en", "zh")
        rows = []
        for term in sorted(read_terms(path), key=lambda row: row["term_en"].lower()):
            anchor = "term-" + nodes.make_id(term["term_en"])
            name = nodes.strong("", term[f"term_{own}"], ids=[anchor])
            rows.append([name, term[f"term_{other}"], term[f"definition_{own}"]])
        words = self.config.book_words
        header = [words["term"], words["other_term"], words["definition"]]
        return [table(header, rows, ["book-glossary"])]


def setup(app):
    """Register the directive."""
    app.add_directive("glossary-table", GlossaryTable)
