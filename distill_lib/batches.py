"""The inputs and signals of many students: checked once, then taken row by row on demand."""

import numpy as np
import tensorflow as tf
from keras import config

from distill_lib.signals import joined, take

PROBABILITY_ERROR = 1e-3  # how far from 1 a sum of probabilities may lie through rounding


def per_seed(name, value, seeds, many=(list, tuple)):
    """One value for each student: those of a list, or the same for all."""
    if not isinstance(value, many) or getattr(value, "shape", None) == ():
        return [value] * len(seeds)
    if len(value) != len(seeds):
        rule = f"{name} must have {len(seeds)} entries like seeds"
        hint = "a list holds one entry for each seed; one value for all is an array"
        raise ValueError(f"{rule}, got {len(value)} ({hint})")
    return list(value)


def batch_rows(count, seed, steps, batch_size=128):
    """The row numbers of each batch, int32 ``(steps, batch_size)``.

    One pass over all ``count`` rows after another, each in an order that ``seed`` decides.
    """
    rng = np.random.default_rng(seed)
    passes = -(-steps * batch_size // count)
    order = np.concatenate([rng.permutation(count) for _ in range(passes)])
    return order[: steps * batch_size].reshape(steps, batch_size).astype("int32")


def as_subsets(subsets, count, seeds):
    """The rows that each student may see: all ``count`` of them, or those of its subset."""
    if subsets is None:
        return [np.arange(count)] * len(seeds)
    if not isinstance(subsets, (list, tuple)):
        raise ValueError(f"subsets must be a list of arrays, got a {type(subsets).__name__}")
    found = [np.asarray(one) for one in per_seed("subsets", subsets, seeds)]
    for one in found:
        if one.ndim != 1 or not len(one) or not np.issubdtype(one.dtype, np.integer):
            rule = "subsets must hold one array of row numbers for each seed"
            raise ValueError(f"{rule}, got {one.dtype} of shape {one.shape}")
        if one.min() < 0 or one.max() >= count:
            rule = f"subsets must hold row numbers from 0 to {count - 1}"
            raise ValueError(f"{rule}, got {one.min()} to {one.max()}")
    return found


class Data:
    """Inputs and signals; those of student k may be its own.

    Args:
        x: array ``(n, ...)``.
        signals: arrays or stored signals by name, or lists of one for each seed.
        seeds: those of the students, only counted here.
        prefix: what stands before the names in errors.
    """

    def __init__(self, x, signals, seeds, prefix=""):
        self.prefix = prefix
        if not hasattr(x, "shape"):
            raise ValueError(f"{prefix}x must be one array (n, ...), got a {type(x).__name__}")
        self.x = _as_array("x", x)
        if not len(self.x):
            raise ValueError(f"len({prefix}x) must be at least 1, got 0")
        self.each, self.held, self.first_rows = {}, {}, {}
        for name, signal in signals.items():
            entries = [_as_array(name, one) for one in _distinct(per_seed(name, signal, seeds))]
            self._check_lengths(name, entries)
            # One student's rows after the other's: those of student k begin at k n.
            self.first_rows[name] = len(self.x) if len(entries) > 1 else 0
            self.held[name] = joined(entries)
            self.each[name] = entries
        self.inputs = tf.constant(self.x)

    def batch(self, number, rows):
        """The inputs and dense signals of one student, by its number and by row numbers."""
        given = {
            name: take(signal, rows + number * self.first_rows[name])
            for name, signal in self.held.items()
        }
        return tf.gather(self.inputs, rows), given

    def not_finite_in(self, number, rows):
        """Which signal of one student is not finite in some rows, in words, or ``""``."""
        for name, signal in self.batch(number, rows)[1].items():
            rule, wrong = _wrong(name, np.asarray(signal), None)
            if wrong.any():
                row = rows[np.argwhere(wrong)[0][0]]
                return f"{self.prefix}{name} must {rule}, but row {row} is not"
        return ""

    def of(self, number):
        """The signals of one student as they are stored, by name."""
        return {name: each[number % len(each)] for name, each in self.each.items()}

    def check(self, subsets, own_mask=None, class_count=None):
        """Refuse numbers that no loss could use, where they count.

        Args:
            subsets: for each student the row numbers that it may see.
            own_mask: the mask that the student itself makes of x, or ``None``.
            class_count: of its logits, if ``labels`` are classes; else ``None``.
        """
        self._refuse("x", self.x, _union(subsets, len(self.x)))
        groups = {}
        for number, rows in enumerate(subsets):
            alike = tuple(id(signal) for signal in self.of(number).values())
            groups.setdefault(alike, (number, []))[1].append(rows)
        for number, rows in groups.values():
            signals, counts = self.of(number), _union(rows, len(self.x))
            weight = signals.pop("sample_weight", None)
            self._refuse("sample_weight", weight, counts)
            not_zero = None if weight is None else weight != 0
            for mask in (signals.pop("mask", None), not_zero, own_mask):
                counts = both(counts, mask)
            for name, signal in signals.items():
                self._refuse(name, signal, counts, class_count)

    def _refuse(self, name, array, counts, class_count=None):
        """Raise for the first number of an array that is wrong and counts."""
        if not hasattr(array, "dtype"):
            return  # nothing given, or a stored signal: that was checked when it was made
        rule, wrong = _wrong(name, array, class_count)
        wrong = wrong & _on_axes_of(array, counts)
        if wrong.any():
            place = np.unravel_index(np.argmax(wrong), wrong.shape)
            found = f"got {array[place]} in row {place[0]}"
            raise ValueError(f"{self.prefix}{name} must {rule} where it counts, {found}")
        if name == "teacher_logits" and _are_probabilities(array, counts):
            rule = f"{self.prefix}teacher_logits must be logits, got probabilities"
            raise ValueError(f"{rule} (nothing below 0, all sums 1): take the logarithm")

    def _check_lengths(self, name, entries):
        for one in entries:
            count = len(one) if hasattr(one, "__len__") else None
            if count != len(self.x):
                rule = f"{self.prefix}{name} must have {len(self.x)} rows as x has"
                raise ValueError(f"{rule}, got {one if count is None else count}")


def both(one, other):
    """What counts by two masks, ``None`` or on leading axes of the examples; NumPy's or not."""
    if one is None or other is None:
        return one if other is None else other
    while one.ndim < other.ndim:
        one = one[..., None]
    while other.ndim < one.ndim:
        other = other[..., None]
    return one & other


def _distinct(entries):
    """One entry if all are the same, so that it is held once."""
    return entries[:1] if all(one is entries[0] for one in entries) else entries


def _as_array(name, value):
    """Arrays in Keras's precision, masks as booleans; stored signals as they are."""
    if not hasattr(value, "shape"):
        return value
    array = np.asarray(value)
    if name == "mask" and array.dtype != bool:
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"mask must be boolean (True counts), got {array.dtype}")
        return array.astype(bool)
    return array.astype(config.floatx()) if array.dtype == "float64" else array


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
    if name == "teacher_logits":  # minus infinity says that the teacher thinks it impossible
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
