"""The reference says everything about the library that its code says, and nothing is stale."""

import ast
import re

import pytest
from book_site import library, reference
from bs4 import BeautifulSoup

from tools.pages.book import read_notebook
from tools.site import build

SOURCE = '''"""A module.

It holds :data:`LIMIT`.
"""

from distill_lib.losses.response import soft_targets as answers

# How many
# there are.
LIMIT = 3  # at most
OTHER = 4
_HIDDEN = 5


def open_one(x, *, y=(1, 2), **options):
    """Open it."""


def bare():
    pass


def _closed():
    pass


class Box(Base):
    """A box."""

    def __init__(self, size, *, lid=None):
        self.size = size

    def fill(self, x):
        """Fill it."""

    def call(self, x):
        return x

    @property
    def full(self):
        """Whether it is full."""


class Pair(NamedTuple):
    """Two."""

    one: int
    two: int = 2
'''


@pytest.fixture
def modules():
    """A library of two modules."""
    module = library.read_module("distill_lib.boxes", SOURCE)
    losses = library.read_module("distill_lib.losses.response", "def soft_targets(x): 'Soft.'")
    return {one.name: one for one in (module, losses)}


def test_the_reader_finds_what_is_public(modules):
    found = {one.name: one for one in modules["distill_lib.boxes"].members}
    assert list(found) == ["LIMIT", "OTHER", "open_one", "bare", "Box", "Pair"]
    assert found["open_one"].signature == "x, *, y=(1, 2), **options"
    assert found["bare"].docstring == ""
    assert found["Box"].signature == "size, *, lid=None"
    assert found["Pair"].signature == "one, two=2"
    inner = [(one.kind, one.name, one.signature) for one in found["Box"].members]
    assert inner == [("method", "fill", "x"), ("property", "full", None)]
    assert (found["LIMIT"].signature, found["LIMIT"].docstring) == (
        "3",
        "How many there are. at most",
    )


def test_a_name_that_is_passed_on_leads_to_its_definition(modules):
    wanted = "distill_lib.losses.response.soft_targets"
    assert library.definition(modules, "distill_lib.boxes.answers") == wanted
    assert library.definition(modules, wanted) == wanted
    assert library.definition(modules, "distill_lib.boxes") == "distill_lib.boxes"
    assert library.definition(modules, "distill_lib.boxes.nothing") is None
    assert library.definition(modules, "numpy.array") is None


def test_names_of_the_package_itself_lead_to_their_definitions(modules):
    text = "from distill_lib.boxes import bare\nfrom distill_lib import losses"
    modules["distill_lib"] = library.read_module("distill_lib", text)
    assert library.definition(modules, "distill_lib.bare") == "distill_lib.boxes.bare"
    assert library.definition(modules, "distill_lib") is None
    cells = ["import distill_lib", "distill_lib.bare(distill_lib.boxes.Box)"]
    found = [use.target for use in library.uses(modules, cells)[1]]
    assert found == ["distill_lib.boxes.bare", "distill_lib.boxes.Box"]


CELLS = [
    "from distill_lib import boxes as b\nfrom distill_lib.losses.response import soft_targets",
    "%%time\nsoft_targets",
    "é = b.open_one(x=soft_targets)\nb.nothing()",
    "soft_targets = soft_targets(1)\nsoft_targets(2)",
    "def b():\n    return b.Box",
]


def test_uses_are_found_where_they_stand(modules):
    found = library.uses(modules, CELLS)
    places = [[(use.line, use.start, use.end) for use in cell] for cell in found]
    assert places == [
        [(1, 24, 29), (2, 40, 52)],
        [],  # no Python
        [(1, 6, 14), (1, 17, 29), (2, 0, 1)],
        [(1, 15, 27)],  # then the name is the page's own
        [],
    ]
    for cell, source in zip(found, CELLS, strict=True):
        for use in cell:
            text = source.splitlines()[use.line - 1][use.start : use.end]
            assert use.target.endswith(text) or text == "b"


def test_docstrings_become_text_and_fields_without_stray_markup():
    text = reference.restructured(
        "KL(p || q) and KL(q || p) of x_ and ``a|b_``, **options as :func:`f_`.\n\n"
        "Args:\n    x, **rest: numbers: two.\n\nReturns:\n    a list: of two.\n\n"
        "Raises:\n    ValueError: none.\n"
    )
    assert (
        r"KL(p \|\| q) and KL(q \|\| p) of x\_ and ``a|b_``, \*\*options as :func:`f_`" in text
    )
    assert ":returns: a list: of two." in text
    assert ":raises ValueError: none." in text
    assert f":param x,{reference.JOIN}\\*\\*rest: numbers: two." in text


def test_pages_are_told_apart_by_what_they_assert(modules):
    def page(*cells):
        made = [{"cell_type": "code", "id": name, "source": [text]} for name, text in cells]
        return {"cells": [{"cell_type": "markdown", "id": "m", "source": [CELLS[0]]}, *made]}

    start = "from distill_lib.boxes import bare\n"
    notebooks = {
        "one": page(("same-thing", start + "assert bare() is None")),
        "two": page(("same-thing", start + "bare()"), ("same-things", "assert bare() is None")),
        "three": page(("result", "assert True")),
    }
    found = reference.pages_by_name(modules, notebooks)
    assert found == {"distill_lib.boxes.bare": {"one": True, "two": False}}
    words = {"explained_in": "E {pages}", "used_in": "U {pages}", "comma": ", "}
    module = modules["distill_lib.boxes"]
    text = reference.entry(module, module.members[3], found, words)
    assert "E :doc:`/one`" in text
    assert "U :doc:`/two`" in text


def test_constants_have_an_entry_where_somebody_speaks_of_them(modules):
    module = modules["distill_lib.boxes"]
    names = [one.name for one in reference.shown(module, {}, module.docstring)]
    assert "LIMIT" in names
    assert "OTHER" not in names
    used = {"distill_lib.boxes.OTHER": {"one": False}}
    assert "OTHER" in [one.name for one in reference.shown(module, used, "")]


def test_names_in_the_code_of_a_page_become_links(modules):
    body = (
        '<p>soft_targets</p><div class="highlight-python notranslate"><div class="highlight">'
        '<pre><span></span><span class="kn">from</span> <span class="nn">distill_lib'
        '.boxes</span> <span class="kn">import</span> <span class="n">bare</span>\n'
        '<span class="n">x</span> <span class="o">&lt;</span> <span class="n">bare</span>()'
        "</pre></div></div>"
    )
    html = reference.linked(body, modules, lambda name: f"r.html#{name}")
    links = BeautifulSoup(html, "html.parser").select("a.book-name")
    assert [link.text for link in links] == ["bare", "bare"]
    assert links[0]["href"] == "r.html#distill_lib.boxes.bare"
    assert re.sub(r"</?a[^>]*>", "", html) == body
    assert reference.linked(body, modules, lambda name: None) == body


def test_gaps_are_named(modules):
    text = "from distill_lib.losses.response import soft_targets"
    modules["distill_lib"] = library.read_module("distill_lib", text)
    used = {"distill_lib.boxes.open_one", "distill_lib.boxes.LIMIT"}
    entries = {"distill_lib.boxes", "distill_lib.boxes.bare", "distill_lib.boxes.LIMIT"}
    assert list(reference.gaps(modules, used, entries)) == [
        "distill_lib.boxes.open_one is not in the reference",
        "distill_lib.losses.response.soft_targets is not in the reference",
        "distill_lib.boxes.bare has no docstring",
    ]


def test_a_change_of_the_library_changes_the_fingerprint(small_book, tmp_path, monkeypatch):
    (tmp_path / "distill_lib").mkdir()
    (tmp_path / "distill_lib" / "new.py").write_text("")
    monkeypatch.setattr(build, "REPOSITORY", tmp_path)
    before = build.fingerprint(small_book)
    (tmp_path / "distill_lib" / "new.py").write_text("x = 1")
    assert build.fingerprint(small_book) != before


def test_the_reader_misses_no_definition_of_the_library():
    """Against a count that takes another way: all `def` and `class` at the left margin."""
    for module in library.read_library().values():
        path = library.REPOSITORY / module.name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        wanted = set(re.findall(r"^(?:def|class) ([a-zA-Z]\w*)", path.read_text("utf-8"), re.M))
        found = {one.name for one in module.members if one.kind != "data"}
        assert found == wanted, module.name
        assert ast.parse(path.read_text("utf-8"))


@pytest.fixture
def on_the_page(real_book):
    """The modules that the page of the reference names, as often as it does."""
    cells = read_notebook(real_book.notebook_path("reference")).cells
    text = "\n".join(cell.source for cell in cells)
    patterns = " ".join(re.findall(r"\{library\} (.*)", text)).split()
    names = [name.removeprefix("distill_lib.") for name in library.read_library()]
    return [name for one in patterns for name in names if reference.fnmatchcase(name, one)]


def test_the_page_names_no_module_twice(on_the_page):
    assert len(on_the_page) == len({*on_the_page}) > 10


@pytest.mark.parametrize("prefix", ["", "zh/"])
def test_the_finished_page_has_every_public_name(real_book, on_the_page, prefix):
    if not (real_book.build / "site.stamp").exists():
        pytest.skip("not built; run tools/site/build.py")
    page = (real_book.site / f"{prefix}reference.html").read_text("utf-8")
    assert reference.JOIN not in page
    ids = {tag["id"] for tag in BeautifulSoup(page, "html.parser").select("dt[id], span[id]")}
    for short in on_the_page:
        module = library.read_library()[f"distill_lib.{short}"]
        names = {f"{module.name}.{one.name}" for one in module.members if one.kind != "data"}
        assert names - ids == set()
