"""Numbers that no loss could use: looked for in all rows that count, before training."""

import numpy as np

from distill_lib import counting
from distill_lib.signals.checks import check_not_probabilities
from distill_lib.training.batches import is_array


def check_rows(data, subsets, own_mask=None, class_count=None):
    """Refuse numbers that no loss could use, where they count.

    Args:
        data: The :class:`~distill_lib.training.batches.Data`.
        subsets: For each student the row numbers that it may see.
        own_mask: The mask that the student itself makes of x, or ``None``.
        class_count: The number of classes if ``labels`` are classes, else ``None``.
    """
    count = len(data.x)
    _refuse(f"{data.prefix}x", data.x, *_wrong("x", data.x), _seen(subsets, count))
    checked = set()
    for number, rows in enumerate(subsets):
        signals = {
            name: each[number] if len(each) > 1 else each[0] for name, each in data.each.items()
        }
        alike = (id(rows), *map(id, signals.values()))
        if alike in checked:
            continue
        checked.add(alike)
        counts = counting.both(_seen([rows], count), signals.get("mask"))
        counts = counting.both(counts, counting.has_weight(signals.get("sample_weight")))
        counts = counting.both(counts, own_mask)
        for name, signal in signals.items():
            if is_array(signal):  # a stored signal was checked when it was made
                _check_signal(name, signal, counts, class_count, data.prefix)


def not_finite_in(data, number, rows):
    """Say which signal of one student is not finite in some rows, or return ``""``.

    This finds what a stored or live signal gives, which is decoded only when it is taken.
    """
    for name, signal in data.batch(number, rows)[1].items():
        rule, wrong = _wrong(name, np.asarray(signal))
        if wrong.any():
            row = rows[np.argwhere(wrong)[0][0]]
            return f"{data.prefix}{name} must {rule}, but row {row} is not"
    return ""


def _check_signal(name, array, counts, class_count, prefix):
    """Refuse one array of a student for its numbers, or for probabilities as logits."""
    is_teachers = name.startswith("teacher_")  # its last axis belongs to one example
    axes = max(array.ndim - 1, 1) if is_teachers else array.ndim
    counts = np.asarray(counting.with_all_axes(counts, array, axes))
    _refuse(prefix + name, array, *_wrong(name, array, class_count), counts)
    if name == "teacher_logits" and array.ndim > 1:
        check_not_probabilities(prefix + name, array[counts])


def _refuse(name, array, rule, wrong, counts):
    """Raise for the first number of an array that is wrong and counts."""
    counts = counts.reshape(counts.shape + (1,) * (array.ndim - counts.ndim))
    wrong = wrong & counts
    if wrong.any():
        place = np.unravel_index(np.argmax(wrong), wrong.shape)
        found = f"got {array[place]} in row {place[0]}"
        raise ValueError(f"{name} must {rule} where it counts, {found}")


def _seen(subsets, count):
    """Booleans ``(count,)``, true for the rows that are in one of the subsets."""
    seen = np.zeros(count, bool)
    for rows in subsets:
        seen[rows] = True
    return seen


def _wrong(name, array, class_count=None):
    """Return the rule that holds for the numbers of an array, and where it is broken."""
    if name == "labels" and class_count:
        rule = f"lie from 0 to {class_count - 1}"
        return rule, ~((array >= 0) & (array < class_count))
    if not np.issubdtype(array.dtype, np.floating):
        return "be numbers", np.zeros(array.shape, bool)
    if name == "teacher_logits":  # minus infinity means "never"
        return "be finite or -inf", np.isnan(array) | (array == np.inf)
    return "be finite", ~np.isfinite(array)
