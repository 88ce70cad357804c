"""Relational distillation against a loop, its invariances, its gradient, and bad input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_lib.losses import distance_relation_loss

GENERATOR = np.random.default_rng(0)
# The last row lies far out, so that both branches of Huber's loss are met.
TEACHER = np.concatenate([GENERATOR.normal(size=(5, 4)), np.full((1, 4), 30.0)])
STUDENT = GENERATOR.normal(size=(6, 3))


def relation(teacher, student):
    return distance_relation_loss(teacher_features=teacher, student_features=student)


def by_loop(teacher, student):
    relative = []
    for rows in (teacher, student):
        count = len(rows)
        table = [[np.sqrt(np.sum((a - b) ** 2)) for b in rows] for a in rows]
        mean = sum(table[i][j] for i in range(count) for j in range(count) if i != j)
        relative.append(np.array(table) / (mean / (count * (count - 1))))
    losses, branches = [], set()
    for i in range(count):
        total = 0.0
        for j in range(count):
            gap = abs(relative[1][i, j] - relative[0][i, j])
            branches.add(gap <= 1)
            total += gap**2 / 2 if gap <= 1 else gap - 0.5
        losses.append(total / (count - 1))
    return np.array(losses), branches


def test_equals_a_loop():
    expected, branches = by_loop(TEACHER, STUDENT)
    assert branches == {True, False}
    np.testing.assert_allclose(relation(TEACHER, STUDENT), expected, rtol=1e-12)


def test_further_axes_are_flattened():
    maps = TEACHER.reshape(6, 2, 1, 2)
    np.testing.assert_array_equal(relation(maps, STUDENT), relation(TEACHER, STUDENT))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_shift_rotation_and_scale_change_nothing(seed, scale, shift):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    moved = scale * TEACHER @ rotation + shift
    np.testing.assert_allclose(relation(TEACHER, moved), 0.0, atol=1e-12)
    np.testing.assert_allclose(relation(moved, STUDENT), relation(TEACHER, STUDENT), atol=1e-12)


def test_gradient_equals_finite_differences(gradient):
    step, numeric = 1e-6, np.zeros_like(STUDENT)
    for index in np.ndindex(STUDENT.shape):
        ahead, behind = STUDENT.copy(), STUDENT.copy()
        ahead[index] += step
        behind[index] -= step
        numeric[index] = np.sum(relation(TEACHER, ahead) - relation(TEACHER, behind))
    found = gradient(lambda s: relation(TEACHER, s), STUDENT)
    np.testing.assert_allclose(found, numeric / (2 * step), atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_rows_have_a_finite_gradient(gradient, dtype):
    student = STUDENT.astype(dtype)
    student[1] = student[0]
    slope = gradient(lambda s: relation(TEACHER.astype(dtype), s), student)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0.01
    collapsed = np.ones_like(student)
    assert np.isfinite(relation(TEACHER.astype(dtype), collapsed)).all()
    slope = gradient(lambda s: relation(TEACHER.astype(dtype), s), collapsed)
    np.testing.assert_array_equal(slope, 0.0)


def test_no_loss_and_no_gradient_at_equality(gradient):
    np.testing.assert_array_equal(relation(TEACHER, TEACHER), 0.0)
    np.testing.assert_array_equal(gradient(lambda s: relation(TEACHER, s), TEACHER), 0.0)


def test_huge_half_precision_features_are_finite(gradient):
    student = np.array([[1e4, 0], [-1e4, 0], [0, 3e4]], "float16")
    teacher = np.array([[0, 1], [1, 0], [1, 1]], "float16")
    loss = relation(teacher, student)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    expected, _ = by_loop(teacher.astype("float64"), student.astype("float64"))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.isfinite(gradient(lambda s: relation(teacher, s), student)).all()


def test_batch_size_may_be_unknown_while_tracing():
    specification = [tf.TensorSpec((None, 4), "float64"), tf.TensorSpec((None, 3), "float64")]
    traced = tf.function(relation, input_signature=specification)
    np.testing.assert_allclose(traced(TEACHER, STUDENT), relation(TEACHER, STUDENT))
    np.testing.assert_array_equal(traced(TEACHER[:1], STUDENT[:1]), 0.0)


def test_bad_batches():
    with pytest.raises(ValueError, match=r"two examples or more.* got shape \(1, 4\)"):
        relation(TEACHER[:1], STUDENT[:1])
    with pytest.raises(ValueError, match=r"batch size of student_features 6, got 5"):
        relation(TEACHER[:5], STUDENT)
    with pytest.raises(ValueError, match=r"feature axis, got shape \(6,\)"):
        relation(TEACHER, STUDENT[:, 0])
