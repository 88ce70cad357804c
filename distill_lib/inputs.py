"""A teacher's inputs in any form, batch by batch, and their checksum."""

import hashlib
import json

import keras
import numpy as np
import tensorflow as tf

from distill_lib.stored import row_count


def input_batches(x, batch_size, teacher):
    """Inputs, without labels, in batches of NumPy arrays, in order.

    Args:
        x: array ``(n, ...)``, a dict or list of arrays, or a ``tf.data.Dataset`` of inputs or
            ``(inputs, ...)``. A data set of examples is made one of batches; it counts as one
            of examples if it has an axis less than the inputs of ``teacher``.
        batch_size: rows in a batch, if ``x`` is not batched already.

    Raises:
        ValueError: arrays that differ in their numbers of rows, or a data set without end.
    """
    if isinstance(x, tf.data.Dataset):
        return _batches_of_dataset(x, batch_size, teacher)
    x = keras.tree.map_structure(np.asarray, x)
    starts = range(0, row_count("x", x), batch_size)
    return (
        keras.tree.map_structure(lambda array, at=start: array[at : at + batch_size], x)
        for start in starts
    )


class RowsChecksum:
    """The SHA-256 of rows that come in batches; the sizes of the batches do not count."""

    def __init__(self):
        self._digests, self._row_kinds = {}, {}

    def update(self, inputs):
        """Add a batch: an array, or a dict or list of arrays."""
        for path, array in keras.tree.flatten_with_path(inputs):
            array = np.asarray(array)
            digest = self._digests.setdefault(path, hashlib.sha256())
            row_kind = (array.dtype.str, array.shape[1:])
            if self._row_kinds.get(path) != row_kind:
                digest.update(repr(row_kind).encode())
                self._row_kinds[path] = row_kind
            if array.dtype.kind in "OSU":  # strings
                digest.update("".join(f"{one!r}," for one in array.ravel()).encode())
            else:
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))

    def hexdigest(self):
        """The checksum of all rows so far."""
        found = {str(path): one.hexdigest() for path, one in self._digests.items()}
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def first_rows(x, count, batch_size, teacher):
    """The first ``count`` rows of ``x``, or all where there are fewer in a batch."""
    batch = next(iter(input_batches(x, batch_size, teacher)))
    return keras.tree.map_structure(lambda array: array[:count], batch)


def checksum_of(x, batch_size, teacher):
    """The checksum of all rows of ``x``, in one pass."""
    checksum = RowsChecksum()
    for batch in input_batches(x, batch_size, teacher):
        checksum.update(batch)
    return checksum.hexdigest()


def _batches_of_dataset(x, batch_size, teacher):
    if x.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("x must be a data set that ends, got one that repeats for ever")
    spec = x.element_spec[0] if isinstance(x.element_spec, tuple) else x.element_spec
    of_data = keras.tree.flatten(spec)[0].shape
    inputs = keras.tree.flatten(getattr(teacher, "inputs", None) or [])
    if inputs and of_data.rank == len(inputs[0].shape) - 1:
        x = x.batch(batch_size)
    for element in x.as_numpy_iterator():
        yield element[0] if isinstance(element, tuple) else element
