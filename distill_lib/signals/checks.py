"""What no teacher may answer: numbers that are none, probabilities in the place of logits."""

import numpy as np

PROBABILITY_ERROR = 1e-3  # how far from 1 a sum of probabilities may lie through rounding


def check_values(name, values, *, allow_minus_infinity=False):
    """Refuse nan and infinity in an array ``(n, ...)``; the error names the first bad row.

    In logits minus infinity is allowed, and means "this class never". A row (along the last
    axis) of nothing else is refused all the same.
    """
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.inexact):
        return
    wrong, rule = ~np.isfinite(values), f"{name} must hold finite numbers only"
    if allow_minus_infinity:
        is_never = np.isneginf(values)
        wrong = (wrong & ~is_never) | is_never.all(axis=-1, keepdims=True)
        rule += " (-inf for some classes of a row)"
    refuse_first(wrong, values, rule)


def refuse_first(wrong, values, rule):
    """Raise ``ValueError`` with the rule for the first value ``(n, ...)`` that is wrong."""
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        row = place[0] if place else 0
        raise ValueError(f"{rule}, got {values[place]} in row {row}")


def check_not_probabilities(name, values):
    """Refuse logits ``(..., classes)`` that are probabilities: softmax of them is far too flat.

    Refused are two or more classes of which every row is free of negative numbers and sums to
    1. Many published models end in such a softmax.
    """
    values = np.asarray(values)
    if values.size == 0 or values.ndim < 1 or values.shape[-1] < 2:
        return
    errors = np.abs(values.sum(axis=-1, dtype="float32") - 1)
    if (values >= 0).all() and (errors <= PROBABILITY_ERROR).all():
        raise ValueError(
            f"{name} must be logits, got probabilities: rows of numbers from 0 that sum to 1. "
            "Take the softmax off the teacher: "
            "distill_lib.without_last_activation(teacher)."
        )


def check_class_names(name, class_names, class_count=None):
    """The names as a list of strings, no two of them equal; ``class_count`` if it is given."""
    names = [str(one) for one in class_names]
    if len(set(names)) < len(names):
        twice = sorted({one for one in names if names.count(one) > 1})
        raise ValueError(f"{name} must be different from each other, got {twice} twice")
    if class_count is not None and len(names) != class_count:
        raise ValueError(f"{name} must name {class_count} classes, got {len(names)}: {names}")
    return names


def reorder_classes(logits, given, wanted):
    """Bring the classes of ``logits`` from the order ``given`` into the order ``wanted``.

    For a teacher that was trained with another order of the same classes. Store the answers
    afterwards: the classes of a stored signal cannot be moved.

    Args:
        logits: array ``(..., classes)``.
        given: the names of the classes in the order of the last axis.
        wanted: the same names in the order of the student's classes.

    Raises:
        ValueError: for a name twice, two different sets, or another number of classes.
    """
    logits = np.asarray(logits)
    if logits.dtype == object:
        raise ValueError(f"logits must be an array of numbers, got {logits}")
    given = check_class_names("given", given, logits.shape[-1])
    wanted = check_class_names("wanted", wanted)
    if apart := sorted(set(given) ^ set(wanted)):
        raise ValueError(f"given and wanted must be the same names, got only once: {apart}")
    return logits[..., [given.index(one) for one in wanted]]
