"""The contrastive loss against a loop and hand values, its bound, and bad input."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import (
    IN_BATCH,
    call,
    check_knob,
    check_rows,
    few,
)

from distill_lib.losses import contrastive_loss

TEACHER, STUDENT = np.random.default_rng(0).normal(size=(2, 6, 4))
KNOBS = {"temperature": 0.5}


@pytest.mark.parametrize("check", IN_BATCH)
def test_what_every_batch_loss_keeps(check):
    check(contrastive_loss, TEACHER, STUDENT, **KNOBS)


def test_equals_a_loop():
    expected = []
    for i, s in enumerate(STUDENT):
        cosines = [s @ t / np.sqrt(s @ s * (t @ t)) for t in TEACHER]
        powers = [np.exp(x / 0.5) for x in cosines]
        expected.append(-np.log(powers[i] / sum(powers)))
    found = call(contrastive_loss, TEACHER, STUDENT, temperature=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    maps = [x.reshape(6, 2, 2, 1) for x in (TEACHER, STUDENT)]
    np.testing.assert_allclose(call(contrastive_loss, *maps, **KNOBS), expected, rtol=1e-12)


def test_by_hand():
    """Two right angles: cosines 1 and 0, at a temperature of 0.1 scores of 10 and 0."""
    axes = np.eye(2)
    right, wrong = np.log1p(np.exp(-10)), np.log1p(np.exp(10))
    np.testing.assert_allclose(call(contrastive_loss, axes, axes), [right, right], rtol=1e-9)
    np.testing.assert_allclose(call(contrastive_loss, axes[::-1], axes), wrong, rtol=1e-9)
    collapsed = call(contrastive_loss, TEACHER, np.zeros_like(STUDENT))
    np.testing.assert_allclose(collapsed, np.log(6), rtol=1e-12)


def test_the_student_looks_for_its_teacher_not_the_other_way_round():
    there = np.asarray(call(contrastive_loss, TEACHER, STUDENT))
    back = np.asarray(call(contrastive_loss, STUDENT, TEACHER))
    assert np.abs(there - back).min() > 1e-3


@few
@given(st.integers(0, 1000), st.lists(st.floats(0.1, 10), min_size=6, max_size=6))
def test_a_common_rotation_and_the_lengths_of_rows_change_nothing(seed, lengths):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    scale = np.array(lengths)[:, None]
    expected = call(contrastive_loss, TEACHER, STUDENT)
    for teacher, student in (
        (TEACHER @ rotation, STUDENT @ rotation),
        (scale * TEACHER, STUDENT),
        (TEACHER, scale * STUDENT),
    ):
        found = call(contrastive_loss, teacher, student)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@few
@given(st.floats(0.05, 3), st.floats(0, 1))
def test_it_bounds_the_mutual_information(temperature, blur):
    """Three equally frequent pairs of s and t: all batches of two, written out."""
    blurred = np.eye(3) * (1 - blur) + blur / 3  # the student sees t as in a fog
    information = np.log(3)  # blurred or not, s still tells t, unless blur is 1
    losses = []
    for batch in product(range(3), repeat=2):
        teacher, student = np.eye(3)[list(batch)], blurred[list(batch)]
        losses.append(
            np.mean(call(contrastive_loss, teacher, student, temperature=temperature))
        )
    bound = np.log(2) - np.mean(losses)
    assert bound <= min(np.log(2), information) + 1e-12
    assert bound >= -1e-12  # the own one is never further off than another


def test_bad_input():
    check_rows(contrastive_loss, TEACHER, STUDENT)
    with pytest.raises(ValueError, match=r"^teacher_features .* the width of .* \(6, 3\), got"):
        call(contrastive_loss, TEACHER, STUDENT[:, :3])
    rule = "be a finite number above 0"
    check_knob(contrastive_loss, TEACHER, STUDENT, "temperature", 0.5, (0, -1.0), rule)
