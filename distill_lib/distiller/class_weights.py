"""The weights of classes as weights of examples, for labels of any shape."""

import numpy as np
import tensorflow as tf

from distill_lib.distiller.arguments import logits_shape

SEVERAL = "class_weight needs labels of one class each, got rows that sum to more than 1"


def with_class_weights(student, x, y, sample_weight, by_class):
    """Return ``x, y, sample_weight`` in which each label has the weight of its class.

    Keras's own ``class_weight`` takes the largest entry of a label with several axes for its
    class; that is right for one-hot labels, and wrong for the tokens of a sequence.

    Args:
        student: The model whose logits tell one-hot labels from integers, by their axes.
        x: Arrays, or a ``tf.data.Dataset`` of ``(x, y)``.
        y: Labels, or a dictionary with ``"labels"``; ``None`` for a data set.
        sample_weight: Must be ``None``.
        by_class: ``{class: weight}``; a class that is not named weighs 1.

    A model with one logit has the classes 0 and 1.

    Raises:
        ValueError: With weights of examples, without labels, for a class that is none, or for
            labels of several classes at once (in a data set, TensorFlow's error of that kind).
    """
    shape = logits_shape(student)
    if shape is None:
        rule = "class_weight needs a functional student"
        raise ValueError(f"{rule}, got {student.name!r}: give sample_weight instead")
    classes = max(shape[-1], 2)
    if wrong := sorted(set(by_class) - set(range(classes))):
        raise ValueError(f"class_weight must have classes from 0 to {classes - 1}, got {wrong}")
    if sample_weight is not None:
        raise ValueError("class_weight needs labels and no sample_weight, got both weights")
    table = np.array([by_class.get(number, 1.0) for number in range(classes)], "float32")
    if isinstance(x, tf.data.Dataset):
        return x.map(lambda *batch: _weighted(batch, table, shape)), None, None
    if y is None:
        raise ValueError(
            f"class_weight needs arrays or a tf.data.Dataset with labels, got {x!r}"
        )
    try:
        return x, y, _weights(y, table, shape).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(SEVERAL) from error


def _weighted(batch, table, shape):
    if len(batch) != 2:
        raise ValueError(f"class_weight needs batches of (x, y), got {len(batch)} parts")
    x, y = batch
    return x, y, _weights(y, table, shape)


def _weights(y, table, shape):
    """The weight of each label; 1 where a label is no class and does not count."""
    labels = y.get("labels") if isinstance(y, dict) else y
    if labels is None or isinstance(labels, dict):
        raise ValueError(f"class_weight needs y['labels'], got {y!r}")
    labels = tf.convert_to_tensor(labels)
    if len(labels.shape) == len(shape):
        labels = labels[..., 0] if labels.shape[-1] == 1 else _numbers(labels)
    labels = tf.cast(labels, "int64")
    is_class = (labels >= 0) & (labels < len(table))
    found = tf.gather(table, tf.where(is_class, labels, 0))
    return tf.where(is_class, found, 1.0)


def _numbers(one_hot):
    """The class of each one-hot row, and -1 for a row of zeros."""
    sums = tf.reduce_sum(tf.cast(one_hot, "float32"), axis=-1)
    tf.debugging.assert_less(sums, 1.001, SEVERAL)
    return tf.where(sums > 0, tf.argmax(one_hot, axis=-1), -1)
