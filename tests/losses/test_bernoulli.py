"""Several labels at once: hand values, loops, limits, weights, and bad input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_checks import (
    EACH,
    call,
    check_alone,
    check_axes,
    check_equality,
    check_knob,
    few,
    gradient_of,
)

from distill_lib.losses import bernoulli_soft_target_loss, binary_label_loss, soft_target_loss

TEACHER, STUDENT = np.random.default_rng(0).normal(0, 2, (2, 5, 4))
HARD = (np.random.default_rng(1).uniform(size=(5, 4)) < 0.4).astype("float64")
KNOBS = {"temperature": 2.5, "positive_weight": np.array([0.5, 1.0, 3.0, 10.0])}


@pytest.mark.parametrize("check", [*EACH, check_alone, check_axes])
@pytest.mark.parametrize("knobs", [{}, KNOBS])
def test_what_every_response_loss_keeps(check, knobs):
    check(bernoulli_soft_target_loss, TEACHER, STUDENT, **knobs)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def soft_by_loop(teacher, student, temperature, weights):
    losses = []
    for v, z in zip(teacher, student, strict=True):
        total = 0
        for vl, zl, w in zip(v, z, weights, strict=True):
            p, q = sigmoid(vl / temperature), sigmoid(zl / temperature)
            kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
            total += (1 - p + w * p) * kl
        losses.append(temperature**2 * total / len(v))
    return losses


def test_soft_equals_a_loop():
    expected = soft_by_loop(TEACHER, STUDENT, *KNOBS.values())
    found = call(bernoulli_soft_target_loss, TEACHER, STUDENT, **KNOBS)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    expected = soft_by_loop(TEACHER, STUDENT, 1.0, np.ones(4))
    np.testing.assert_allclose(
        call(bernoulli_soft_target_loss, TEACHER, STUDENT), expected, rtol=1e-12
    )


def test_soft_by_hand():
    """Odds of 3 to 1 against even ones; and the weight of a teacher who is 3/4 sure of yes."""
    teacher, even = np.log([[3.0]]), np.zeros((1, 1))
    kl = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(call(bernoulli_soft_target_loss, teacher, even), [kl])
    found = call(bernoulli_soft_target_loss, teacher, even, positive_weight=5.0)
    np.testing.assert_allclose(found, [4 * kl])
    # A softmax over the labels cannot tell sure of all from sure of none.
    sure, never = np.full((1, 5), 9.0), np.full((1, 5), -9.0)
    np.testing.assert_allclose(call(soft_target_loss, sure, never), 0.0, atol=1e-12)
    assert call(bernoulli_soft_target_loss, sure, never)[0] > 8.99


@few
@given(hnp.arrays("float64", (2, 3, 1), elements=st.floats(-20, 20)), st.floats(0.5, 20))
def test_one_label_is_a_softmax_of_two_classes(pair, temperature):
    """Sigmoid of a logit is softmax of the logit and 0."""
    two = np.concatenate([pair, np.zeros_like(pair)], axis=-1)
    found = call(bernoulli_soft_target_loss, *pair, temperature=temperature)
    expected = call(soft_target_loss, *two, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@few
@given(hnp.arrays("float64", (1, 3), elements=st.floats(-5, 5)), st.floats(0.1, 20))
def test_the_weight_does_not_move_the_minimum_from_the_teacher(teacher, weight):
    check_equality(bernoulli_soft_target_loss, teacher, positive_weight=weight)
    for step in (-0.1, 0.1):
        found = call(
            bernoulli_soft_target_loss, teacher, teacher + step, positive_weight=weight
        )
        assert found[0] > 0


def test_the_weight_of_hard_labels_would_move_it():
    """To q = w p / (w p + 1 - p), as the docstring says."""
    p, weight = 0.3, 4.0
    q = weight * p / (weight * p + 1 - p)
    logit = np.log([[q / (1 - q)]])
    knobs = {"labels": np.array([[p]]), "positive_weight": weight}
    slope = gradient_of(lambda z: binary_label_loss(student_logits=z, **knobs), logit)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    assert q > 0.6


def test_the_gradient_is_the_difference_of_the_chances():
    temperature, weights = KNOBS.values()
    p, q = sigmoid(TEACHER / temperature), sigmoid(STUDENT / temperature)
    slope = gradient_of(
        lambda z: call(bernoulli_soft_target_loss, TEACHER, z, **KNOBS), STUDENT
    )
    expected = temperature * (1 + (weights - 1) * p) * (q - p) / 4
    np.testing.assert_allclose(slope, expected, atol=1e-12)


def test_hard_equals_a_loop_and_keras():
    q, weights = sigmoid(STUDENT), np.array([0.5, 1.0, 3.0, 10.0])
    soft_labels = np.linspace(0, 1, 20).reshape(5, 4)
    for labels in (HARD, soft_labels, HARD.astype(int), HARD.astype(bool)):
        expected = np.mean(
            -weights * labels * np.log(q) - (1.0 - labels) * np.log(1 - q), axis=1
        )
        found = binary_label_loss(
            labels=labels, student_logits=STUDENT, positive_weight=weights
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = binary_label_loss(labels=HARD, student_logits=STUDENT)
    theirs = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)(HARD, STUDENT)
    np.testing.assert_allclose(found, theirs, rtol=1e-5)


def test_the_two_agree_where_the_teacher_is_sure():
    """A teacher at plus or minus 40 is a hard label; the weights then are the same, too."""
    knobs = {"positive_weight": 7.0}
    soft = call(bernoulli_soft_target_loss, 80 * HARD - 40, STUDENT, **knobs)
    hard = binary_label_loss(labels=HARD, student_logits=STUDENT, **knobs)
    np.testing.assert_allclose(soft, hard, rtol=1e-12)


def test_hard_gradient():
    q, weights = sigmoid(STUDENT), np.array([0.5, 1.0, 3.0, 10.0])
    slope = gradient_of(
        lambda z: binary_label_loss(labels=HARD, student_logits=z, positive_weight=weights),
        STUDENT,
    )
    expected = (-weights * HARD * (1 - q) + (1 - HARD) * q) / 4
    np.testing.assert_allclose(slope, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_huge_logits(dtype):
    student = np.array([[1e4, -1e4, 1e4, -1e4]], dtype)
    labels, expected = np.array([[1, 0, 0, 1]]), [5e3]
    for loss in (
        lambda z: binary_label_loss(labels=labels, student_logits=z),
        lambda z: call(bernoulli_soft_target_loss, (2e4 * labels - 1e4).astype(dtype), z),
    ):
        np.testing.assert_allclose(loss(student), expected, rtol=1e-5)
        found = gradient_of(loss, student)
        np.testing.assert_allclose(found, [[0, 0, 0.25, -0.25]], atol=1e-6)


def test_hard_labels_and_a_student_who_rules_one_out():
    student = np.array([[-np.inf, 0.0]])
    loss = lambda z: binary_label_loss(labels=[[0, 1]], student_logits=z)  # noqa: E731
    np.testing.assert_allclose(loss(student), [np.log(2) / 2], rtol=1e-12)
    np.testing.assert_allclose(gradient_of(loss, student), [[0, -0.25]], atol=1e-12)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, 2, np.nan, np.inf])
def test_labels_outside_0_and_1_are_refused(wrong):
    labels = HARD.copy()
    labels[2, 3] = wrong
    with pytest.raises(ValueError, match=r"^labels must lie in \[0, 1\], got .* \(2, 3\)$"):
        binary_label_loss(labels=labels, student_logits=STUDENT)
    run = tf.function(lambda y: binary_label_loss(labels=y, student_logits=STUDENT))
    np.testing.assert_array_equal(np.isnan(run(labels)), np.arange(5) == 2)


def test_bad_input():
    bad = (0, -1.0, float("nan"), float("inf")), "be a finite number above 0"
    check_knob(bernoulli_soft_target_loss, TEACHER, STUDENT, "temperature", 1.5, *bad)
    for loss, signals in (
        (bernoulli_soft_target_loss, {"teacher_logits": TEACHER}),
        (binary_label_loss, {"labels": HARD}),
    ):
        (name,) = signals
        signals["student_logits"] = STUDENT
        expected = loss(**signals, positive_weight=np.full(4, 2.0))
        for same in (2.0, keras.Variable(2.0), [2.0] * 4):
            np.testing.assert_allclose(loss(**signals, positive_weight=same), expected)
        for wrong in (0, -1.0, keras.Variable(-1.0), [1.0, 2.0, -1.0, 3.0], True):
            with pytest.raises(ValueError, match=r"^positive_weight must be a finite number"):
                loss(**signals, positive_weight=wrong)
        rule = r"^positive_weight must have one .*, or one for each, \(4,\), got shape \(3,\)"
        with pytest.raises(ValueError, match=rule):
            loss(**signals, positive_weight=np.ones(3))
        rule = rf"^{name} must have the shape of student_logits \(5, 4\), got shape \(5, 3\)"
        with pytest.raises(ValueError, match=rule):
            loss(**signals | {name: HARD[:, :3]})
