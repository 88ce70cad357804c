"""Checksums of inputs: rows and their order count, batches and the kind of container do not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill_lib.teacher.asking import RowsChecksum, ask, checksum_of, input_batches

X = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")
TEACHER = keras.Sequential([keras.Input((5,)), keras.layers.Identity()])


def checksum(x, batch_size=4):
    return checksum_of(TEACHER, x, batch_size)


def test_batches_do_not_count():
    sliced = tf.data.Dataset.from_tensor_slices(X)
    forms = [X, sliced, sliced.batch(3), sliced.batch(10)]
    assert len({checksum(x, size) for x in forms for size in (1, 4, 10)}) == 1


@pytest.mark.parametrize(
    "other",
    [
        X[::-1],
        X[:9],
        X.astype("float64"),
        X.reshape(5, 10),
        {"a": X},
        [X],
        [X, X],
        np.concatenate([X, X[:1]]),
        X + np.float32(1e-7),
    ],
)
def test_all_else_counts(other):
    assert checksum(other) != checksum(X)


def test_keys_count_and_their_order_does_not():
    one, other = {"a": X, "b": -X}, {"b": -X, "a": X}
    assert checksum(one) == checksum(other)
    assert checksum(one) != checksum({"a": -X, "b": X})


def test_a_new_shape_in_the_middle_counts():
    one, other = RowsChecksum(), RowsChecksum()
    for batch in (np.zeros((2, 3)), np.zeros((2, 4))):
        one.update(batch)
    for batch in (np.zeros((2, 3)), np.zeros((4, 2))):  # as many bytes
        other.update(batch)
    assert one.hexdigest() != other.hexdigest()


def test_strings_count_by_their_letters():
    words = np.array(["a", "bc", "d"])
    assert checksum(words, 1) == checksum(words, 3)
    assert checksum(words) != checksum(np.array(["a", "b", "cd"]))
    objects = tf.data.Dataset.from_tensor_slices(words).batch(2)
    again = objects.unbatch().batch(3)
    assert checksum_of(None, objects, 1) == checksum_of(None, again, 1)


def test_labels_are_left_out():
    data = tf.data.Dataset.from_tensor_slices((X, np.arange(10))).batch(4)
    for batch, rows in zip(
        input_batches(TEACHER, data, 4), (X[:4], X[4:8], X[8:]), strict=True
    ):
        np.testing.assert_array_equal(batch, rows)


def test_a_sequential_teacher_is_asked_too():
    """It has no `output` of its own until it was called."""
    teacher = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    x = np.ones((4, 3), "float32")
    answers, _ = ask(teacher, x, None, 2, 0)
    np.testing.assert_allclose(answers["logits"], teacher(x), rtol=1e-6)
