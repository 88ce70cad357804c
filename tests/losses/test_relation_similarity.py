"""Similarity losses against loops and hand values, their invariances, and bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import (
    IN_BATCH,
    call,
    check_equality,
    check_rows,
    few,
    gradient_of,
)

from distill_lib.losses import probabilistic_transfer_loss, similarity_preserving_loss

GENERATOR = np.random.default_rng(0)
TEACHER, STUDENT = GENERATOR.normal(size=(6, 4)), GENERATOR.normal(size=(6, 3))
LOSSES = [similarity_preserving_loss, probabilistic_transfer_loss]
FIRST, SECOND = [1.0, 0.0], [0.0, 1.0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("check", IN_BATCH)
def test_what_every_batch_loss_keeps(check, loss):
    check(loss, TEACHER, STUDENT)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_at_equality(loss):
    check_equality(loss, TEACHER)


def test_products_by_hand():
    """The student's rows are (1, 0) and (0, 1), the teacher's twice (1, 1) / root 2."""
    found = call(similarity_preserving_loss, np.array([FIRST] * 2), np.array([FIRST, SECOND]))
    expected = ((1 - 0.5**0.5) ** 2 + 0.5) / 2
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-12)


def test_products_equal_a_loop_and_the_mean_is_the_papers_value():
    tables = []
    for features in (TEACHER, STUDENT):
        table = np.array([[a @ b for b in features] for a in features])
        tables.append(np.array([row / np.sqrt(row @ row) for row in table]))
    gaps = (tables[1] - tables[0]) ** 2
    found = call(similarity_preserving_loss, TEACHER, STUDENT)
    np.testing.assert_allclose(found, [sum(row) / 6 for row in gaps], rtol=1e-12)
    np.testing.assert_allclose(np.mean(found), np.sum(gaps) / 6**2, rtol=1e-12)


def test_probabilities_by_hand():
    teacher, student = np.array([FIRST, FIRST, SECOND]), np.array([FIRST, SECOND, FIRST])
    found = call(probabilistic_transfer_loss, teacher, student)
    log = np.log
    expected = [
        log(2) / 3,  # (2/3, 1/3) against (1/3, 2/3)
        2 / 3 * log(4 / 3) + 1 / 3 * log(2 / 3),  # (2/3, 1/3) against (1/2, 1/2)
        1 / 2 * log(3 / 4) + 1 / 2 * log(3 / 2),  # (1/2, 1/2) against (2/3, 1/3)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_probabilities_equal_a_loop():
    def neighbours(features, i):
        own, others = features[i], np.delete(features, i, axis=0)
        lengths = np.linalg.norm(own) * np.linalg.norm(others, axis=1)
        similarities = (1 + others @ own / lengths) / 2
        return similarities / sum(similarities)

    expected = []
    for i in range(6):
        p, q = neighbours(TEACHER, i), neighbours(STUDENT, i)
        expected.append(sum(p * np.log(p / q)))
    found = call(probabilistic_transfer_loss, TEACHER, STUDENT)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@few
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_rotation_and_scale_change_nothing(seed, scale):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    moved = scale * TEACHER @ rotation
    for loss in LOSSES:
        np.testing.assert_allclose(call(loss, TEACHER, moved), 0.0, atol=1e-12)
        expected = call(loss, TEACHER, STUDENT)
        np.testing.assert_allclose(call(loss, moved, STUDENT), expected, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_shift_changes_it(loss):
    assert np.mean(call(loss, TEACHER, TEACHER + 2)) > 0.01


def test_lengths_of_single_rows_count_for_products_alone():
    moved = TEACHER * np.linspace(1, 3, 6)[:, None]
    found = call(probabilistic_transfer_loss, TEACHER, moved)
    np.testing.assert_allclose(found, 0.0, atol=1e-12)
    assert np.mean(call(similarity_preserving_loss, TEACHER, moved)) > 0.001


def test_probabilities_are_no_negative_loss_and_not_symmetric():
    there = np.asarray(call(probabilistic_transfer_loss, TEACHER, STUDENT))
    back = np.asarray(call(probabilistic_transfer_loss, STUDENT, TEACHER))
    assert (there > 0).all()
    assert np.abs(there - back).min() > 1e-4


def test_opposite_directions_are_finite():
    """(1 + cosine) / 2 is 0 here, and its logarithm would be minus infinity."""
    opposite = np.array([FIRST, [-1.0, 0.0], SECOND])
    for teacher, student in ((np.ones((3, 2)), opposite), (opposite, np.ones((3, 2)))):
        found = call(probabilistic_transfer_loss, teacher, student)
        assert np.isfinite(found).all()
        slope = gradient_of(
            lambda s, t=teacher: call(probabilistic_transfer_loss, t, s), student
        )
        assert np.isfinite(slope).all()
    found = call(probabilistic_transfer_loss, np.ones((3, 2)), opposite)
    own = 1e-6 / (0.5 + 1e-6)  # the probability that is left to the opposite direction
    expected = 0.5 * np.log(0.5 / own) + 0.5 * np.log(0.5 / (1 - own))
    np.testing.assert_allclose(found[0], expected, rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_maps_are_flattened_and_bad_batches_refused(loss):
    maps = TEACHER.reshape(6, 2, 1, 2)
    np.testing.assert_array_equal(call(loss, maps, STUDENT), call(loss, TEACHER, STUDENT))
    check_rows(loss, TEACHER, STUDENT)
