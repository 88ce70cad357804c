"""Sequence losses at the edge: precision, large logits, and input that does not fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_checks import gradient_of

from distill_lib.losses import (
    next_token_pairs,
    policy_gradient_loss,
    sequence_log_probability,
    sum_over_tokens,
)

GENERATOR = np.random.default_rng(0)
TOKENS = GENERATOR.integers(0, 5, (4, 3))
LOGITS = GENERATOR.normal(size=(4, 3, 5))


def policy(tokens=TOKENS, teacher=LOGITS, student=LOGITS, mask=None):
    return policy_gradient_loss(
        tokens=tokens, teacher_logits=teacher, student_logits=student, mask=mask
    )


@pytest.mark.parametrize(
    ("dtype", "result"), [("float16", "float32"), ("float32", "float32"), ("float64",) * 2]
)
def test_precision(dtype, result):
    half, other = LOGITS.astype(dtype), LOGITS[::-1].astype(dtype)
    wide, other_wide = half.astype("float64"), other.astype("float64")
    for found, expected in (
        (policy(teacher=half, student=other), policy(teacher=wide, student=other_wide)),
        (policy(teacher=half, student=other_wide), policy(teacher=wide, student=other_wide)),
        (
            sequence_log_probability(tokens=TOKENS, logits=half),
            sequence_log_probability(tokens=TOKENS, logits=wide),
        ),
        (sum_over_tokens(half[..., 0]), sum_over_tokens(wide[..., 0])),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    found = sequence_log_probability(tokens=TOKENS, logits=half)
    assert keras.backend.standardize_dtype(found.dtype) == result
    found = sum_over_tokens(np.full((1, 3), 60_000, dtype))  # beyond float16
    np.testing.assert_allclose(found, [180_000.0])
    assert keras.backend.standardize_dtype(found.dtype) == result
    assert keras.backend.standardize_dtype(next_token_pairs(TOKENS, half)[1].dtype) == dtype


def test_large_logits_are_finite():
    student = (1e4 * np.sign(LOGITS)).astype("float32")
    assert np.isfinite(policy(teacher=-student, student=student)).all()
    assert np.isfinite(
        gradient_of(lambda s: policy(teacher=-student, student=s), student)
    ).all()
    lowest = sequence_log_probability(tokens=[[0, 0]], logits=[[[-1e4, 1e4], [1e4, -1e4]]])
    np.testing.assert_allclose(lowest, [-2e4])


def test_the_teacher_gets_no_gradient():
    """The costs are held fixed: teaching the teacher to agree is no way out."""
    teacher = tf.constant(LOGITS[::-1].copy())
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        total = tf.reduce_sum(policy(teacher=teacher))
    assert tape.gradient(total, teacher) is None


def test_a_token_outside_the_vocabulary_is_refused_or_nan():
    tokens = TOKENS.copy()
    tokens[1, 2] = 5
    rule = r"^tokens must be whole numbers from 0 to 4, got 5 at index \(1, 2\)"
    with pytest.raises(ValueError, match=rule):
        sequence_log_probability(tokens=tokens, logits=LOGITS)
    with pytest.raises(ValueError, match=rule):
        policy(tokens)
    for run in (tf.function(sequence_log_probability), tf.function(policy_gradient_loss)):
        sides = {"logits": LOGITS}
        if run.python_function is policy_gradient_loss:
            sides = {"teacher_logits": LOGITS, "student_logits": LOGITS[::-1]}
        found = run(tokens=tokens, **sides)
        np.testing.assert_array_equal(np.isnan(found), [False, True, False, False])


def test_bad_shapes():
    flat = r"must have the shape \(batch, steps, vocabulary\) .* got shape \(3, 5\)"
    with pytest.raises(ValueError, match="^logits " + flat):
        next_token_pairs(TOKENS[0], LOGITS[0])
    with pytest.raises(ValueError, match="^logits " + flat):
        sequence_log_probability(tokens=TOKENS[0], logits=LOGITS[0])
    with pytest.raises(ValueError, match="^student_logits " + flat):
        policy(TOKENS[0], LOGITS[0], LOGITS[0])
    with pytest.raises(
        ValueError, match=r"^teacher_logits must have the shape of .* got shape \(4, 2, 5\)"
    ):
        policy(teacher=LOGITS[:, 1:])
    for tokens in (TOKENS[:, 1:], TOKENS[1:], TOKENS[:, :1], TOKENS[..., None]):
        rule = r"^tokens must have the batch and steps of {} \(4, 3\), got shape"
        with pytest.raises(ValueError, match=rule.format("logits")):
            next_token_pairs(tokens, LOGITS)
        with pytest.raises(ValueError, match=rule.format("logits")):
            sequence_log_probability(tokens=tokens, logits=LOGITS)
        with pytest.raises(ValueError, match=rule.format("student_logits")):
            policy(tokens)
    for mask in (np.ones((4, 1)), np.ones((4, 2))):
        rule = r"^mask must have the leading axes of the losses \(4, 3\), got shape"
        with pytest.raises(ValueError, match=rule):
            policy(mask=mask)
        with pytest.raises(ValueError, match=rule):
            sequence_log_probability(tokens=TOKENS, logits=LOGITS, mask=mask)
        with pytest.raises(ValueError, match=rule):
            sum_over_tokens(TOKENS, mask)
    for losses in (np.ones(4), np.ones((4, 3, 5))):
        with pytest.raises(
            ValueError, match=r"^token_losses must have the shape \(batch, steps"
        ):
            sum_over_tokens(losses)
    with pytest.raises(ValueError, match=r"^logits must have 2 or more classes last, got"):
        sequence_log_probability(tokens=TOKENS, logits=LOGITS[..., :1])
