"""The inputs and signals of many students: checked once, then taken row by row on demand."""

import numpy as np
import tensorflow as tf
from keras import config

from distill_lib.signals import joined, take


def is_array(value):
    """Return whether a value is one array or tensor, not a list and not a stored signal."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def per_seed(name, value, seeds, many=(list, tuple)):
    """Return one value for each student: those of a list, or the same for all."""
    if not isinstance(value, many) or getattr(value, "shape", None) == ():
        return [value] * len(seeds)
    if len(value) != len(seeds):
        rule = f"{name} must have {len(seeds)} entries like seeds"
        hint = "a list holds one entry for each seed; one value for all is an array"
        raise ValueError(f"{rule}, got {len(value)} ({hint})")
    return list(value)


def batch_rows(count, seed, steps, batch_size=128):
    """Return the row numbers of each batch, int32 ``(steps, batch_size)``.

    One pass over all ``count`` rows follows another, each in an order that ``seed`` decides.
    """
    rng = np.random.default_rng(seed)
    passes = -(-steps * batch_size // count)
    order = np.concatenate([rng.permutation(count) for _ in range(passes)])
    return order[: steps * batch_size].reshape(steps, batch_size).astype("int32")


def as_subsets(subsets, count, seeds):
    """Return the rows that each student may see: those of its subset, or all ``count``."""
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
    """Inputs and signals, of which every student may have its own.

    Args:
        x: An array ``(n, ...)``.
        signals: Arrays or stored signals by name, or lists of one for each seed.
        seeds: The seeds of the students, which are only counted here.
        prefix: What stands before the names in errors.
    """

    def __init__(self, x, signals, seeds, prefix=""):
        self.prefix = prefix
        if not is_array(x):
            raise ValueError(f"{prefix}x must be one array (n, ...), got a {type(x).__name__}")
        self.x = _as_array("x", x)
        if not len(self.x):
            raise ValueError(f"len({prefix}x) must be at least 1, got 0")
        self.each = {}  # the signal of each student by name; one alone if all have the same
        for name, signal in signals.items():
            entries = per_seed(name, signal, seeds)
            is_shared = all(one is entries[0] for one in entries)
            self.each[name] = [
                _as_array(name, one) for one in entries[: 1 if is_shared else None]
            ]
            for one in self.each[name]:
                self._check_length(name, one)
        self.inputs = tf.constant(self.x)
        self.held = {name: joined(each) for name, each in self.each.items()}

    def batch(self, number, rows):
        """Return inputs and dense signals of one student, by its number and row numbers."""
        signals = {}
        for name, signal in self.held.items():
            # The rows of one student come after the other's: those of student k begin at k n.
            first = number * len(self.x) if len(self.each[name]) > 1 else 0
            signals[name] = take(signal, rows + first)
        return tf.gather(self.inputs, rows), signals

    def _check_length(self, name, signal):
        count = len(signal) if hasattr(signal, "__len__") else None
        if count != len(self.x):
            rule = f"{self.prefix}{name} must have {len(self.x)} rows as x has"
            raise ValueError(f"{rule}, got {signal if count is None else count}")


def _as_array(name, value):
    """Return arrays in Keras's precision, masks as booleans, stored signals as they are."""
    if not is_array(value):
        return value
    array = np.asarray(value)
    if name == "mask" and array.dtype != bool:
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"mask must be boolean (True counts), got {array.dtype}")
        return array.astype(bool)
    return array.astype(config.floatx()) if array.dtype == "float64" else array
