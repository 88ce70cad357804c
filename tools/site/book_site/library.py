"""The library's public names, and where code uses them, read without importing anything."""

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE = "distill_lib"
LONGEST_VALUE = 60


@dataclass(frozen=True)
class Member:
    """A public function, class, method, property or constant.

    `signature` is the text in parentheses, of a constant its value, or None; the `docstring`
    of a constant is its comment.
    """

    kind: str
    name: str
    signature: str | None
    docstring: str
    members: tuple = ()


@dataclass(frozen=True)
class Module:
    """A public module: its dotted name, docstring, members, and names that it passes on."""

    name: str
    docstring: str
    members: tuple
    imported: dict = field(default_factory=dict)


@cache
def read_library(root=REPOSITORY):
    """All modules by dotted name but those with an underscore."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            name = ".".join(parts)
            modules[name] = read_module(name, path.read_text("utf-8"))
    return modules


def read_module(name, source):
    """One module, from its text."""
    tree, lines = ast.parse(source), source.splitlines()
    found = [_member(node, lines) for node in tree.body]
    docstring = ast.get_docstring(tree) or ""
    return Module(name, docstring, tuple(filter(None, found)), _imports(tree))


def _imports(tree):
    """{local name: dotted name} of the imports from the library at the top of a text."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and _is_own(node.module):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.asname: a.name for a in node.names if a.asname and _is_own(a.name)}
    return found


def _is_own(module):
    return bool(module) and module.split(".")[0] == PACKAGE


def _member(node, lines, inside_class=False):
    """What one statement defines in public, or None."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name = node.targets[0].id
        if name.isupper() and not name.startswith("_"):
            value = ast.unparse(node.value)
            value = value if len(value) <= LONGEST_VALUE else None
            return Member("data", name, value, _comment(node, lines))
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
        return None
    docstring = ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        inner = [_member(part, lines, inside_class=True) for part in node.body]
        members = tuple(one for one in inner if one and one.docstring)
        return Member("class", node.name, _class_signature(node), docstring, members)
    if not inside_class:
        return Member("function", node.name, ast.unparse(node.args), docstring)
    if any(ast.unparse(one) == "property" for one in node.decorator_list):
        return Member("property", node.name, None, docstring)
    return Member("method", node.name, _without_self(node), docstring)


def _comment(node, lines):
    """The comment behind a statement, or the lines of comment above it."""
    behind = lines[node.end_lineno - 1][node.end_col_offset :].strip()
    above, line = [], node.lineno - 2
    while line >= 0 and lines[line].startswith("#"):
        above.insert(0, lines[line])
        line -= 1
    text = " ".join([*above, behind]).replace("#", "").split()
    return " ".join(text)


def _class_signature(node):
    """Arguments of `__init__`, or the fields of a dataclass or named tuple."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _without_self(part)
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    words = [ast.unparse(one.target) + _default(one.value) for one in fields]
    return ", ".join(words) if words else None


def _default(value):
    return "" if value is None else f"={ast.unparse(value)}"


def _without_self(function):
    arguments = function.args
    own = arguments.posonlyargs or arguments.args
    shortened = ast.parse(f"def f({ast.unparse(arguments)}): pass").body[0].args
    (shortened.posonlyargs or shortened.args)[:1] = [] if own else own
    return ast.unparse(shortened)


def definition(modules, dotted):
    """The dotted name under which `dotted` is defined in public, or None.

    `distill_lib.losses.soft_target_loss` is defined in `distill_lib.losses.response`. A module
    is its own; the package itself is none.
    """
    if dotted in modules:
        return dotted if dotted != PACKAGE else None
    module, _, name = dotted.rpartition(".")
    while module in modules:
        if any(one.name == name for one in modules[module].members):
            return f"{module}.{name}"
        module, _, name = modules[module].imported.get(name, "").rpartition(".")
    return None


@dataclass(frozen=True)
class Use:
    """A place in code: line from 1, first and last column of the name, and what it means."""

    line: int
    start: int
    end: int
    target: str


def uses(modules, sources):
    """The uses of public names in cells that run one after the other.

    Returns:
        one list of `Use` for each source, in order; none for a cell that is no Python.
    """
    known, found = {}, []
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            found.append([])
            continue
        finder = _Finder(modules, known, source.splitlines())
        finder.visit(tree)
        found.append(sorted(finder.found, key=lambda use: (use.line, use.start)))
    return found


class _Finder(ast.NodeVisitor):
    """Walks one cell; `known` maps names of the page to dotted names of the library."""

    def __init__(self, modules, known, lines):
        self.modules, self.known, self.lines, self.found = modules, known, lines, []

    def visit_ImportFrom(self, node):
        """Learn the names, and note them as used."""
        for alias in node.names:
            local = alias.asname or alias.name
            self.known.pop(local, None)
            if _is_own(node.module):
                self.known[local] = f"{node.module}.{alias.name}"
                self._note(alias.lineno, alias.col_offset, alias.name, self.known[local])

    def visit_Import(self, node):
        """Learn `import distill_lib.x as y`, or with `import distill_lib.x` the package."""
        for alias in node.names:
            local = alias.asname or alias.name.split(".")[0]
            self.known.pop(local, None)
            if _is_own(alias.name):
                self.known[local] = alias.name if alias.asname else PACKAGE

    def visit_Name(self, node):
        """A name that is known, until it is given away."""
        if isinstance(node.ctx, ast.Store):
            self.known.pop(node.id, None)
        elif node.id in self.known:
            self._note(node.lineno, node.col_offset, node.id, self.known[node.id])

    def visit_FunctionDef(self, node):
        """A function of the page's own may take a name of the library."""
        self.known.pop(node.name, None)
        self.generic_visit(node)

    def visit_Assign(self, node):
        """The value comes before the name that it is given to."""
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_Attribute(self, node):
        """`module.name`, however deep."""
        dotted = self._dotted(node)
        if dotted and definition(self.modules, dotted):
            start = node.end_col_offset - len(node.attr.encode())
            self._note(node.end_lineno, start, node.attr, dotted)
        else:
            self.visit(node.value)

    def _dotted(self, node):
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute) and (before := self._dotted(node.value)):
            return f"{before}.{node.attr}"
        return None

    def _note(self, line, start, name, dotted):
        start = len(self.lines[line - 1].encode()[:start].decode())  # Python counts bytes
        if target := definition(self.modules, dotted):
            self.found.append(Use(line, start, start + len(name), target))
