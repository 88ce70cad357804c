"""Response losses against numpy loops, identities that hold for all logits, bad input."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distill_lib.losses import (
    hard_label_loss,
    logit_matching_loss,
    mixed_loss,
    soft_target_loss,
    soft_targets,
)

TEACHER = np.array([[2.0, 1.0, -1.0], [0.0, 3.0, 0.5]])
STUDENT = np.array([[1.0, 1.5, 0.0], [-1.0, 1.0, 2.0]])
LABELS = np.array([0, 2])
PAIRS = hnp.arrays("float64", (2, 3, 4), elements=st.floats(-20, 20))
TEMPERATURES = st.floats(0.5, 20)


def softmax(row, temperature=1.0):
    powers = [np.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def soft_by_loop(teacher, student, temperature):
    losses = []
    for v, z in zip(teacher, student, strict=True):
        p, q = softmax(v, temperature), softmax(z, temperature)
        terms = [pi * np.log(pi / qi) for pi, qi in zip(p, q, strict=True)]
        losses.append(temperature**2 * sum(terms))
    return np.array(losses)


def soft(teacher, student, temperature=1.0):
    return soft_target_loss(
        teacher_logits=teacher, student_logits=student, temperature=temperature
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_values_equal_the_loops(temperature):
    targets = soft_targets(TEACHER, temperature)
    np.testing.assert_allclose(targets, [softmax(row, temperature) for row in TEACHER])
    expected = soft_by_loop(TEACHER, STUDENT, temperature)
    np.testing.assert_allclose(soft(TEACHER, STUDENT, temperature), expected, rtol=1e-12)


def test_teacher_and_student_are_not_swapped():
    expected = soft_by_loop(TEACHER, STUDENT, 2.0)
    assert not np.allclose(soft(STUDENT, TEACHER, 2.0), expected, rtol=0.05)


def test_hard_and_mixed_values_equal_the_loops():
    hard = [-np.log(softmax(z)[y]) for z, y in zip(STUDENT, LABELS, strict=True)]
    found = hard_label_loss(labels=LABELS, student_logits=STUDENT)
    np.testing.assert_allclose(found, hard, rtol=1e-12)
    mixed = mixed_loss(
        labels=LABELS,
        teacher_logits=TEACHER,
        student_logits=STUDENT,
        temperature=3.0,
        soft_weight=0.3,
    )
    expected = 0.7 * np.array(hard) + 0.3 * soft_by_loop(TEACHER, STUDENT, 3.0)
    np.testing.assert_allclose(mixed, expected, rtol=1e-12)


def test_logit_matching_equals_the_loop_and_serves_regression():
    found = logit_matching_loss(teacher_logits=TEACHER, student_logits=STUDENT)
    np.testing.assert_allclose(found, [(1 + 0.25 + 1) / 2, (1 + 4 + 2.25) / 2])
    single = logit_matching_loss(teacher_logits=[[3.0], [1.0]], student_logits=[[1.0], [1.0]])
    np.testing.assert_allclose(single, [2.0, 0.0])


def test_every_leading_axis_is_an_example():
    teacher, student = np.stack([TEACHER, STUDENT]), np.stack([STUDENT, STUDENT])
    found = soft(teacher, student, 2.0)
    expected = [soft_by_loop(teacher[i], student[i], 2.0) for i in range(2)]
    np.testing.assert_allclose(found, expected, atol=1e-15)
    labels = np.array([LABELS, LABELS])
    hard = np.asarray(hard_label_loss(labels=labels, student_logits=student))
    assert hard.shape == (2, 2)
    np.testing.assert_array_equal(hard[0], hard[1])


@settings(deadline=None, max_examples=40)
@given(PAIRS, TEMPERATURES, st.floats(-50, 50))
def test_soft_loss_is_a_divergence_of_distributions(pair, temperature, shift):
    """Never negative, zero at equality, blind to a constant added to all logits."""
    teacher, student = pair
    loss = np.asarray(soft(teacher, student, temperature))
    assert (loss >= -1e-10).all()
    np.testing.assert_array_equal(soft(teacher, teacher, temperature), 0.0)
    shifted = soft(teacher + shift, student - shift, temperature)
    np.testing.assert_allclose(shifted, loss, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(PAIRS, TEMPERATURES)
def test_soft_loss_is_cross_entropy_minus_entropy(pair, temperature):
    teacher, student = pair / 4  # keeps the logarithms below away from log(0)
    p = np.asarray(soft_targets(teacher, temperature))
    q = np.asarray(soft_targets(student, temperature))
    expected = temperature**2 * ((p * np.log(p)).sum(-1) - (p * np.log(q)).sum(-1))
    np.testing.assert_allclose(soft(teacher, student, temperature), expected, atol=1e-8)


def test_half_precision_is_cast_up():
    half = [array.astype("float16") for array in (TEACHER, STUDENT)]
    loss = soft(*half, 4.0)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(loss, soft_by_loop(TEACHER, STUDENT, 4.0), rtol=1e-5)
    assert keras.backend.standardize_dtype(soft_targets(half[0]).dtype) == "float32"


def test_python_temperature_has_double_precision_with_double_logits():
    expected = soft_by_loop(TEACHER, STUDENT, 0.1)
    np.testing.assert_allclose(soft(TEACHER, STUDENT, 0.1), expected, rtol=1e-13)


def test_temperature_and_weight_may_be_variables_that_change():
    temperature, weight = keras.Variable(1.0), keras.Variable(0.0)

    def loss(temperature, weight):
        return mixed_loss(
            labels=LABELS,
            teacher_logits=TEACHER,
            student_logits=STUDENT,
            temperature=temperature,
            soft_weight=weight,
        )

    np.testing.assert_allclose(loss(temperature, weight), loss(1.0, 0.0), rtol=1e-12)
    temperature.assign(5.0)
    weight.assign(0.75)
    np.testing.assert_allclose(loss(temperature, weight), loss(5.0, 0.75), rtol=1e-12)
    tensors = keras.ops.convert_to_tensor(5.0), keras.ops.convert_to_tensor(0.75)
    np.testing.assert_allclose(loss(*tensors), loss(5.0, 0.75), rtol=1e-12)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), np.float32(0)])
def test_temperature_must_be_above_zero(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number above 0, got"):
        soft(TEACHER, STUDENT, temperature)
    with pytest.raises(ValueError, match="temperature must be"):
        soft_targets(TEACHER, temperature)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_soft_weight_must_lie_between_zero_and_one(weight):
    with pytest.raises(ValueError, match=r"soft_weight must lie in \[0, 1\], got"):
        mixed_loss(
            labels=LABELS, teacher_logits=TEACHER, student_logits=STUDENT, soft_weight=weight
        )


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"teacher_logits must have .* got shape \(2, 2\)"):
        soft(TEACHER[:, :2], STUDENT)
    with pytest.raises(ValueError, match=r"teacher_logits must have .* got shape \(1, 3\)"):
        logit_matching_loss(teacher_logits=TEACHER[:1], student_logits=STUDENT)
    with pytest.raises(ValueError, match=r"labels must have .* \(2,\), got shape \(2, 1\)"):
        hard_label_loss(labels=LABELS[:, None], student_logits=STUDENT)
    with pytest.raises(ValueError, match=r"temperature must have the scalar shape"):
        soft(TEACHER, STUDENT, np.array([[1.0], [2.0]]))
    with pytest.raises(ValueError, match="two classes or more"):
        soft(TEACHER[:, :1], STUDENT[:, :1])
    with pytest.raises(
        ValueError, match=r"student_logits must have one class or more .* got shape \(\)"
    ):
        logit_matching_loss(teacher_logits=1.0, student_logits=1.0)
