"""Relational distillation against loops, its invariances, its gradient, and bad input."""

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

from distill_lib.losses import angle_relation_loss, distance_relation_loss

GENERATOR = np.random.default_rng(0)
# The last row lies far out, so that both branches of Huber's loss are met.
TEACHER = np.concatenate([GENERATOR.normal(size=(5, 4)), np.full((1, 4), 30.0)])
STUDENT = GENERATOR.normal(size=(6, 3))
ROOT = 2**0.5
# A triangle with a right angle at the first corner, and one with three equal sides.
RIGHT = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
EQUAL = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])


def huber(gap):
    return gap**2 / 2 if abs(gap) <= 1 else abs(gap) - 0.5


def relative_distances(rows):
    count = len(rows)
    table = [[np.sqrt(np.sum((a - b) ** 2)) for b in rows] for a in rows]
    return np.array(table) / (np.sum(table) / (count * (count - 1)))


def cosine(rows, i, j, k):
    first, second = rows[i] - rows[j], rows[k] - rows[j]
    return first @ second / np.sqrt(first @ first * (second @ second))


def distances_by_loop(teacher, student):
    count = len(student)
    gaps = relative_distances(student) - relative_distances(teacher)
    assert {abs(gap) <= 1 for gap in gaps.flat} == {True, False}
    return [sum(map(huber, row)) / (count - 1) for row in gaps]


def angles_by_loop(teacher, student):
    losses, branches = [], set()
    for j in range(len(student)):
        others = [i for i in range(len(student)) if i != j]
        gaps = [
            cosine(student, i, j, k) - cosine(teacher, i, j, k)
            for i in others
            for k in others
            if i != k
        ]
        branches |= {abs(gap) <= 1 for gap in gaps}
        losses.append(sum(map(huber, gaps)) / len(gaps))
    assert branches == {True, False}
    return losses


LOSSES = [(distance_relation_loss, distances_by_loop), (angle_relation_loss, angles_by_loop)]


@pytest.mark.parametrize(("loss", "by_loop"), LOSSES)
def test_equals_a_loop(loss, by_loop):
    np.testing.assert_allclose(
        call(loss, TEACHER, STUDENT), by_loop(TEACHER, STUDENT), rtol=1e-12
    )
    maps = TEACHER.reshape(6, 2, 1, 2)
    np.testing.assert_array_equal(call(loss, maps, STUDENT), call(loss, TEACHER, STUDENT))


@pytest.mark.parametrize("loss", [distance_relation_loss, angle_relation_loss])
@pytest.mark.parametrize("check", IN_BATCH)
def test_what_every_batch_loss_keeps(check, loss):
    check(loss, TEACHER, STUDENT)


@pytest.mark.parametrize("loss", [distance_relation_loss, angle_relation_loss])
def test_no_loss_at_equality(loss):
    check_equality(loss, TEACHER)


def test_distances_by_hand():
    mean = (2 + ROOT) / 3
    short, long = huber(1 / mean - 1), huber(ROOT / mean - 1)
    found = call(distance_relation_loss, EQUAL, RIGHT)
    np.testing.assert_allclose(found, [short, (short + long) / 2, (short + long) / 2])


def test_angles_by_hand():
    """60 degrees three times, against 90, 45 and 45."""
    flat = huber(ROOT / 2 - 0.5)
    found = call(angle_relation_loss, EQUAL, RIGHT)
    np.testing.assert_allclose(found, [huber(-0.5), flat, flat], rtol=1e-12)


def test_the_authors_averages_count_the_zeros():
    gaps = relative_distances(STUDENT) - relative_distances(TEACHER)
    theirs = np.mean(np.vectorize(huber)(gaps))
    ours = np.mean(call(distance_relation_loss, TEACHER, STUDENT))
    np.testing.assert_allclose(theirs, 5 / 6 * ours, rtol=1e-12)
    tables = []
    for rows in (TEACHER, STUDENT):
        lines = rows[None] - rows[:, None]
        lengths = np.linalg.norm(lines, axis=2, keepdims=True)
        lines = lines / np.where(lengths > 0, lengths, 1)
        tables.append(np.einsum("jid,jkd->jik", lines, lines))
    theirs = np.mean(np.vectorize(huber)(tables[1] - tables[0]))
    ours = np.mean(call(angle_relation_loss, TEACHER, STUDENT))
    np.testing.assert_allclose(theirs, 5 * 4 / 36 * ours, rtol=1e-12)


@few
@given(st.integers(0, 1000), st.floats(0.001, 10), st.floats(-5, 5))
def test_shift_rotation_and_scale_change_nothing(seed, scale, shift):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    moved = scale * TEACHER @ rotation + shift
    for loss, _ in LOSSES:
        np.testing.assert_allclose(call(loss, TEACHER, moved), 0.0, atol=1e-12)
        expected = call(loss, TEACHER, STUDENT)
        np.testing.assert_allclose(call(loss, moved, STUDENT), expected, atol=1e-12)


def test_angles_see_what_is_bent_and_distances_too():
    straight = TEACHER[:5]
    for loss, _ in LOSSES:
        assert np.min(call(loss, straight, straight * [1.0, 1.0, 1.0, 2.0])) > 1e-3


@pytest.mark.parametrize("loss", [distance_relation_loss, angle_relation_loss])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_rows_move_and_a_collapsed_batch_stays(loss, dtype):
    teacher, student = TEACHER.astype(dtype), STUDENT.astype(dtype)
    student[1] = student[0]
    slope = gradient_of(lambda s: call(loss, teacher, s), student)
    assert np.isfinite(slope).all()
    assert np.abs(slope[1]).max() > 0.001
    collapsed = np.ones_like(student)
    assert (np.asarray(call(loss, teacher, collapsed)) > 0.01).all()
    slope = gradient_of(lambda s: call(loss, teacher, s), collapsed)
    np.testing.assert_array_equal(slope, 0.0)


def test_two_examples_left_make_a_pair_but_no_triangle():
    mask = np.arange(6) < 2
    found = call(distance_relation_loss, TEACHER, STUDENT, mask=mask)
    np.testing.assert_allclose(found, 0.0, atol=1e-15)  # both distances are the mean
    found = call(angle_relation_loss, TEACHER, STUDENT, mask=mask)
    np.testing.assert_array_equal(found, 0.0)


@pytest.mark.parametrize(
    ("loss", "least"), [(distance_relation_loss, 2), (angle_relation_loss, 3)]
)
def test_bad_batches(loss, least):
    check_rows(loss, TEACHER, STUDENT, least)
