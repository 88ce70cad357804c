"""Decoupled distillation: its split of the divergence, hand values, and its edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_checks import RESPONSE, call, check_equality, check_knob, few, gradient_of

from distill_lib.losses import (
    decoupled_loss,
    decoupled_parts,
    soft_target_loss,
    soft_targets,
)

LABELS = [0, 3, 1]
WEIGHTS = ("target_weight", "non_target_weight")
PAIRS = hnp.arrays("float64", (2, 3, 4), elements=st.floats(-10, 10))
TEACHER, STUDENT = np.log([[0.5, 0.3, 0.2]]), np.log([[0.2, 0.3, 0.5]])
TARGET = 0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.8)
NON_TARGET = 0.6 * np.log(0.6 / 0.375) + 0.4 * np.log(0.4 / 0.625)

MANY = np.random.default_rng(0).normal(0, 2, (2, 5, 4))  # teacher and student
KNOBS = {"labels": [0, 3, 1, 2, 3], "temperature": 2.5, "target_weight": 2.0}


@pytest.mark.parametrize("check", RESPONSE)
def test_what_every_response_loss_keeps(check):
    check(decoupled_loss, *MANY, **KNOBS)


def test_no_loss_at_equality():
    check_equality(decoupled_loss, MANY[0], **KNOBS)


def test_knobs():
    bad = {name: ((float("nan"), float("inf")), "be finite") for name in WEIGHTS}
    bad["temperature"] = (0, -1.0), "be a finite number above 0"
    for name, rule in bad.items():
        check_knob(decoupled_loss, *MANY, name, 2.5, *rule, labels=KNOBS["labels"])


def test_by_hand():
    parts = call(decoupled_parts, TEACHER, STUDENT, labels=[0])
    np.testing.assert_allclose(parts, [[TARGET], [NON_TARGET], [0.5]], rtol=1e-12)
    found = call(decoupled_loss, TEACHER, STUDENT, labels=[0], temperature=1.0)
    np.testing.assert_allclose(found, [TARGET + 8 * NON_TARGET], rtol=1e-12)
    knobs = {"target_weight": 3.0, "non_target_weight": -2.0}
    found = call(decoupled_loss, 4 * TEACHER, 4 * STUDENT, labels=[0], **knobs)
    np.testing.assert_allclose(found, [16 * (3 * TARGET - 2 * NON_TARGET)], rtol=1e-12)


@few
@given(PAIRS, st.floats(0.5, 20))
def test_the_split_is_exact(pair, temperature):
    hot = {"temperature": temperature}
    target, non_target, p = call(decoupled_parts, *pair, labels=LABELS, **hot)
    expected = call(soft_target_loss, *pair, **hot) / temperature**2
    np.testing.assert_allclose(target + (1 - p) * non_target, expected, atol=1e-10)
    chances = np.asarray(soft_targets(pair[0], temperature))
    np.testing.assert_allclose(p, chances[range(3), LABELS], rtol=1e-12)
    assert np.min(target) >= -1e-12
    assert np.min(non_target) >= -1e-12


@few
@given(PAIRS)
def test_the_non_target_part_is_normalised_cross_entropy_minus_entropy(pair):
    _, found, _ = call(decoupled_parts, *pair, labels=LABELS)
    expected = []
    for v, z, label in zip(*pair, LABELS, strict=True):
        p, q = (np.exp(np.delete(x, label)) for x in (v, z))
        p, q = p / p.sum(), q / q.sum()
        expected.append(-np.sum(p * np.log(q)) + np.sum(p * np.log(p)))
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_the_parts_see_what_they_should():
    """The target part knows no other class from another, the other no target."""
    before = call(decoupled_parts, TEACHER, STUDENT, labels=[0])
    swapped = call(decoupled_parts, TEACHER, STUDENT[:, [0, 2, 1]], labels=[0])
    np.testing.assert_allclose(swapped[0], before[0], rtol=1e-12)
    assert abs(swapped[1] - before[1])[0] > 0.1
    surer = call(decoupled_parts, TEACHER, STUDENT + np.array([6.0, 0, 0]), labels=[0])
    np.testing.assert_allclose(surer[1], before[1], rtol=1e-12)
    assert abs(surer[0] - before[0])[0] > 0.1


def test_two_classes_have_no_non_target_part():
    """A division of 0 by 0 in other code (mdistiller #60)."""
    pair = np.array([[[2.0, -1.0], [50.0, 0.0]], [[0.5, 0.0], [0.0, 50.0]]])
    target, non_target, _ = call(decoupled_parts, *pair, labels=[0, 1])
    np.testing.assert_array_equal(non_target, 0.0)
    np.testing.assert_allclose(target, call(soft_target_loss, *pair), rtol=1e-12)


def test_a_gap_of_ten_thousand_is_finite():
    """Beyond a gap of about 100, mdistiller's loss is infinite and its gradient nan."""
    for gap in (120.0, 1e4):
        teacher = np.array([[gap, 0, -gap], [-gap, gap, 0], [gap, gap, -gap]], "float32")
        student = -teacher
        for part in (0, 1):

            def loss(s, t=teacher, part=part):
                return call(decoupled_parts, t, s, labels=[0, 0, 1])[part]

            assert np.isfinite(loss(student)).all()
            assert np.isfinite(gradient_of(loss, student)).all()
        found = call(decoupled_parts, teacher, student, labels=[0, 0, 1])
        np.testing.assert_allclose(found[0][0], 2 * gap, rtol=1e-5)  # 0 against a sure label
        np.testing.assert_allclose(found[1][:2], [gap, gap], rtol=1e-5)
        np.testing.assert_array_equal(found[2], [1.0, 0.0, 0.5])
