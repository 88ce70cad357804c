"""Sequence losses on a table model, all of whose sequences are written out."""

from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import few, finite_differences, gradient_of

from distill_lib.losses import (
    jensen_shannon_loss,
    next_token_pairs,
    policy_gradient_loss,
    reverse_kl_loss,
    sequence_log_probability,
    soft_target_loss,
    sum_over_tokens,
    weighted_mean,
)

GENERATOR = np.random.default_rng(0)
ALL = np.array(list(product(range(3), repeat=3)))  # 27 sequences of 3 tokens out of 3
PREFIXES = 1 + 3 + 9  # of length 0, 1 and 2, each with a row of logits
# The row for the prefix of each step: (), then (a), then (a, b).
ROWS = np.stack([np.zeros(27, int), 1 + ALL[:, 0], 4 + 3 * ALL[:, 0] + ALL[:, 1]], axis=1)
TEACHER, STUDENT = GENERATOR.normal(size=(2, PREFIXES, 3))
PADDED = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
TOKENS = GENERATOR.integers(0, 5, (4, 4))
LOGITS = GENERATOR.normal(size=(2, 4, 4, 5))


def log_probabilities(table):
    """log of the probability of each of the 27 sequences."""
    return sequence_log_probability(tokens=ALL, logits=tf.gather(table, ROWS))


def exact_kl(first, second):
    log_p, log_q = log_probabilities(first), log_probabilities(second)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q))


def test_the_logits_of_one_step_speak_of_the_next_token():
    tokens = np.array([[2, 0, 1, 1], [1, 2, 2, 0]])
    logits = np.zeros((2, 4, 3))
    for row, step in product(range(2), range(3)):
        logits[row, step, tokens[row, step + 1]] = 50
    targets, aligned = next_token_pairs(tokens, logits)
    np.testing.assert_array_equal(targets, tokens[:, 1:])
    np.testing.assert_array_equal(aligned, logits[:, :3])
    found = sequence_log_probability(tokens=targets, logits=aligned)
    np.testing.assert_allclose(found, 0.0, atol=1e-12)


def test_log_probability_by_hand():
    logits = np.log([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]])
    found = sequence_log_probability(tokens=[[1, 2]], logits=logits)
    np.testing.assert_allclose(found, [np.log(0.25 * 0.7)], rtol=1e-12)
    found = sequence_log_probability(tokens=[[1, 2]], logits=logits, mask=[[0, 1]])
    np.testing.assert_allclose(found, [np.log(0.7)], rtol=1e-12)
    np.testing.assert_allclose(np.sum(np.exp(log_probabilities(STUDENT))), 1.0, rtol=1e-12)


@few
@given(st.integers(0, 10_000), st.floats(0.5, 3))
def test_chain_rules_of_both_directions(seed, scale):
    """The one with the teacher's prefixes, the other with the student's; not crosswise."""
    teacher, student = scale * np.random.default_rng(seed).normal(size=(2, PREFIXES, 3))
    signals = {"teacher_logits": teacher[ROWS], "student_logits": student[ROWS]}
    p, q = np.exp(log_probabilities(teacher)), np.exp(log_probabilities(student))
    forward = sum_over_tokens(soft_target_loss(**signals))
    reverse = sum_over_tokens(reverse_kl_loss(**signals))
    np.testing.assert_allclose(np.sum(p * forward), exact_kl(teacher, student), rtol=1e-9)
    np.testing.assert_allclose(np.sum(q * reverse), exact_kl(student, teacher), rtol=1e-9)
    assert abs(np.sum(q * forward) - exact_kl(teacher, student)) > 1e-6


def test_expected_policy_gradient_is_the_gradient_of_the_reverse_kl():
    chances = np.exp(log_probabilities(STUDENT))

    def surrogate(table):
        losses = policy_gradient_loss(
            tokens=ALL, teacher_logits=TEACHER[ROWS], student_logits=tf.gather(table, ROWS)
        )
        return chances * losses

    found = gradient_of(surrogate, STUDENT)
    expected = gradient_of(lambda table: exact_kl(table, TEACHER), STUDENT)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    numeric = finite_differences(lambda table: exact_kl(table, TEACHER), STUDENT)
    np.testing.assert_allclose(found, numeric, atol=1e-8)
    assert np.abs(expected).max() > 0.01


def log_softmax(logits):
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


@pytest.mark.parametrize("mask", [None, PADDED])
def test_policy_gradient_charges_each_token_with_what_follows(mask):
    kept = np.ones((4, 4), bool) if mask is None else mask
    log_p, log_q = log_softmax(LOGITS[0]), log_softmax(LOGITS[1])
    values, slopes = np.zeros(4), np.zeros_like(LOGITS[1])
    for row, step in zip(*np.nonzero(kept), strict=True):
        later = [u for u in range(step, 4) if kept[row, u]]
        picked = [(row, u, TOKENS[row, u]) for u in later]
        cost = sum(log_q[i] - log_p[i] for i in picked)
        values[row] += cost * log_q[row, step, TOKENS[row, step]]
        one_hot = np.arange(5) == TOKENS[row, step]
        slopes[row, step] = cost * (one_hot - np.exp(log_q[row, step]))

    def loss(teacher, student):
        return policy_gradient_loss(
            tokens=TOKENS, teacher_logits=teacher, student_logits=student, mask=mask
        )

    np.testing.assert_allclose(loss(*LOGITS), values, rtol=1e-10)
    found = gradient_of(lambda s: loss(LOGITS[0], s), LOGITS[1])
    np.testing.assert_allclose(found, slopes, atol=1e-12)
    np.testing.assert_array_equal(loss(LOGITS[1], LOGITS[1]), 0.0)
    specification = [tf.TensorSpec((None, None, 5), "float64")] * 2
    if mask is None:
        traced = tf.function(loss, input_signature=specification)
        np.testing.assert_allclose(traced(*LOGITS), values, rtol=1e-10)
    stack = tf.constant(np.stack([LOGITS[1], 2 * LOGITS[1]]))
    for function in (lambda s: loss(LOGITS[0], s), lambda s: gradient_in_place(loss, s)):
        stacked = tf.vectorized_map(function, stack, fallback_to_while_loop=False)
        np.testing.assert_allclose(stacked[1], function(stack[1]), rtol=1e-10)


def gradient_in_place(loss, student):
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = loss(LOGITS[0], student)
    return tape.gradient(values, student)


def test_masked_tokens_count_nowhere_whatever_they_hold():
    broken = np.where(PADDED[..., None], LOGITS, np.nan)
    tokens = np.where(PADDED, TOKENS, -100)
    signals = {"teacher_logits": broken[0], "student_logits": broken[1]}
    clean = dict(zip(signals, LOGITS, strict=True))
    for mask in (PADDED, PADDED.astype("float32")):
        found = policy_gradient_loss(tokens=tokens, mask=mask, **signals)
        expected = policy_gradient_loss(tokens=TOKENS, mask=PADDED, **clean)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        found = sequence_log_probability(tokens=tokens, logits=broken[1], mask=mask)
        picked = np.take_along_axis(log_softmax(LOGITS[1]), TOKENS[..., None], -1)[..., 0]
        np.testing.assert_allclose(found, np.sum(picked * PADDED, axis=1), rtol=1e-12)
        values = np.where(PADDED, picked, np.nan)
        np.testing.assert_allclose(sum_over_tokens(values, mask), found, rtol=1e-12)
    for function in (
        lambda s: policy_gradient_loss(
            tokens=tokens, teacher_logits=broken[0], student_logits=s, mask=PADDED
        ),
        lambda s: sequence_log_probability(tokens=tokens, logits=s, mask=PADDED),
    ):
        slope = gradient_of(function, broken[1])
        np.testing.assert_array_equal(slope[~PADDED], 0.0)
        assert np.isfinite(slope).all()
        assert np.abs(slope[PADDED]).max() > 0.01


@pytest.mark.parametrize("loss", [soft_target_loss, reverse_kl_loss, jensen_shannon_loss])
def test_right_padding_of_token_losses(loss):
    """The mean over real tokens; what stands in the padding has no gradient."""
    padded = np.where(PADDED[..., None], LOGITS, 1e4)
    real = [
        loss(teacher_logits=t, student_logits=s)
        for t, s in zip(*LOGITS[:, PADDED], strict=True)
    ]

    def mean(student):
        values = loss(teacher_logits=padded[0], student_logits=student)
        return weighted_mean(values, mask=PADDED)

    np.testing.assert_allclose(mean(padded[1]), np.mean(real), rtol=1e-12)
    slope = gradient_of(mean, padded[1])
    np.testing.assert_array_equal(slope[~PADDED], 0.0)
    assert (np.abs(slope[PADDED]).max(axis=-1) > 1e-4).all()
    sums = sum_over_tokens(loss(teacher_logits=padded[0], student_logits=padded[1]), PADDED)
    np.testing.assert_allclose(sums[3], 0.0)
    np.testing.assert_allclose(np.sum(sums), np.sum(real), rtol=1e-12)
