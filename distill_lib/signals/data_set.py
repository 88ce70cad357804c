"""Answers of a teacher that runs live, and data sets of inputs and answers for ``fit``."""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

from distill_lib.features import outputs_by_name
from distill_lib.signals.checks import check_not_probabilities
from distill_lib.signals.stored import StoredSignal, joined, row_count, take


def live(teacher, x):
    """The logits of a teacher that runs, in inference mode, whenever rows are taken.

    Args:
        teacher: a ``keras.Model`` that gives logits, or a dict with the entry ``"logits"``.
        x: inputs: an array ``(n, ...)``, or a dict or list of such arrays.

    Raises:
        ValueError: ``x`` that is not the teacher's, or answers that are no logits.
    """
    x = keras.tree.map_structure(np.asarray, x)
    row_count("x", x)
    arrays = tuple(keras.tree.flatten(x))
    structure = keras.tree.map_structure(lambda array: 0, x)
    decode = partial(_decode_live, teacher=teacher, structure=structure)
    try:
        some = np.asarray(decode(*(array[:8] for array in arrays)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"x must fit the inputs of the teacher: {error}") from error
    check_not_probabilities("teacher_logits", some)
    return StoredSignal(arrays, decode, some.shape[1:])


def as_dataset(x, signals, *, batch_size=128, seed=None, augment=None):
    """A ``tf.data.Dataset`` of ``(x, {name: dense rows})`` for ``fit``.

    Args:
        x: array ``(n, ...)`` of inputs, or a dict or list of them.
        signals: arrays or stored signals of n rows by name, or dicts of them (features by
            layer). The arrays of :func:`~distill_lib.signals.forms.top_k` as they are:
            ``{"labels": y, **signal.arrays_by_name()}``.
        batch_size: examples in a batch; the last one may be smaller.
        seed: that of the order, a new one each epoch; ``None`` keeps the order.
        augment: a function of a batch of inputs. Stored signals are the answers to the
            inputs without it; live ones see what ``x`` holds, and do not see it either.

    Raises:
        ValueError: a signal that has not n rows.
    """
    count = row_count("x", x)
    held = {name: _held(name, signal, count) for name, signal in signals.items()}
    inputs, numbers = keras.tree.map_structure(tf.constant, x), tf.data.Dataset.range(count)
    if seed is not None:
        numbers = numbers.shuffle(count, seed=seed)

    def batch(rows):
        views = keras.tree.map_structure(lambda array: tf.gather(array, rows), inputs)
        answers = keras.tree.map_structure(lambda signal: take(signal, rows), held)
        return views if augment is None else augment(views), answers

    # One batch after the other: an augmentation draws its random numbers in order.
    return numbers.batch(batch_size).map(batch).prefetch(tf.data.AUTOTUNE)


def _decode_live(*arrays, teacher, structure):
    answer = teacher(keras.tree.pack_sequence_as(structure, arrays), training=False)
    outputs = outputs_by_name(teacher, answer)
    if "logits" not in outputs:
        raise ValueError(f"teacher must give an entry 'logits', got only {sorted(outputs)}")
    return outputs["logits"]


def _held(name, signal, count):
    """A signal, or each of a dict, as tensors of ``count`` rows."""
    if isinstance(signal, dict):
        return {key: _held(f"{name}/{key}", one, count) for key, one in signal.items()}
    if len(signal) != count:
        raise ValueError(f"{name} must have {count} rows as x has, got {len(signal)}")
    return joined([signal])
