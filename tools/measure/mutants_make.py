"""Make the mutants of a file with the operators of mutmut.

Left out by rule, because no number depends on them: docstrings, type annotations, decorators,
prose (strings with a space: the texts of errors), the arguments of ``len`` and ``isinstance``,
and what leaves the syntax tree as it was (``1e30`` and ``1e30 + 1`` are one number). Of the
three changes of a string one is made, "XXwordXX".
"""

import ast
import hashlib
from difflib import SequenceMatcher

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper
from mutmut.mutation.mutators import mutation_operators

from tools.measure.mutants_store import Mutant

UNTOUCHED = ("len", "isinstance")


def mutants_of(file, code):
    """Pairs of a :class:`Mutant` and the whole mutated source, in the order of the file."""
    lines, pairs = code.splitlines(keepends=True), []
    for statement in ast.parse(code).body:
        first = min(x.lineno for x in (statement, *getattr(statement, "decorator_list", ())))
        before, after = lines[: first - 1], lines[statement.end_lineno :]
        segment = "".join(lines[first - 1 : statement.end_lineno])
        for mutant, mutated in _mutants_of_statement(file, segment, first):
            pairs.append((mutant, "".join((*before, mutated, *after))))
    return sorted(pairs, key=lambda pair: pair[0].line)


def _mutants_of_statement(file, code, first_line):
    """Pairs of a mutant and the mutated statement; nothing twice."""
    original = ast.parse(code)
    seen = {_dump(original)}
    for source in _sources(code):
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        if (dump := _dump(tree)) not in seen:
            seen.add(dump)
            function, change = _changed(original.body, tree.body)
            key = hashlib.sha256(f"{file} {function} {change}".encode()).hexdigest()[:12]
            line, before, after = _difference(code.splitlines(), source.splitlines())
            yield Mutant(file, line + first_line, function, before, after, key), source


def _sources(code):
    """The code with one node replaced, for each change of each node."""
    wrapper, changes = MetadataWrapper(cst.parse_module(code)), _Changes()
    wrapper.module.visit(changes)
    spans, encoded = wrapper.resolve(ByteSpanPositionProvider), code.encode()
    for node, mutated in changes.found:
        start = spans[node].start
        end = start + spans[node].length
        new = wrapper.module.code_for_node(mutated).encode()
        yield (encoded[:start] + new + encoded[end:]).decode()


class _Changes(cst.CSTVisitor):
    """Gathers (node, mutated node)."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_visit(self, node):
        if isinstance(node, (cst.Annotation, cst.Decorator)):
            return False
        if isinstance(node, cst.Call) and getattr(node.func, "value", None) in UNTOUCHED:
            return False
        if isinstance(node, cst.SimpleString) and " " in node.value:
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                mutated = list(operator(node))
                mutated = mutated[:1] if kind is cst.BaseString else mutated
                self.found += [(node, one) for one in mutated]
        return True


def _dump(tree):
    """The tree as text, without places, and without docstrings, which it loses."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = node.body[ast.get_docstring(node) is not None :]
    return ast.dump(tree)


def _changed(before, after):
    """Name of the function that differs, ``Class.method``, and its text before and after."""
    for one, other in zip(before, after, strict=True):
        texts = ast.dump(one), ast.dump(other)
        if texts[0] != texts[1]:
            name = getattr(one, "name", "")
            if isinstance(one, ast.ClassDef):
                inner, texts = _changed(one.body, other.body)
                return f"{name}.{inner}", texts
            return name, texts
    raise ValueError("before and after must differ")


def _difference(lines, others):
    """Index of the first line that differs, and what differs before and after, in a line."""
    blocks = SequenceMatcher(None, lines, others, autojunk=False).get_opcodes()
    blocks = [block for block in blocks if block[0] != "equal"]
    first, last = blocks[0], blocks[-1]
    parts = lines[first[1] : last[2]], others[first[3] : last[4]]
    return first[1], *(" ".join(map(str.strip, part)) for part in parts)
