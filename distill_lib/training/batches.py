"""The inputs and signals of many students: checked once, then taken row by row on demand."""

import numpy as np
import tensorflow as tf
from keras import config

from distill_lib.signals import joined, take


def is_array(value):
    """Whether a value is one array or tensor, not a list and not a stored signal."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


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
        if not is_array(x):
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

    def of(self, number):
        """The signals of one student as they are stored, by name."""
        return {name: each[number % len(each)] for name, each in self.each.items()}

    def _check_lengths(self, name, entries):
        for one in entries:
            count = len(one) if hasattr(one, "__len__") else None
            if count != len(self.x):
                rule = f"{self.prefix}{name} must have {len(self.x)} rows as x has"
                raise ValueError(f"{rule}, got {one if count is None else count}")


def _distinct(entries):
    """One entry if all are the same, so that it is held once."""
    return entries[:1] if all(one is entries[0] for one in entries) else entries


def _as_array(name, value):
    """Arrays in Keras's precision, masks as booleans; stored signals as they are."""
    if not is_array(value):
        return value
    array = np.asarray(value)
    if name == "mask" and array.dtype != bool:
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"mask must be boolean (True counts), got {array.dtype}")
        return array.astype(bool)
    return array.astype(config.floatx()) if array.dtype == "float64" else array
