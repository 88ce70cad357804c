"""Broken numbers are never hidden, and a logit of -inf means "never", in every loss."""

import inspect
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from loss_checks import call, gradient_of

from distill_lib import losses
from distill_lib.losses import (
    angle_relation_loss,
    attention_transfer_loss,
    bernoulli_soft_target_loss,
    binary_label_loss,
    contrastive_loss,
    correlation_loss,
    decoupled_loss,
    decoupled_parts,
    distance_relation_loss,
    hard_label_loss,
    hint_loss,
    jensen_shannon_loss,
    logit_matching_loss,
    mixed_loss,
    policy_gradient_loss,
    probabilistic_transfer_loss,
    reverse_kl_loss,
    sequence_log_probability,
    similarity_preserving_loss,
    skew_kl_loss,
    smoothed_label_loss,
    soft_target_loss,
    soft_targets,
    standardised_target_loss,
    variational_information_loss,
)

GENERATOR = np.random.default_rng(0)
TEACHER, STUDENT = GENERATOR.normal(size=(2, 5, 9)).astype("float32")
MAPS = GENERATOR.normal(size=(2, 5, 3, 3, 2)).astype("float32")
LABELS = {"labels": np.array([0, 3, 1, 4, 8])}
HOT = {"temperature": 2.0}
LOGITS = [
    (soft_target_loss, HOT),
    (reverse_kl_loss, HOT),
    (jensen_shannon_loss, HOT),
    (skew_kl_loss, HOT),
    (standardised_target_loss, HOT),
    (correlation_loss, HOT),
    (correlation_loss, {"within_weight": 0.0}),
    (correlation_loss, {"between_weight": 0.0}),
    (bernoulli_soft_target_loss, HOT),
    (logit_matching_loss, {}),
    (mixed_loss, HOT | LABELS),
    (decoupled_loss, HOT | LABELS),
    (hard_label_loss, LABELS),
    (smoothed_label_loss, LABELS),
    (binary_label_loss, {"labels": (STUDENT > 0).astype("float32")}),
]
FEATURES = [
    (hint_loss, {}),
    (attention_transfer_loss, {}),
    (attention_transfer_loss, {"power": 0.5, "squared": True}),
    (distance_relation_loss, {}),
    (angle_relation_loss, {}),
    (similarity_preserving_loss, {}),
    (probabilistic_transfer_loss, {}),
    (contrastive_loss, {}),
    (variational_information_loss, {}),
]
WITH_NEVER = [soft_target_loss, jensen_shannon_loss, skew_kl_loss, decoupled_loss, mixed_loss]
WITH_NEVER += [correlation_loss, bernoulli_soft_target_loss]


def options(loss, **knobs):
    """The knobs, with labels where the loss takes them."""
    return knobs | LABELS if "labels" in inspect.signature(loss).parameters else knobs


def test_every_loss_is_tried_here():
    named = {f for name, f in vars(losses).items() if name.endswith("_loss")}
    named = {f for f in named if not f.__module__.endswith("truncated")}
    tried = {loss for loss, _ in LOGITS + FEATURES} | {policy_gradient_loss}
    assert named == tried


@pytest.mark.parametrize(
    ("loss", "knobs", "broken"),
    [(*case, broken) for case in LOGITS + FEATURES for broken in (np.nan, np.inf)]
    + [(*case, -np.inf) for case in FEATURES],  # of logits it means "never", see below
)
def test_a_broken_number_is_not_hidden(loss, knobs, broken):
    teacher, student = MAPS if (loss, knobs) in FEATURES else (TEACHER, STUDENT)
    if loss is variational_information_loss:
        student = np.concatenate([student, student[::-1]], axis=-1)
    takes = inspect.signature(loss).parameters
    sides = [takes.keys() & {"teacher_logits", "teacher_features"}, True]
    for position in range(3):
        for side, taken in enumerate(sides):
            if taken:
                pair = [teacher.copy(), student.copy()]
                pair[side][1].flat[position * 4] = broken
                found = np.asarray(call(loss, *pair, **knobs))
                assert not np.isfinite(found[1]), (side, position)
                untouched = np.delete(found, 1)
                assert np.isfinite(untouched).all() or not np.isfinite(untouched).any()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_number_is_not_hidden_in_sequences(broken):
    tokens, logits = np.zeros((2, 3), int), np.zeros((2, 3, 4))
    wrong = logits.copy()
    wrong[1, 2, 3] = broken
    for pair in ((wrong, logits), (logits, wrong)):
        found = policy_gradient_loss(
            tokens=tokens, teacher_logits=pair[0], student_logits=pair[1]
        )
        np.testing.assert_array_equal(np.isfinite(found), [True, False])
    found = sequence_log_probability(tokens=tokens, logits=wrong)
    np.testing.assert_array_equal(np.isfinite(found), [True, False])
    assert np.isnan(soft_targets(wrong)[1, 2]).all()


@pytest.mark.parametrize("loss", [*WITH_NEVER, reverse_kl_loss])
@pytest.mark.parametrize("in_program", [False, True])
def test_never_is_the_limit_of_very_low_logits(loss, in_program):
    """Class 2, which is nobody's label, is ruled out: by the teacher, or by both."""
    sides = {"teacher": (-np.inf, 0.0), "both": (-np.inf, -np.inf), "student": (0.0, -np.inf)}
    if loss is reverse_kl_loss:
        del sides["teacher"]  # infinite
    elif loss not in (jensen_shannon_loss, skew_kl_loss, correlation_loss):
        del sides["student"]  # infinite
    for lower in sides.values():
        pair = [x.astype("float64") for x in (TEACHER, STUDENT)]
        low = [x.copy() for x in pair]
        for side, change in enumerate(lower):
            pair[side][:, 2] += change
            low[side][:, 2] -= 2e4 if change else 0
        knobs = options(loss, temperature=2.0)
        found = values_and_slopes(loss, pair, knobs, in_program)
        expected = values_and_slopes(loss, low, knobs, in_program)
        for one, limit in zip(found, expected, strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_allclose(one, limit, rtol=1e-9, atol=1e-9)


def values_and_slopes(loss, pair, knobs, in_program):
    """The values, and the gradients for the student and for the teacher."""
    teacher, student = pair
    by_student = partial(call, loss, teacher, **knobs)
    functions = by_student, lambda t: call(loss, t, student, **knobs)
    if in_program:
        functions = [tf.function(function) for function in functions]
    slopes = [gradient_of(f, x) for f, x in zip(functions, (student, teacher), strict=True)]
    return [functions[0](student), *slopes]


NEEDS_A_CLASS = [*WITH_NEVER[:-1], reverse_kl_loss, standardised_target_loss]


@pytest.mark.parametrize("loss", NEEDS_A_CLASS)
def test_a_teacher_who_thinks_nothing_possible_is_an_error(loss):
    teacher = TEACHER.copy()
    teacher[1] = -np.inf
    found = tf.function(lambda: call(loss, teacher, STUDENT, **options(loss)))()
    assert np.isnan(found[1])


def test_a_teacher_may_think_that_no_label_applies():
    found = bernoulli_soft_target_loss(
        teacher_logits=np.full((1, 3), -np.inf), student_logits=np.zeros((1, 3))
    )
    np.testing.assert_allclose(found, [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize(
    "loss", [reverse_kl_loss, logit_matching_loss, standardised_target_loss]
)
def test_never_without_a_finite_meaning_is_refused(loss):
    teacher = TEACHER.copy()
    teacher[3, 2] = -np.inf
    rule = r"^teacher_logits must .*, got -inf at index \(3, 2\)$"
    with pytest.raises(ValueError, match=rule):
        call(loss, teacher, STUDENT)
    found = tf.function(lambda: call(loss, teacher, STUDENT))()
    np.testing.assert_array_equal(np.isnan(found), np.arange(5) == 3)


def test_a_student_who_rules_out_what_is_possible_is_infinitely_wrong():
    student = STUDENT.copy()
    student[1, 3] = -np.inf  # the label
    for loss in (soft_target_loss, hard_label_loss, decoupled_loss, smoothed_label_loss):
        found = call(loss, TEACHER, student, **options(loss))
        np.testing.assert_array_equal(np.isposinf(found), np.arange(5) == 1)
    found = binary_label_loss(labels=np.ones_like(student), student_logits=student)
    np.testing.assert_array_equal(np.isposinf(found), np.arange(5) == 1)
    found = bernoulli_soft_target_loss(teacher_logits=TEACHER, student_logits=student)
    np.testing.assert_array_equal(np.isposinf(found), np.arange(5) == 1)


def test_decoupled_by_hand_where_only_the_label_is_possible():
    """Nothing is known of the others, so that their part is 0, and the target part -log q."""
    teacher, student = np.array([[0.0, -np.inf, -np.inf]]), np.log([[0.2, 0.3, 0.5]])
    target, others, p = call(decoupled_parts, teacher, student, labels=[0])
    np.testing.assert_allclose([target, others, p], [[-np.log(0.2)], [0.0], [1.0]], rtol=1e-12)
    slope = gradient_of(lambda s: call(decoupled_loss, teacher, s, labels=[0]), student)
    assert np.isfinite(slope).all()
    # The label itself is ruled out: target part -log(1 - q[label]).
    target, _, p = call(decoupled_parts, teacher, student, labels=[1])
    np.testing.assert_allclose([target, p], [[-np.log(0.7)], [0.0]], rtol=1e-12)


def test_soft_targets_and_sequences_of_never():
    logits = np.array([[0.0, -np.inf, np.log(3.0)]])
    np.testing.assert_allclose(soft_targets(logits), [[0.25, 0.0, 0.75]], rtol=1e-12)
    found = sequence_log_probability(tokens=[[2, 0]], logits=[[logits[0], logits[0]]])
    np.testing.assert_allclose(found, [np.log(0.75 * 0.25)], rtol=1e-12)
    sides = {"teacher_logits": logits[None], "student_logits": np.zeros((1, 1, 3))}
    found = policy_gradient_loss(tokens=[[2]], **sides)
    np.testing.assert_allclose(found, [-np.log(3) * (-np.log(3) - np.log(0.75))], rtol=1e-12)
    with pytest.raises(ValueError, match=r"^teacher_logits must allow every token .* \(0, 0\)"):
        policy_gradient_loss(tokens=[[1]], **sides)
    found = policy_gradient_loss(tokens=[[1]], **sides, mask=[[False]])
    np.testing.assert_array_equal(found, [0.0])


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_the_size_of_features_falls_out_however_large_or_small(scale):
    """In float32 their squares, and the products' squares, are 0 or infinite."""
    teacher, student = TEACHER, STUDENT
    for loss in (
        similarity_preserving_loss,
        probabilistic_transfer_loss,
        contrastive_loss,
    ):
        size = np.float32(scale if loss is not similarity_preserving_loss else scale**0.5)
        expected = call(loss, teacher, student)
        np.testing.assert_allclose(call(loss, teacher, size * student), expected, rtol=1e-4)
