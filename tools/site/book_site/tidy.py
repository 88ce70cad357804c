"""What the themes bring along and this book does not want, and a description per page."""

import re
from html import escape
from pathlib import Path

from docutils import nodes

# sphinx-thebe is always loaded by Jupyter Book, needs Binder, and raises an error on each page.
UNWANTED = "thebe"
# 1.5 MB that draw no icon which the web font does not draw; the theme writes this line itself.
FONT_SCRIPT = re.compile(r"\s*<script[^>]*scripts/fontawesome\.js[^>]*></script>")
DESCRIPTION_LENGTH = 160
SHORTEST_DESCRIPTION = {"en": 40, "zh_CN": 20}


def _drop_unwanted_files(app, pagename, templatename, context, doctree):
    """Take unwanted scripts and style sheets out of a page."""
    for key in ("script_files", "css_files"):
        context[key] = [file for file in context[key] if not _unwanted(file)]


def _unwanted(file):
    body = getattr(file, "attributes", {}).get("body") or ""
    return UNWANTED in f"{getattr(file, 'filename', file)} {body}".lower()


def _drop_thebe_nodes(app, doctree, docname):
    """sphinx-thebe appends two scripts to each page; nothing here reads them."""
    for node in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in node.astext() or node.astext().startswith("<script>kernelName"):
            node.parent.remove(node)


def _drop_font_script(app, error):
    """Take the theme's icon script out of the finished pages, and out of the site."""
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            text = path.read_text("utf-8")
            path.write_text(FONT_SCRIPT.sub("", text), "utf-8")
        for path in Path(app.outdir, "_static", "scripts").glob("fontawesome.js*"):
            path.unlink()


def description(doctree, shortest, default):
    """The first paragraph of a page that says something, cut at a word or sign."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else []:
        text = " ".join(paragraph.astext().split())
        if len(text) >= shortest and isinstance(paragraph.parent, nodes.section):
            return text if len(text) <= DESCRIPTION_LENGTH else _cut(text)
    return default


def _cut(text):
    head = text[: DESCRIPTION_LENGTH - 1]
    return (head.rsplit(" ", 1)[0] if " " in head[80:] else head) + "…"


def _describe(app, pagename, templatename, context, doctree):
    """Add the description that search engines show."""
    shortest = SHORTEST_DESCRIPTION[app.config.language]
    text = description(doctree, shortest, app.config.book_description)
    context["metatags"] = (
        context.get("metatags", "") + f'\n<meta name="description" content="{escape(text)}">'
    )


def setup(app):
    """Register; late, because others add their files in the same event."""
    app.connect("html-page-context", _drop_unwanted_files, priority=900)
    app.connect("doctree-resolved", _drop_thebe_nodes, priority=900)
    app.connect("html-page-context", _describe)
    app.connect("build-finished", _drop_font_script)
