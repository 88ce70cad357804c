"""Losses blind to scale: against loops and hand values, invariances, limits, and bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import (
    IN_BATCH,
    RESPONSE,
    call,
    check_equality,
    check_knob,
    check_logits,
    few,
    gradient_of,
)

from distill_lib.losses import correlation_loss, soft_targets, standardised_target_loss

TEACHER, STUDENT = np.random.default_rng(0).normal(0, 2, (2, 6, 4))
KNOBS = {"temperature": 2.5, "between_weight": 0.7, "within_weight": 1.8}


@pytest.mark.parametrize("check", IN_BATCH)
def test_what_every_batch_loss_keeps(check):
    check(correlation_loss, TEACHER, STUDENT, **KNOBS)


@pytest.mark.parametrize("check", RESPONSE)
def test_what_every_response_loss_keeps(check):
    check(standardised_target_loss, TEACHER, STUDENT, temperature=1.5)


def test_standardised_by_hand():
    """Two classes always become 1 and -1."""
    teacher, student = np.array([[3.0, 1.0]]), np.array([[0.0, 5.0]])
    p = 1 / (1 + np.exp(-1))  # of the first class, with the logits 1/2 and -1/2
    found = call(standardised_target_loss, teacher, student)
    np.testing.assert_allclose(found, [4 * (p - (1 - p))], rtol=1e-12)


def test_standardised_equals_a_loop():
    expected = []
    for v, z in zip(TEACHER, STUDENT, strict=True):
        p, q = (np.exp((x - np.mean(x)) / np.std(x) / 0.7) for x in (v, z))
        p, q = p / sum(p), q / sum(q)
        expected.append(0.7**2 * sum(p * np.log(p / q)))
    found = call(standardised_target_loss, TEACHER, STUDENT, temperature=0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@few
@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_standardised_knows_no_scale_and_no_offset(scale, shift):
    moved = scale * TEACHER + shift * scale
    found = call(standardised_target_loss, moved, TEACHER)
    np.testing.assert_allclose(found, 0.0, atol=1e-12)
    found = call(standardised_target_loss, TEACHER, scale * STUDENT + shift * scale)
    expected = call(standardised_target_loss, TEACHER, STUDENT)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.min(call(standardised_target_loss, -TEACHER, TEACHER)) > 0.1


def test_standardised_at_equality():
    check_equality(standardised_target_loss, TEACHER)


def test_equal_logits_have_no_scale_and_no_gradient():
    constant, tiny = np.full((6, 4), 3.0), 3 + 1e-7 * STUDENT
    uniform = call(standardised_target_loss, TEACHER, constant)
    for student in (tiny, 0 * tiny, 1e4 * constant):
        found = call(standardised_target_loss, TEACHER, student)
        np.testing.assert_array_equal(found, uniform)
        slope = gradient_of(lambda s: call(standardised_target_loss, TEACHER, s), student)
        np.testing.assert_array_equal(slope, 0.0)
    nearly = 3 + 1e-5 * STUDENT  # a difference, if a small one
    found = call(standardised_target_loss, TEACHER, nearly)
    expected = call(standardised_target_loss, TEACHER, STUDENT)
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    small = call(standardised_target_loss, TEACHER.astype("float32"), STUDENT.astype("float32"))
    for scale in (1e-30, 1e30):  # neither squares of 0 nor of infinity
        student = (scale * STUDENT).astype("float32")
        found = call(standardised_target_loss, TEACHER.astype("float32"), student)
        np.testing.assert_allclose(found, small, rtol=1e-4)


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_correlation_equals_numpy(temperature):
    """Its mean over examples; each example's part of the columns by the squared distance."""
    p, q = (np.asarray(soft_targets(x, temperature)) for x in (TEACHER, STUDENT))
    rows = np.array([1 - correlation(a, b) for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - correlation(a, b) for a, b in zip(p.T, q.T, strict=True)])
    knobs = {"temperature": temperature}
    found = call(correlation_loss, TEACHER, STUDENT, **knobs)
    np.testing.assert_allclose(np.mean(found), np.mean(rows) + columns, rtol=1e-12)
    found = call(correlation_loss, TEACHER, STUDENT, within_weight=0.0, **knobs)
    np.testing.assert_allclose(found, rows, rtol=1e-12)
    scores = [(x - x.mean(0)) / x.std(0) for x in (p, q)]
    expected = np.mean((scores[0] - scores[1]) ** 2, axis=1) / 2
    found = call(correlation_loss, TEACHER, STUDENT, between_weight=0.0, **knobs)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(np.mean(found), columns, rtol=1e-12)


def test_correlation_is_half_the_distance_of_standard_scores():
    p, q = (np.asarray(soft_targets(x)) for x in (TEACHER, STUDENT))
    scores = [(x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) for x in (p, q)]
    expected = np.mean((scores[0] - scores[1]) ** 2, axis=1) / 2
    found = call(correlation_loss, TEACHER, STUDENT, within_weight=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_correlation_by_hand():
    """Rows of two classes correlate fully, or not at all: opposite ones cost 2."""
    up, down = [1.0, 0.0], [0.0, 1.0]
    knobs = {"teacher_logits": np.array([up, up, down]), "within_weight": 0.0}
    found = correlation_loss(student_logits=np.array([up, down, down]), **knobs)
    np.testing.assert_allclose(found, [0.0, 2.0, 0.0], atol=1e-12)
    knobs = {"teacher_logits": np.array([up, down]), "between_weight": 0.0}
    for student, expected in (([up, down], 0.0), ([down, up], 2.0)):
        found = correlation_loss(student_logits=np.array(student), **knobs)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_constant_row_or_column_costs_a_half():
    uniform = np.zeros_like(STUDENT)
    for name in ("between_weight", "within_weight"):
        knobs = {"between_weight": 0.0, "within_weight": 0.0, name: 1.0}
        found = call(correlation_loss, TEACHER, uniform, **knobs)
        np.testing.assert_allclose(np.mean(found), 0.5, rtol=1e-12)
        check_equality(correlation_loss, uniform, **knobs)
        slope = gradient_of(lambda s, k=knobs: call(correlation_loss, TEACHER, s, **k), uniform)
        np.testing.assert_array_equal(slope, 0.0)


def test_correlation_at_equality_and_beyond():
    """Blind to the scale of p - 1/N, which is that of the logits at a high temperature."""
    check_equality(correlation_loss, TEACHER)
    hot = call(correlation_loss, TEACHER, 3 * TEACHER, temperature=1e5)
    np.testing.assert_allclose(hot, 0.0, atol=1e-8)
    assert np.min(call(correlation_loss, TEACHER, 3 * TEACHER)) > 1e-3


def test_bad_input():
    check_logits(correlation_loss, TEACHER, STUDENT)
    bad = ((0, -1.0), "be a finite number above 0")
    check_knob(standardised_target_loss, TEACHER, STUDENT, "temperature", 1.5, *bad)
    for name, good in KNOBS.items():
        bad = (0, -1.0) if name == "temperature" else (float("nan"), float("-inf"))
        rule = "be a finite number above 0" if name == "temperature" else "be finite"
        check_knob(correlation_loss, TEACHER, STUDENT, name, good, bad, rule)


def test_every_leading_index_is_an_example():
    tokens = (TEACHER.reshape(2, 3, 4), STUDENT.reshape(2, 3, 4))
    expected = call(correlation_loss, TEACHER, STUDENT, **KNOBS)
    found = call(correlation_loss, *tokens, **KNOBS)
    np.testing.assert_allclose(found, np.reshape(expected, (2, 3)), rtol=1e-12)
    padding = np.array([[1, 1, 0], [1, 0, 1]], bool)
    for mask, flat in ((padding, padding.ravel()), ([True, False], np.arange(6) < 3)):
        expected = call(correlation_loss, TEACHER[flat], STUDENT[flat], **KNOBS)
        found = np.asarray(call(correlation_loss, *tokens, mask=mask, **KNOBS))
        np.testing.assert_allclose(found.ravel()[flat], expected, rtol=1e-12)
        np.testing.assert_array_equal(found.ravel()[~flat], 0.0)
