"""Response losses against loops and hand values, what all of them keep, and bad input."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_checks import (
    EACH,
    RESPONSE,
    call,
    check_alone,
    check_axes,
    check_equality,
    check_knob,
    few,
    gradient_of,
)

from distill_lib.losses import (
    hard_label_loss,
    jensen_shannon_loss,
    logit_matching_loss,
    mixed_loss,
    reverse_kl_loss,
    skew_kl_loss,
    smoothed_label_loss,
    soft_target_loss,
    soft_targets,
)

TEACHER = np.array([[2.0, 1.0, -1.0], [0.0, 3.0, 0.5]])
STUDENT = np.array([[1.0, 1.5, 0.0], [-1.0, 1.0, 2.0]])
LABELS = np.array([0, 2])
PAIRS = hnp.arrays("float64", (2, 3, 4), elements=st.floats(-20, 20))
TEMPERATURES = st.floats(0.5, 20)

MANY = np.random.default_rng(0).normal(0, 2, (2, 5, 4))  # teacher and student
WITH_LABELS = {"labels": [0, 3, 1, 2, 3]}
DIVERGENCES = [
    (soft_target_loss, {"temperature": 2.5}),
    (reverse_kl_loss, {"temperature": 2.5}),
    (jensen_shannon_loss, {"temperature": 2.5, "beta": 0.3}),
    (skew_kl_loss, {"temperature": 2.5, "skew": 0.3}),
]
ALL = [
    *DIVERGENCES,
    (hard_label_loss, WITH_LABELS),
    (smoothed_label_loss, {"smoothing": 0.3} | WITH_LABELS),
    (mixed_loss, {"temperature": 2.5, "soft_weight": 0.3} | WITH_LABELS),
]


@pytest.mark.parametrize(("loss", "knobs"), ALL)
@pytest.mark.parametrize("check", RESPONSE)
def test_what_every_response_loss_keeps(check, loss, knobs):
    check(loss, *MANY, **knobs)


@pytest.mark.parametrize("check", [*EACH, check_alone, check_axes])
def test_logit_matching_keeps_it_but_sees_a_constant(check):
    check(logit_matching_loss, *MANY)
    assert np.min(call(logit_matching_loss, MANY[0], MANY[0] + 1)) > 1


@pytest.mark.parametrize(("loss", "knobs"), [*DIVERGENCES, (logit_matching_loss, {})])
def test_no_loss_at_equality_and_never_a_negative_one(loss, knobs):
    check_equality(loss, MANY[0], **knobs)
    assert np.min(call(loss, *MANY, **knobs)) > 0.01


BAD = {
    "temperature": ((0, -1.0, float("nan"), float("inf"), np.float32(0)), "be a finite .* 0"),
    "soft_weight": ((-0.1, 1.1, float("nan")), r"lie in \[0, 1\]"),
    "smoothing": ((-0.1, 1.1, float("nan")), r"lie in \[0, 1\]"),
    "beta": ((0, 1, -0.1, 1.1, float("nan")), "lie strictly between 0 and 1"),
    "skew": ((0, 1, -0.1, 1.1, float("nan")), "lie strictly between 0 and 1"),
}


@pytest.mark.parametrize(("loss", "knobs"), ALL)
def test_knobs(loss, knobs):
    labels = {name: x for name, x in knobs.items() if name == "labels"}
    for name in knobs.keys() - labels.keys():
        check_knob(loss, *MANY, name, knobs[name], *BAD[name], **labels)


def test_the_ends_of_the_weights_are_allowed():
    labels = {"labels": LABELS, "student_logits": STUDENT}
    for end, expected in ((0, hard_label_loss(**labels)), (1, soft(TEACHER, STUDENT))):
        found = mixed_loss(teacher_logits=TEACHER, soft_weight=end, **labels)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    for end in (0, 1):
        smoothed_label_loss(smoothing=end, **labels)


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


soft = partial(call, soft_target_loss)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_values_equal_the_loops(temperature):
    targets = soft_targets(TEACHER, temperature)
    np.testing.assert_allclose(targets, [softmax(row, temperature) for row in TEACHER])
    expected = soft_by_loop(TEACHER, STUDENT, temperature)
    found = soft(TEACHER, STUDENT, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    backwards = soft(STUDENT, TEACHER, temperature=temperature)
    assert not np.allclose(backwards, expected, rtol=0.01)


def test_soft_targets_by_hand_and_their_defaults():
    odds = np.log([[1.0, 2.0, 5.0]])
    np.testing.assert_allclose(soft_targets(odds), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-12)
    half, uniform = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    by_hand = [0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)]
    np.testing.assert_allclose(soft(half, uniform), by_hand, rtol=1e-12)
    labels = {"labels": [1], "student_logits": uniform}
    np.testing.assert_allclose(hard_label_loss(**labels), [np.log(10)], rtol=1e-12)
    mixed = mixed_loss(teacher_logits=half, **labels)
    np.testing.assert_allclose(mixed, [(np.log(10) + by_hand[0]) / 2], rtol=1e-12)


def test_hard_and_mixed_values_equal_the_loops():
    hard = [-np.log(softmax(z)[y]) for z, y in zip(STUDENT, LABELS, strict=True)]
    found = hard_label_loss(labels=LABELS, student_logits=STUDENT)
    np.testing.assert_allclose(found, hard, rtol=1e-12)
    knobs = {"labels": LABELS, "temperature": 3.0, "soft_weight": 0.3}
    expected = 0.7 * np.array(hard) + 0.3 * soft_by_loop(TEACHER, STUDENT, 3.0)
    np.testing.assert_allclose(call(mixed_loss, TEACHER, STUDENT, **knobs), expected)


def test_smoothing_by_hand():
    logits = np.log([[0.7, 0.2, 0.1]])
    expected = -0.9 * np.log(0.2) - 0.1 * np.mean(np.log([0.7, 0.2, 0.1]))
    found = smoothed_label_loss(labels=[1], student_logits=logits)
    np.testing.assert_allclose(found, [expected], rtol=1e-12)


@few
@given(PAIRS, st.floats(0, 1))
def test_smoothing_is_a_teacher_who_knows_nothing(pair, smoothing):
    """The same gradient, and the values differ by the entropy of the uniform teacher."""
    labels, uniform = [0, 3, 1], np.zeros((3, 4))

    def mixed(student):
        knobs = {"labels": labels, "soft_weight": smoothing}
        return call(mixed_loss, uniform, student, **knobs)

    def smoothed(student):
        knobs = {"labels": labels, "smoothing": smoothing}
        return smoothed_label_loss(student_logits=student, **knobs)

    expected = mixed(pair[1]) + smoothing * np.log(4)
    np.testing.assert_allclose(smoothed(pair[1]), expected, atol=1e-12)
    slopes = [gradient_of(function, pair[1]) for function in (smoothed, mixed)]
    np.testing.assert_allclose(*slopes, atol=1e-12)


def test_logit_matching_equals_the_loop_and_serves_regression():
    found = logit_matching_loss(teacher_logits=TEACHER, student_logits=STUDENT)
    np.testing.assert_allclose(found, [(1 + 0.25 + 1) / 2, (1 + 4 + 2.25) / 2])
    single = logit_matching_loss(teacher_logits=[[3.0], [1.0]], student_logits=[[1.0], [1.0]])
    np.testing.assert_allclose(single, [2.0, 0.0])


@few
@given(PAIRS, TEMPERATURES)
def test_soft_loss_is_cross_entropy_minus_entropy(pair, temperature):
    teacher, student = pair / 4  # keeps the logarithms below away from log(0)
    p = np.asarray(soft_targets(teacher, temperature))
    q = np.asarray(soft_targets(student, temperature))
    expected = temperature**2 * ((p * np.log(p)).sum(-1) - (p * np.log(q)).sum(-1))
    found = soft(teacher, student, temperature=temperature)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert np.min(found) >= -1e-12


@few
@given(hnp.arrays("float64", (3, 4), elements=st.floats(0.1, 1)), PAIRS)
def test_changed_class_shares_are_a_bias(shares, pair):
    """softmax(z + log(new / old)) is the posterior under the new shares of the classes."""
    old, new = shares[0] / shares[0].sum(), shares[1] / shares[1].sum()
    posterior = np.asarray(soft_targets(pair[0])) * new / old
    found = soft_targets(pair[0] + np.log(new / old))
    np.testing.assert_allclose(found, posterior / posterior.sum(1, keepdims=True), atol=1e-14)


def test_soft_targets_are_of_float32_or_wider():
    for given_type, result in (("float16", "float32"), ("float64", "float64")):
        found = soft_targets(TEACHER.astype(given_type))
        assert keras.backend.standardize_dtype(found.dtype) == result
    # In double precision the temperature is a double too.
    found = soft(TEACHER, STUDENT, temperature=0.1)
    np.testing.assert_allclose(found, soft_by_loop(TEACHER, STUDENT, 0.1), rtol=1e-13)
    mixed = mixed_loss(
        labels=LABELS, teacher_logits=TEACHER, student_logits=STUDENT.astype("float32")
    )
    assert keras.backend.standardize_dtype(mixed.dtype) == "float64"


def test_classes_may_be_unknown_in_a_program():
    traced = tf.function(soft, input_signature=[tf.TensorSpec((None, None), "float64")] * 2)
    np.testing.assert_allclose(traced(TEACHER, STUDENT), soft(TEACHER, STUDENT), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_labels_of_any_type(dtype):
    found = hard_label_loss(labels=LABELS.astype(dtype), student_logits=STUDENT)
    expected = hard_label_loss(labels=LABELS, student_logits=STUDENT)
    np.testing.assert_array_equal(found, expected)


def test_labels_that_count_from_one_are_told_so():
    rule = r"^labels must be whole numbers from 0 to 2 {}, got 3(.0)? at index \(1,\)$"
    hint = r"\(subtract 1 from labels that count from 1 to 3\)"
    for labels in ([1, 3], np.array([1.0, 3.0]), tf.constant([1, 3])):
        with pytest.raises(ValueError, match=rule.format(hint)):
            hard_label_loss(labels=labels, student_logits=STUDENT)
    with pytest.raises(ValueError, match=r"from 0 to 2, got 3 at index \(1,\)$"):
        hard_label_loss(labels=[0, 3], student_logits=STUDENT)
    with pytest.raises(
        ValueError, match=r"whole numbers from 0 to 2, got 0.5 at index \(0,\)$"
    ):
        hard_label_loss(labels=[0.5, 1.0], student_logits=STUDENT)
    with pytest.raises(ValueError, match=r"got nan at index \(1,\)$"):
        hard_label_loss(labels=[0.0, np.nan], student_logits=STUDENT)
    assert hard_label_loss(labels=np.zeros(0), student_logits=STUDENT[:0]).shape == (0,)


def test_one_hot_labels_are_told_what_to_write():
    advice = (
        r"got shape \(2, 3\); if they are one-hot, write keras.ops.argmax\(labels, axis=-1\)"
    )
    for loss in (hard_label_loss, smoothed_label_loss):
        with pytest.raises(ValueError, match=advice):
            loss(labels=np.eye(3)[LABELS], student_logits=STUDENT)
    with pytest.raises(ValueError, match=r"got shape \(2, 1\)$"):
        hard_label_loss(labels=LABELS[:, None], student_logits=STUDENT)


def test_classes_of_labels_may_be_unknown_in_a_program():
    specification = [tf.TensorSpec((None,), "int64"), tf.TensorSpec((None, None), "float64")]
    run = tf.function(
        lambda y, z: hard_label_loss(labels=y, student_logits=z), input_signature=specification
    )
    expected = hard_label_loss(labels=LABELS, student_logits=STUDENT)
    np.testing.assert_allclose(run(LABELS, STUDENT), expected, rtol=1e-12)


def test_shapes_must_fit():
    for labels in (LABELS[:, None], LABELS[:1], 0):
        rule = r"^labels must have the shape of the examples \(2,\), got shape"
        with pytest.raises(ValueError, match=rule):
            hard_label_loss(labels=labels, student_logits=STUDENT)
    with pytest.raises(ValueError, match=r"^logits must have 2 or more classes .* \(2, 1\)"):
        soft_targets(TEACHER[:, :1])
    with pytest.raises(ValueError, match=r"^temperature must be .* got 0$"):
        soft_targets(TEACHER, 0)
    with pytest.raises(ValueError, match=r"^teacher_logits must have the shape .* \(1, 3\)"):
        logit_matching_loss(teacher_logits=TEACHER[:1], student_logits=STUDENT)
    rule = "^student_logits must have 1 or more classes last, got shape "
    with pytest.raises(ValueError, match=rule + r"\(\)"):
        logit_matching_loss(teacher_logits=1.0, student_logits=1.0)
    with pytest.raises(ValueError, match=rule + r"\(2, 0\)"):
        call(logit_matching_loss, TEACHER[:, :0], STUDENT[:, :0])
