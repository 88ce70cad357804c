"""Questions about pieces of code: what is mentioned, called, assigned, changed."""

import ast

DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def words(node):
    """Every name that a piece of code mentions, and every attribute."""
    parts = list(ast.walk(node))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return names | {part.attr for part in parts if isinstance(part, ast.Attribute)}


def free_words(function):
    """What a function mentions and does not define itself."""
    inside = list(ast.walk(function))
    own = {part.arg for part in inside if isinstance(part, ast.arg)}
    names = [part for part in inside if isinstance(part, ast.Name)]
    return words(function) - own - {n.id for n in names if isinstance(n.ctx, ast.Store)}


def calls_in(nodes):
    """Every call in some pieces of code, inner ones too."""
    return [part for node in nodes for part in ast.walk(node) if isinstance(part, ast.Call)]


def callee(call):
    """The last word of what is called: `train_many` of `training.train_many(...)`."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def root(node):
    """The name at the beginning of `name.attribute[key].attribute`, or ''."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return getattr(node, "id", "")


def targets(target, value, is_unsteady):
    """The single targets of an assignment or a loop, each with whether it is unsteady.

    The keys of a dictionary are written in the code, even if what they lead to was trained.
    """
    if isinstance(target, ast.Starred):
        target = target.value
    if not isinstance(target, (ast.Tuple, ast.List)):
        return [(target, is_unsteady)]
    has_keys = isinstance(value, ast.Call) and callee(value) == "items"
    parts = [
        targets(part, None, is_unsteady and not (has_keys and place == 0))
        for place, part in enumerate(target.elts)
    ]
    return [pair for part in parts for pair in part]


def bindings(node):
    """The pairs (target, value) of code that gives names a value."""
    pairs = []
    if isinstance(node, ast.NamedExpr):
        pairs = [(node.target, node.value)]
    elif isinstance(node, ast.Assign):
        pairs = [(target, node.value) for target in node.targets]
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and node.value is not None:
        pairs = [(node.target, node.value)]
    elif isinstance(node, ast.For):
        pairs = [(node.target, node.iter)]
    elif isinstance(node, ast.With):
        pairs = [(item.optional_vars, item.context_expr) for item in node.items]
    return [(target, value) for target, value in pairs if target is not None]


def changed_by(function):
    """The names whose content a call of `function` changes: `rows` by `rows.append(1)`."""
    inside = list(ast.walk(function))
    slots = [p for p in inside if isinstance(p, (ast.Subscript, ast.Attribute))]
    changed = {root(slot) for slot in slots if isinstance(slot.ctx, ast.Store)}
    calls = [
        p.value for p in inside if isinstance(p, ast.Expr) and isinstance(p.value, ast.Call)
    ]
    changed |= {root(call) for call in calls if isinstance(call.func, ast.Attribute)}
    for _ in range(2):  # a loop's `row` stands for what it runs over; so may that
        for target, value in [pair for part in inside for pair in bindings(part)]:
            if changed & {root(part) for part, _ in targets(target, value, False)}:
                changed |= words(value)
    return changed
