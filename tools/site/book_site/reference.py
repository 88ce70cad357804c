"""The reference of the library, made from its docstrings in every build.

`{library-index}` lists all modules and names; `{library} losses losses.*` shows modules. Each
entry names the pages whose code explains or uses it, and in the code of every page the names
of the library are links to their entries. Nothing is imported: TensorFlow is not needed.
"""

import json
import re
from fnmatch import fnmatchcase
from html import unescape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Parser
from docutils.utils import new_document
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util import logging
from sphinx.util.docutils import LoggingReporter, SphinxDirective

from .library import PACKAGE, definition, read_library, uses

ROLES = {"function": "func", "class": "class", "data": "data"}
# The cells of a page that set a name of the library beside what it stands for.
EXPLAINS = re.compile(r"(smallest|equation|same-thing)(-|$)")
PLAIN_SIGN = re.compile(r"\||(?<=\w)_(?!\w)|(?<!\*)\*(?=\*\w)|(?<=\*)\*(?=\w)")
NOT_TEXT = re.compile(r"(``.*?``|:[\w:]+:`[^`]*`)", re.S)
INPUT = re.compile(
    r'(<div class="highlight-i?python3?[ "][^>]*><div class="highlight"><pre>)(.*?)(</pre>)',
    re.S,
)
HTML_PART = re.compile(r"<[^>]*>|&[^;]+;|.", re.S)
SETTINGS = Config(napoleon_use_rtype=False)
log = logging.getLogger(__name__)


JOIN = "\ue000"  # a space inside the name of a field, which Sphinx would cut there


class Docstring(GoogleDocstring):
    """A Google docstring whose `Returns:` is prose, without a type before a colon.

    Arguments that share a line, as in `steps, batch_size: …`, share their entry too.
    """

    def _consume_fields(self, parse_type=True, prefer_type=False, multiple=False):
        fields = super()._consume_fields(parse_type, prefer_type, multiple=False)
        return [(name.replace(", ", f",{JOIN}"), kind, text) for name, kind, text in fields]

    def _consume_returns_section(self, preprocess_types=False):
        return [("", "", self._dedent(self._consume_to_next_section()))]


def restructured(docstring, what="function"):
    """The docstring in reStructuredText: its text, and fields for its sections.

    Signs that a docstring writes as they are, as in KL(p || q) or **options, are no markup.
    """
    parts = NOT_TEXT.split(docstring)
    parts[::2] = [PLAIN_SIGN.sub(r"\\\g<0>", part) for part in parts[::2]]
    return str(Docstring("".join(parts), SETTINGS, what=what))


def pages_by_name(modules, notebooks):
    """Where each public name is explained, and where it is used.

    Args:
        modules: of `read_library`.
        notebooks: {page name: parsed notebook}, in reading order.

    Returns:
        {dotted name: {page name: whether it is explained there}}, in reading order.
    """
    found = {}
    for page, notebook in notebooks.items():
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
        for cell, source, in_cell in zip(cells, sources, uses(modules, sources), strict=True):
            explains = bool(EXPLAINS.match(cell.get("id", ""))) and "assert " in source
            for use in in_cell:
                pages = found.setdefault(use.target, {})
                pages[page] = pages.get(page, False) or explains
    return found


def notebooks_of(env):
    """The parsed notebooks of the book by page name, in reading order."""
    paths = {name: Path(env.doc2path(name)) for name in env.external_site_map}
    return {
        name: json.loads(path.read_text("utf-8"))
        for name, path in paths.items()
        if path.suffix == ".ipynb"
    }


def shown(module, pages, text):
    """The members of a module that have an entry: no constant that nobody speaks of."""
    return [
        member
        for member in module.members
        if member.kind != "data"
        or f"{module.name}.{member.name}" in pages
        or re.search(rf":data:`[^`]*\b{member.name}`", text)
    ]


def short(module):
    """The name of a module without the package."""
    return module.name.removeprefix(f"{PACKAGE}.")


def entry(module, member, pages, words):
    """reStructuredText of one member."""
    arguments = "" if member.kind == "data" else f"({member.signature or ''})"
    lines = [f".. py:{member.kind}:: {member.name}{arguments}"]
    if member.kind == "data" and member.signature:
        lines.append(f"   :value: {member.signature}")
    body = restructured(member.docstring, member.kind).splitlines()
    for inner in member.members:
        signature = "" if inner.kind == "property" else f"({inner.signature})"
        text = restructured(inner.docstring).splitlines()
        body += ["", f".. py:{inner.kind}:: {inner.name}{signature}", "", *_indented(text)]
    found = pages.get(f"{module.name}.{member.name}", {})
    links = {True: [], False: []}
    for page, explains in found.items():
        links[explains].append(f":doc:`/{page}`")
    for explains, word in ((True, "explained_in"), (False, "used_in")):
        if links[explains]:
            listed = words[word].format(pages=words["comma"].join(links[explains]))
            body += ["", ".. container:: book-pages", "", f"   {listed}"]
    return "\n".join([*lines, "", *_indented(body), ""])


def _indented(lines):
    return [f"   {line}" for line in lines]


def parsed(directive, text, source):
    """The nodes of reStructuredText; faults are reported under the name `source`."""
    document = new_document(source, directive.state.document.settings)
    document.reporter = LoggingReporter.from_reporter(document.reporter)
    Parser().parse(text, document)
    for words in [one for one in document.findall(nodes.Text) if JOIN in one]:
        words.parent.replace(words, nodes.Text(words.replace(JOIN, " ")))
    return document.children


class LibraryDirective(SphinxDirective):
    """What both directives know: the library, and where the pages use it."""

    def know(self):
        """Read the library and the pages, once for each document."""
        data = self.env.temp_data
        if "library" not in data:
            modules = read_library()
            data["library"] = modules, pages_by_name(modules, notebooks_of(self.env))
        self.modules, self.pages = data["library"]
        self.text = "\n".join(
            text.docstring
            for module in self.modules.values()
            for text in (module, *module.members)
        )

    def members(self, module):
        """The members of one module that are shown."""
        return shown(module, self.pages, self.text)


class LibraryIndex(LibraryDirective):
    """Every module with its first line and its names, as links, in the order of the page."""

    def run(self):
        """Make the place that the other directive fills."""
        self.env.temp_data["library_index"] = place = nodes.container()
        return [place]


class Library(LibraryDirective):
    """A section for each module whose name fits a pattern."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        """Build the sections, and their lines in the index above."""
        self.know()
        sections = []
        for pattern in self.arguments[0].split():
            wanted = f"{PACKAGE}.{pattern}"
            found = [name for name in self.modules if fnmatchcase(name, wanted)]
            if not found:
                place = self.get_location()
                log.warning("no module of the library fits %r", pattern, location=place)
            sections += [self.section(self.modules[name]) for name in found]
            self.index(found)
        return sections

    def index(self, names):
        """Add modules to the index."""
        lines = []
        for module in map(self.modules.get, names):
            first = restructured(module.docstring.split("\n\n")[0]).split("\n")
            lines += [f":py:mod:`{short(module)} <{module.name}>`", *_indented(first), ""]
            links = [
                f":py:{ROLES[member.kind]}:`{member.name} <{module.name}.{member.name}>`"
                for member in self.members(module)
            ]
            if links:
                lines += ["   .. container:: book-names", "", f"      {' '.join(links)}", ""]
        if place := self.env.temp_data.get("library_index"):
            place += parsed(self, "\n".join(lines), "library index")

    def section(self, module):
        """The heading, the module's text and its members."""
        section = nodes.section(ids=[nodes.make_id(module.name)], names=[module.name])
        section += nodes.title("", "", nodes.literal("", short(module)))
        words = self.config.book_words
        parts = [f".. py:module:: {module.name}", restructured(module.docstring, "module")]
        section += parsed(self, "\n\n".join(parts), module.name)
        for member in self.members(module):
            name = f"{module.name}.{member.name}"
            text = f".. py:currentmodule:: {module.name}\n\n"
            section += parsed(self, text + entry(module, member, self.pages, words), name)
        return section


def linked(body, modules, address):
    """The HTML of a page with links on the names of the library in its code.

    Args:
        body: HTML of the page.
        modules: of `read_library`.
        address: function of a dotted name to its address, or None.
    """
    cells = list(INPUT.finditer(body))
    sources = [unescape(re.sub(r"<[^>]*>", "", cell[2])) for cell in cells]
    for cell, found in reversed(list(zip(cells, uses(modules, sources), strict=True))):
        html = _linked_code(cell[2], found, address)
        body = body[: cell.start(2)] + html + body[cell.end(2) :]
    return body


def _linked_code(html, found, address):
    """One highlighted cell; `found` are its uses, from `library.uses`."""
    starts = {(use.line, use.start): use for use in found if address(use.target)}
    ends, parts, line, column = set(), [], 1, 0
    for part in HTML_PART.findall(html):
        if part.startswith("<"):
            parts.append(part)
            continue
        if use := starts.get((line, column)):
            parts.append(f'<a class="book-name" href="{address(use.target)}">')
            ends.add((use.line, use.end))
        parts.append(part)
        line, column = (line + 1, 0) if part == "\n" else (line, column + 1)
        if (line, column) in ends:
            parts.append("</a>")
    return "".join(parts)


def _link_code(app, pagename, templatename, context, doctree):
    """Make the names of the library links, on every page with code."""
    objects = app.env.get_domain("py").objects

    def address(name):
        known = objects.get(name)
        return (
            known and f"{app.builder.get_relative_uri(pagename, known.docname)}#{known.node_id}"
        )

    if "</pre>" in context.get("body", "") and objects:
        context["body"] = linked(context["body"], read_library(), address)


def _resolve(app, env, node, contnode):
    """Find what a module passes on: `distill_lib.losses.soft_target_loss`."""
    if node.get("refdomain") != "py":
        return None
    modules, target = read_library(), node["reftarget"]
    dotted = definition(modules, target) or definition(
        modules, f"{node.get('py:module')}.{target}"
    )
    if dotted is None:
        return None
    arguments = (env, node["refdoc"], app.builder, node["reftype"], dotted, node, contnode)
    return env.get_domain("py").resolve_xref(*arguments)


def gaps(modules, used, entries):
    """A sentence for each name that must have an entry and has none, or has no docstring.

    A module without an entry only helps others, and needs none for what it holds. But what the
    package itself passes on, or a page uses, is told to the reader.
    """
    passed_on = modules[PACKAGE].imported.values() if PACKAGE in modules else ()
    wanted = {*used, *(definition(modules, name) for name in passed_on)} - {None}
    for name in sorted(wanted):
        if name not in entries:
            yield f"{name} is not in the reference"
    for module in modules.values():
        for member in (module, *module.members):
            name = member.name if member is module else f"{module.name}.{member.name}"
            if module.name in entries and not member.docstring and _needs_docstring(member):
                yield f"{name} has no docstring"


def _needs_docstring(member):
    """The number of a constant stands in the code, and may do without a comment."""
    return getattr(member, "kind", "module") != "data"


def _check_complete(app, env):
    """A gap ends the build; a book without a reference has none."""
    entries = env.get_domain("py").objects
    if entries:
        modules = read_library()
        for text in gaps(modules, pages_by_name(modules, notebooks_of(env)), entries):
            log.warning(text)


def setup(app):
    """Register the directives, the links and the check."""
    app.add_directive("library-index", LibraryIndex)
    app.add_directive("library", Library)
    app.connect("html-page-context", _link_code)
    app.connect("missing-reference", _resolve)
    app.connect("env-check-consistency", _check_complete)
