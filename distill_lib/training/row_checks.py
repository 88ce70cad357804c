"""Numbers that no loss could use: looked for in all rows that count, before training."""

import numpy as np

from distill_lib.training.batches import is_array

PROBABILITY_ERROR = 1e-3  # how far from 1 a sum of probabilities may lie through rounding


def check_rows(data, subsets, own_mask=None, class_count=None):
    """Refuse numbers that no loss could use, where they count.

    Args:
        data: the :class:`~distill_lib.training.batches.Data`.
        subsets: for each student the row numbers that it may see.
        own_mask: the mask that the student itself makes of x, or ``None``.
        class_count: of its logits, if ``labels`` are classes; else ``None``.
    """
    count = len(data.x)
    _refuse(data, "x", data.x, _union(subsets, count))
    groups = {}
    for number, rows in enumerate(subsets):
        alike = tuple(id(signal) for signal in data.of(number).values())
        groups.setdefault(alike, (number, []))[1].append(rows)
    for number, rows in groups.values():
        signals, counts = data.of(number), _union(rows, count)
        weight = signals.pop("sample_weight", None)
        _refuse(data, "sample_weight", weight, counts)
        not_zero = None if weight is None else weight != 0
        for mask in (signals.pop("mask", None), not_zero, own_mask):
            counts = both(counts, mask)
        for name, signal in signals.items():
            _refuse(data, name, signal, counts, class_count)


def not_finite_in(data, number, rows):
    """Which signal of one student is not finite in some rows, in words, or ``""``.

    This finds what a stored or live signal gives, which is decoded only when it is taken.
    """
    for name, signal in data.batch(number, rows)[1].items():
        rule, wrong = _wrong(name, np.asarray(signal), None)
        if wrong.any():
            row = rows[np.argwhere(wrong)[0][0]]
            return f"{data.prefix}{name} must {rule}, but row {row} is not"
    return ""


def both(one, other):
    """What counts by two masks, ``None`` or on leading axes of the examples; NumPy's or not."""
    if one is None or other is None:
        return one if other is None else other
    while one.ndim < other.ndim:
        one = one[..., None]
    while other.ndim < one.ndim:
        other = other[..., None]
    return one & other


def _refuse(data, name, array, counts, class_count=None):
    """Raise for the first number of an array that is wrong and counts."""
    if not is_array(array):
        return  # nothing given, or a stored signal: that was checked when it was made
    rule, wrong = _wrong(name, array, class_count)
    wrong = wrong & _on_axes_of(array, counts)
    if wrong.any():
        place = np.unravel_index(np.argmax(wrong), wrong.shape)
        found = f"got {array[place]} in row {place[0]}"
        raise ValueError(f"{data.prefix}{name} must {rule} where it counts, {found}")
    if name == "teacher_logits" and _are_probabilities(array, counts):
        rule = f"{data.prefix}{name} must be logits, got probabilities (rows that sum to 1)"
        raise ValueError(f"{rule}: take the logarithm, or the softmax off the teacher")


def _union(subsets, count):
    """Booleans ``(count,)``, true for the rows that are in one of the subsets."""
    found = np.zeros(count, bool)
    for rows in subsets:
        found[rows] = True
    return found


def _wrong(name, array, class_count):
    """The rule that holds for the numbers of an array, and where it is broken."""
    if name == "labels" and class_count:
        rule = f"lie from 0 to {class_count - 1}"
        return rule, ~((array >= 0) & (array < class_count))
    if not np.issubdtype(array.dtype, np.floating):
        return "be numbers", np.zeros(array.shape, bool)
    if name == "teacher_logits":  # minus infinity means "never"
        return "be finite or -inf", np.isnan(array) | (array == np.inf)
    return "be finite", ~np.isfinite(array)


def _on_axes_of(array, counts):
    """``counts`` for every number of an array: on fewer axes it counts where any does."""
    while counts.ndim > array.ndim:
        counts = counts.any(axis=-1)
    return counts.reshape(counts.shape + (1,) * (array.ndim - counts.ndim))


def _are_probabilities(array, counts):
    if array.ndim < 2 or array.shape[-1] < 2:
        return False
    where = np.broadcast_to(_on_axes_of(array[..., 0], counts), array.shape[:-1])
    rows = array[where].astype("float64")
    sums = np.abs(rows.sum(axis=-1) - 1)
    return bool(len(rows) and (rows >= 0).all() and (sums < PROBABILITY_ERROR).all())
