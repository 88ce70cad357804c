"""Stored answers of a teacher: rows in a compact form, found by number, decoded when read."""

from dataclasses import dataclass, replace
from functools import partial

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True, eq=False, repr=False)
class StoredSignal:
    """Rows of answers in a compact form.

    Attributes:
        arrays: a tuple of arrays with n rows each.
        decode: a function of the same rows of all arrays to dense rows ``(batch, ...)``.
        row_shape: the shape of one dense row, without n.
        names: the names under which losses take the arrays as they are, or ``None``.
    """

    arrays: tuple
    decode: partial
    row_shape: tuple
    names: tuple | None = None

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, rows):
        """A stored signal of some rows, by a slice or an array of integers."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.ndim != 1 or rows.dtype.kind not in "iu":
                rule = "rows must be a slice or a one-dimensional array of integers"
                raise ValueError(f"{rule}, got {rows!r}")
        return replace(self, arrays=tuple(np.asarray(array)[rows] for array in self.arrays))

    def __repr__(self):
        arrays = [f"{one.dtype.name}{tuple(one.shape)}" for one in self.arrays]
        form = self.decode.func.__name__.removeprefix("_decode_")
        return f"StoredSignal({form}, shape={self.shape}, arrays=[{', '.join(arrays)}])"

    @property
    def shape(self):
        """The shape of the dense rows that :func:`take` gives: ``(n, ..., classes)``."""
        return (len(self), *self.row_shape)

    def arrays_by_name(self):
        """Return the arrays of :func:`~distill_lib.signals.top_k` as they are, by name.

        The names are those under which :func:`~distill_lib.losses.top_k_soft_target_loss`
        takes them, the temperature among them.
        """
        if self.names is None:
            raise ValueError(f"arrays_by_name needs a signal made by top_k, got {self!r}")
        named = dict(zip(self.names, self.arrays, strict=True))
        temperature = self.decode.keywords["temperature"]
        return named | {"teacher_temperature": np.full(len(self), temperature, "float32")}


def as_stored(values):
    """A :class:`StoredSignal` of a plain array, whose rows are read as they are."""
    if isinstance(values, StoredSignal):
        return values
    values = values if tf.is_tensor(values) else np.asarray(values)
    return StoredSignal((values,), partial(_decode_plain), tuple(values.shape[1:]))


def take(signal, rows):
    """Dense rows ``(batch, ...)`` of a stored signal or an array, by their numbers."""
    signal = as_stored(signal)
    return signal.decode(*(tf.gather(array, rows) for array in signal.arrays))


def joined(signals):
    """Signals of one form, one after the other, as one signal of tensors.

    ``ValueError`` where they are decoded in different ways: other forms, temperatures,
    numbers of classes, or teachers.
    """
    signals = [as_stored(one) for one in signals]
    first = signals[0]
    for one in signals[1:]:
        if _decoding(one) != _decoding(first):
            raise ValueError(f"signals must be of one form, got {first!r} and {one!r}")
    columns = zip(*(one.arrays for one in signals), strict=True)
    arrays = tuple(tf.constant(np.concatenate(column)) for column in columns)
    return replace(first, arrays=arrays)


def row_count(name, values):
    """The number of rows of an array, or of all the arrays in a dict or list.

    ``ValueError`` where there is no array, one without rows, or where the numbers differ.
    """
    shapes = [tuple(np.shape(array)) for array in keras.tree.flatten(values)]
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        rule = "hold arrays with as many rows as each other"
        raise ValueError(f"{name} must {rule}, got arrays of the shapes {shapes}")
    return shapes[0][0]


def _decode_plain(values):
    return values


def _decoding(signal):
    return signal.decode.func, signal.decode.keywords, signal.row_shape
