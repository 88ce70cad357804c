"""Feature losses against loops and hand values, their invariances, and bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import (
    EACH,
    call,
    check_alone,
    check_equality,
    check_knob,
    check_precision,
    few,
    gradient_of,
)

from distill_lib.losses import (
    attention_transfer_loss,
    hint_loss,
    variational_information_loss,
)

GENERATOR = np.random.default_rng(0)
MAPS = GENERATOR.normal(size=(2, 3, 2, 3, 3))  # teacher and student
NARROW = GENERATOR.normal(size=(3, 2, 3, 2))
TWICE = GENERATOR.normal(size=(3, 2, 3, 6))
ALL = [
    (hint_loss, *MAPS, {}),
    (attention_transfer_loss, MAPS[0], NARROW, {}),
    (attention_transfer_loss, MAPS[0], NARROW, {"power": 1.5, "squared": True}),
    (variational_information_loss, MAPS[0], TWICE, {}),
]


@pytest.mark.parametrize(("loss", "teacher", "student", "knobs"), ALL)
@pytest.mark.parametrize("check", [*EACH, check_alone])
def test_what_every_feature_loss_keeps(check, loss, teacher, student, knobs):
    check(loss, teacher, student, **knobs)


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (3, 2, 4, 5)])
def test_hint_equals_a_loop(shape):
    teacher, student = GENERATOR.normal(size=(2, *shape))
    expected = []
    for t, s in zip(teacher, student, strict=True):
        squares = [(a - b) ** 2 for a, b in zip(t.flat, s.flat, strict=True)]
        expected.append(0.5 * sum(squares) / len(squares))
    np.testing.assert_allclose(call(hint_loss, teacher, student), expected, rtol=1e-12)
    check_equality(hint_loss, teacher)


def test_attention_by_hand():
    teacher = np.array([4.0, 3.0, 1.0, 0.0]).reshape(2, 1, 2, 1)
    student = np.array([3.0, 4.0, 3.0, 4.0]).reshape(2, 1, 2, 1)
    squared = call(attention_transfer_loss, teacher, student, power=1, squared=True)
    np.testing.assert_allclose(squared, [0.2**2, (0.4**2 + 0.8**2) / 2])
    paper = call(attention_transfer_loss, teacher, student, power=1)
    np.testing.assert_allclose(paper, [0.2 * 2**0.5, 0.8**0.5])
    default = call(attention_transfer_loss, teacher, student)  # 9 and 16, of length root 337
    np.testing.assert_allclose(default[0], 7 * 2**0.5 / 337**0.5)


@pytest.mark.parametrize("power", [0.5, 1, 2, 3])
def test_attention_equals_a_loop(power):
    expected = []
    for t, s in zip(MAPS[0], NARROW, strict=True):
        directions = []
        for example in (t, s):
            q = [sum(abs(a) ** power for a in cell) for row in example for cell in row]
            directions.append(np.array(q) / sum(x * x for x in q) ** 0.5)
        expected.append(np.linalg.norm(directions[0] - directions[1]))
    found = call(attention_transfer_loss, MAPS[0], NARROW, power=power)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    squared = call(attention_transfer_loss, MAPS[0], NARROW, power=power, squared=True)
    np.testing.assert_allclose(squared, np.square(expected) / 6, rtol=1e-12)


@few
@given(st.floats(0.01, 100), st.permutations(range(3)), st.integers(0, 7), st.booleans())
def test_attention_knows_no_scale_sign_or_order_of_channels(scale, order, signs, squared):
    moved = scale * MAPS[1][..., order] * (1 - 2 * (signs >> np.arange(3) & 1))
    expected = call(attention_transfer_loss, *MAPS, squared=squared)
    found = call(attention_transfer_loss, MAPS[0], moved, squared=squared)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    zero = call(attention_transfer_loss, MAPS[1], moved, squared=squared)
    np.testing.assert_allclose(zero, 0.0, atol=1e-12)
    assert (np.asarray(expected) <= 2**0.5).all()


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_attention_at_equality_and_at_zero(power, squared):
    knobs = {"power": power, "squared": squared}
    check_equality(attention_transfer_loss, MAPS[0], **knobs)
    zeros = np.zeros_like(NARROW)
    check_equality(attention_transfer_loss, zeros, **knobs)
    far = call(attention_transfer_loss, MAPS[0], zeros, **knobs)  # a unit vector from 0
    np.testing.assert_allclose(far, 1 / 6 if squared else 1.0, rtol=1e-12)
    partly = NARROW.copy()
    partly[:, 0] = 0
    check_precision(attention_transfer_loss, MAPS[0], partly, **knobs)


def test_attention_of_large_powers_does_not_overflow():
    scale = np.array([1e4, 1, 1e-8], "float32").reshape(3, 1, 1, 1)  # each its own
    teacher, student = (scale * x.astype("float32") for x in (MAPS[0], NARROW))
    expected = call(attention_transfer_loss, MAPS[0], NARROW, power=12)
    found = call(attention_transfer_loss, teacher, student, power=12)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    slope = gradient_of(lambda s: call(attention_transfer_loss, teacher, s, power=12), student)
    assert np.isfinite(slope).all()


def raw(variance, least=1e-5):
    """What the adapter must give for a variance: the inverse of softplus."""
    return np.log(np.expm1(variance - least))


def test_information_by_hand():
    student = np.array([[1.0, 5.0, raw(2.0), raw(0.5)]])
    found = call(variational_information_loss, np.array([[3.0, 6.0]]), student)
    expected = 0.5 * ((np.log(2) + 4 / 2) + (np.log(0.5) + 1 / 0.5)) / 2
    np.testing.assert_allclose(found, [expected], rtol=1e-12)
    sure = np.array([[3.0, 6.0, -1e4, -1e4]])
    for least, knobs in ((1e-5, {}), (0.1, {"least_variance": 0.1})):
        found = call(variational_information_loss, np.array([[3.0, 6.0]]), sure, **knobs)
        np.testing.assert_allclose(found, [0.5 * np.log(least)], rtol=1e-12)


@few
@given(st.floats(-2, 2), st.floats(0.05, 5), st.floats(0.2, 3))
def test_information_is_a_bound_that_the_truth_attains(slope, variance, noise):
    """t = s + noise, all Gaussian, so that the mutual information is known."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    s, e = (x.ravel() for x in np.meshgrid(nodes, nodes))
    chance = np.outer(weights, weights).ravel() / (2 * np.pi)
    teacher = (s + noise**0.5 * e)[:, None]
    entropy = 0.5 * np.log(2 * np.pi * np.e * (1 + noise))
    information = 0.5 * np.log((1 + noise) / noise)

    def bound(slope, variance):
        student = np.stack([slope * s, np.full_like(s, raw(variance))], axis=1)
        values = call(variational_information_loss, teacher, student)
        return entropy - 0.5 * np.log(2 * np.pi) - np.sum(chance * values)

    np.testing.assert_allclose(bound(1.0, noise), information, rtol=1e-9)
    assert bound(slope, variance) <= information + 1e-9


def bad(loss, teacher, student, message, **knobs):
    with pytest.raises(ValueError, match="^" + message):
        call(loss, teacher, student, **knobs)


def test_bad_features():
    """A (1, 1, c) map broadcasts silently against (8, 8, c) in Keras's own loss."""
    small, large = np.ones((2, 1, 1, 3)), np.ones((2, 8, 8, 3))
    for loss, rule in (
        (hint_loss, "teacher_features must have the shape of student_features"),
        (attention_transfer_loss, "teacher_features must have the student's sizes"),
        (variational_information_loss, "student_features must have twice the teacher's"),
    ):
        bad(loss, small, large, rule + r".* \(2, .* got shape \(")
        flat = r"_features must hold 1 or more examples, each .* got shape \(2,\)"
        bad(loss, large, large[:, 0, 0, 0], "student" + flat)
        bad(loss, large[:, 0, 0, 0], large, "teacher" + flat)
        bad(loss, large[:0], large[:0], r"teacher_features must hold 1 .* \(0, 8, 8, 3\)")
    axes = r"_features must have the .*, got shape \(8, 8"
    bad(attention_transfer_loss, large[0], large, "teacher" + axes)
    bad(attention_transfer_loss, large, large[0], "student" + axes)
    channels = r".* channels \(2, 8, 8, 6\), got shape \(2, 8, 8, 3\)"
    bad(variational_information_loss, large, large, channels)
    rule = "be a finite number above 0"
    check_knob(attention_transfer_loss, MAPS[0], NARROW, "power", 1.5, (0, -1.0), rule)
    arrays, name = (MAPS[0], TWICE), "least_variance"
    check_knob(variational_information_loss, *arrays, name, 0.5, (0, float("nan")), rule)
