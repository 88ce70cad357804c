"""Follow names through the code of a notebook: which values may differ on the next machine?

`Flow` takes in one cell after another and runs none. It begins with the names of what differs
by itself, such as training and clocks. A name is unsteady once an unsteady one occurs in its
value; a list is by `append`; a model is by `fit`, and with it each model that shares its
layers. What the architecture alone decides stays steady: shapes, counts of weights. Where the
code leaves doubt, the answer is "unsteady".
"""

import ast
import re

from code_names import (
    DEFINITIONS,
    bindings,
    callee,
    calls_in,
    changed_by,
    free_words,
    root,
    targets,
    words,
)

STEADY = {"len", "type", "isinstance", "shape", "ndim", "dtype", "size", "name"}
STEADY |= {"count_params", "parameter_count", "operation_count"}
SPEAKING = {"print", "glue", "display"}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


class Flow:
    """What is known of a notebook's names after the cells that were taken in so far.

    Args:
        sources: words that are unsteady by themselves, such as `fit`.
        makers: names of functions and classes that make a model.
    """

    def __init__(self, sources, makers):
        self.sources, self.makers = set(sources), set(makers) - STEADY
        self.unsteady, self.models, self.modules = set(sources), set(), set()
        self.functions = {}  # the free words of each function that the notebook defines
        self.changes = {}  # the names that a call of it changes
        self.origin = {}  # the words in the value of each other name

    def cell(self, source):
        """Take in one cell; whether it shows something unsteady."""
        lines = [line for line in source.splitlines() if not re.match(r"\s*[%!]", line)]
        statements = ast.parse("\n".join(lines)).body
        shows = [self._statement(statement) for statement in statements]
        last = statements[-1] if statements else None
        return any(shows) or (isinstance(last, ast.Expr) and self.depends(last.value))

    def _statement(self, node, is_doubtful=False):
        """Take in one statement, which may not be reached (`is_doubtful`); what it shows."""
        if isinstance(node, DEFINITIONS):
            self.functions[node.name] = free_words(node)
            self.changes[node.name] = changed_by(node) & self.functions[node.name]
            return False
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.modules |= {(one.asname or one.name).split(".")[0] for one in node.names}
            return False
        heads = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        heads += [item.context_expr for item in getattr(node, "items", [])]
        shows = any(is_doubtful or self.depends(call) for call in self._spoken(node, heads))
        for call in calls_in(heads):
            self._call(call)
        inside = [part for head in heads for part in ast.walk(head)]
        for target, value in [pair for part in [*inside, node] for pair in bindings(part)]:
            is_unsteady = is_doubtful or self.depends(value)
            for part, is_part_unsteady in targets(target, value, is_unsteady):
                self._assign(part, value, is_part_unsteady, isinstance(node, ast.AugAssign))
        if isinstance(node, (ast.If, ast.While)):
            is_doubtful = is_doubtful or self.depends(node.test)
        return self._blocks(node, is_doubtful) or shows

    def _blocks(self, node, is_doubtful):
        blocks = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
        blocks += [handler.body for handler in getattr(node, "handlers", [])]
        # A loop's body is taken in twice: the second round knows what the first one did.
        rounds = 2 if isinstance(node, (ast.For, ast.While)) else 1
        inner = [statement for block in blocks for statement in block]
        shows = [self._statement(one, is_doubtful) for one in inner * rounds]
        return any(shows)

    def _spoken(self, node, heads):
        """The calls in a statement that may print or glue."""
        said = [
            {callee(call), *self.functions.get(callee(call), ())} for call in calls_in(heads)
        ]
        spoken = [c for c, said in zip(calls_in(heads), said, strict=True) if said & SPEAKING]
        call = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(call, ast.Call):
            # A function may print what it is given; a method such as `axes.plot` does not.
            is_function = isinstance(call.func, ast.Name) or root(call) in self.modules
            spoken += [call] if is_function and not callee(call).startswith("assert") else []
        return spoken

    def _call(self, call):
        """What a call changes: a model by `fit`, a list by `append`, axes by `plot`."""
        trains = self.depends(call.func)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        owner = root(call) if isinstance(call.func, ast.Attribute) else ""
        if trains and owner not in self.modules:
            self.models.add(owner)
        if trains or any(map(self.depends, given)):
            for name in {owner, *self.changes.get(callee(call), ())} - self.functions.keys():
                self.spoil(name)
        if trains:
            for name in words(call) & self.models:
                self.spoil(name)

    def _assign(self, target, value, is_unsteady, is_change):
        """Note what a name is now; a part of it, or a change of it, takes nothing back."""
        name, is_whole = root(target), isinstance(target, ast.Name) and not is_change
        if is_whole:
            self.functions.pop(name, None)
            self.origin.pop(name, None)
            self.unsteady.discard(name)
            self.models.discard(name)
        self.origin[name] = self.origin.get(name, set()) | words(value)
        if self._is_model(value):
            self.models.add(name)
        elif self._makes(words(value)):
            self.makers.add(name)
        if is_unsteady:
            self.spoil(name)

    def _is_model(self, value):
        """Whether a value is a model or holds one; what only builds one is a maker."""
        if isinstance(value, COMPREHENSIONS):
            value = value.value if isinstance(value, ast.DictComp) else value.elt
        if isinstance(value, (ast.Name, ast.Subscript)):
            return root(value) in self.models
        if isinstance(value, ast.Call):
            return self._makes({callee(value), root(value)})
        children = [] if isinstance(value, ast.Lambda) else ast.iter_child_nodes(value)
        return any(self._is_model(child) for child in children)

    def _makes(self, mentioned):
        inner = [self.functions.get(name, set()) for name in mentioned]
        return bool(set(mentioned).union(*inner) & self.makers)

    def spoil(self, name):
        """Make a name unsteady; and models that share its layers, except a teacher."""
        if not name or name in self.unsteady | self.modules:
            return
        self.unsteady.add(name)
        for other in set(self.models) if name in self.models else ():
            shares = other in self.origin.get(name, ()) or name in self.origin.get(other, ())
            if shares and "teacher" not in other:
                self.spoil(other)

    def depends(self, node):
        """Whether the value of an expression may differ on the next machine."""
        if isinstance(node, ast.Name):
            return self._name_depends(node.id, frozenset())
        if isinstance(node, ast.Attribute):
            is_steady = node.attr in STEADY
            return not is_steady and (node.attr in self.sources or self.depends(node.value))
        if isinstance(node, ast.Call) and callee(node) in STEADY:
            return False
        if isinstance(node, COMPREHENSIONS):
            return self._comprehension_depends(node)
        return any(self.depends(child) for child in ast.iter_child_nodes(node))

    def _name_depends(self, name, seen):
        inner = self.functions.get(name)
        if inner is None:
            return name in self.unsteady
        new = inner - seen
        return bool(inner & self.sources) or any(
            self._name_depends(one, seen | inner) for one in new
        )

    def _comprehension_depends(self, node):
        before = set(self.unsteady)
        for loop in node.generators:
            pairs = targets(loop.target, loop.iter, self.depends(loop.iter))
            self.unsteady -= {root(part) for part, _ in pairs}
            self.unsteady |= {root(part) for part, is_unsteady in pairs if is_unsteady}
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        values += [condition for loop in node.generators for condition in loop.ifs]
        found = any(self.depends(value) for value in values)
        self.unsteady = before
        return found
