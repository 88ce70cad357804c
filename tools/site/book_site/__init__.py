"""The book's own Sphinx extension: two languages, cost cards, local files only."""

from pathlib import Path

from . import cards, glossary, languages, reference, search, tidy

SITE = Path(__file__).resolve().parents[1]

# Words that this extension writes into pages; book/zh/site.yml holds the Chinese ones.
WORDS = {
    "other_language": "中文",
    "other_language_title": "Read this page in Chinese",
    "cost": "What this page cost to run",
    "minutes": "{value} min of processor time",
    "seconds": "{value} s of processor time",
    "memory": "{value} MB of memory at its peak",
    "machine": "{cores} cores, {cpu}",
    "measured": "measured on {date}",
    "term": "Term",
    "other_term": "Chinese",
    "definition": "Meaning",
    "explained_in": "Explained in: {pages}",
    "used_in": "Used in: {pages}",
    "comma": ", ",
    "notebook": "Download this page as a notebook",
}


def _prepare(app, config):
    """Point Sphinx at the extension's files and drop what would need another host."""
    config.templates_path.append(str(SITE / "book_site" / "templates"))
    config.html_static_path += [str(SITE / "static"), str(SITE / "vendor")]
    config.html_favicon = str(SITE / "static" / "favicon.svg")
    # Without it the theme complains in the browser's console about an empty mode.
    config.html_context.setdefault("default_mode", "auto")
    config.add_module_names = False  # the heading above an entry says it
    config.toc_object_entries_show_parents = "hide"
    # Of a longer signature each argument stands on a line of its own.
    config.python_maximum_signature_line_length = 100
    config.mathjax_path = "mathjax/tex-chtml.js"
    config.book_words = {**WORDS, **config.book_words}
    if not config.html_theme_options.get("repository_url"):
        # A launch button without a repository to launch from is a broken link.
        config.html_theme_options["launch_buttons"] = {}


def setup(app):
    """Register everything; called by Sphinx."""
    app.add_config_value("book_words", {}, "env", types=[dict])
    app.add_config_value("book_description", "", "html", types=[str])
    app.connect("config-inited", _prepare, priority=100)
    app.add_css_file("book.css")
    for part in (languages, search, cards, glossary, reference, tidy):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
