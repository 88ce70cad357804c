"""Limits, identities and gradients of the response losses; huge logits."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_checks import call, few, gradient_of

from distill_lib.losses import (
    jensen_shannon_loss,
    logit_matching_loss,
    mixed_loss,
    reverse_kl_loss,
    skew_kl_loss,
    soft_target_loss,
    soft_targets,
)

TEACHER = np.array([[2.0, 1.0, -1.0], [0.0, 3.0, 0.5]])
STUDENT = np.array([[1.0, 1.5, 0.0], [-1.0, 1.0, 2.0]])
LABELS = np.array([0, 2])
PAIRS = hnp.arrays("float64", (2, 3, 4), elements=st.floats(-20, 20))
INSIDE = st.floats(0.01, 0.99)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
soft, reverse = partial(call, soft_target_loss), partial(call, reverse_kl_loss)
shannon, skewed = partial(call, jensen_shannon_loss), partial(call, skew_kl_loss)


def centred(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_is_temperature_times_the_difference_of_probabilities(temperature):
    found = gradient_of(lambda z: soft(TEACHER, z, temperature=temperature), STUDENT)
    p, q = (np.asarray(soft_targets(x, temperature)) for x in (TEACHER, STUDENT))
    np.testing.assert_allclose(found, temperature * (q - p), atol=1e-12)


def test_temperature_squared_keeps_the_size_of_the_gradient():
    def size(temperature, power):
        slope = gradient_of(lambda z: soft(TEACHER, z, temperature=temperature), STUDENT)
        return np.linalg.norm(slope) * temperature ** (power - 2)

    assert 0.5 < size(16.0, power=2) / size(1.0, power=2) < 2
    assert size(16.0, power=0) / size(1.0, power=0) < 1 / 100


@pytest.mark.parametrize("loss", [soft, reverse])
def test_hot_limit_is_matching_of_centred_logits(loss):
    teacher, student = centred(TEACHER), centred(STUDENT)
    limit = logit_matching_loss(teacher_logits=teacher, student_logits=student) / 3
    errors = [
        np.abs(loss(TEACHER, STUDENT, temperature=t) - limit).max() for t in (1e2, 1e3, 1e4)
    ]
    np.testing.assert_allclose(errors[0] / errors[1], 10, rtol=0.1)  # the error falls as 1/T
    assert errors[2] < 1e-3
    slope = gradient_of(lambda z: loss(TEACHER, z, temperature=1e5), STUDENT)
    np.testing.assert_allclose(slope, (student - teacher) / 3, atol=1e-4)


def test_cold_limit_knows_the_teachers_first_choice_alone():
    """T KL tends to the student's logit lead over that class; T^2 KL to 0 with it."""
    best = np.take_along_axis(STUDENT, TEACHER.argmax(1)[:, None], 1)[:, 0]
    found = soft(TEACHER, STUDENT, temperature=0.01) / 0.01
    np.testing.assert_allclose(found, STUDENT.max(1) - best, atol=1e-9)


def test_reverse_by_hand():
    """(1/2, 1/2) against the student's (0.9, 0.1)."""
    teacher, student = np.zeros((1, 2)), np.log([[0.9, 0.1]])
    found = reverse(teacher, student)
    np.testing.assert_allclose(found, [0.9 * np.log(1.8) + 0.1 * np.log(0.2)], rtol=1e-12)


@few
@given(PAIRS, st.floats(0.5, 20))
def test_reverse_is_the_soft_loss_of_swapped_sides(pair, temperature):
    found = reverse(*pair, temperature=temperature)
    expected = soft(*pair[::-1], temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_shannon_and_skew_by_hand():
    """(0.9, 0.1) against (0.1, 0.9)."""
    teacher, student = np.log([[0.9, 0.1]]), np.log([[0.1, 0.9]])
    entropy = -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    np.testing.assert_allclose(shannon(teacher, student), np.log(2) - entropy, rtol=1e-12)
    mixture = np.array([0.25 * 0.9 + 0.75 * 0.1, 0.25 * 0.1 + 0.75 * 0.9])
    mixed = -np.sum(mixture * np.log(mixture)) - entropy
    np.testing.assert_allclose(shannon(teacher, student, beta=0.25), mixed, rtol=1e-12)
    by_hand = 0.9 * np.log(0.9 / 0.18) + 0.1 * np.log(0.1 / 0.82)  # a = 0.1
    np.testing.assert_allclose(skewed(teacher, student), by_hand, rtol=1e-12)


@few
@given(PAIRS, INSIDE, st.floats(0.5, 20))
def test_shannon_is_made_of_skew_divergences_and_bounded(pair, beta, temperature):
    found = shannon(*pair, beta=beta, temperature=temperature)
    hot = {"temperature": temperature}
    ahead = skewed(*pair, skew=beta, **hot)
    back = skewed(*pair[::-1], skew=1 - beta, **hot)
    np.testing.assert_allclose(found, beta * ahead + (1 - beta) * back, **CLOSE)
    swapped = shannon(*pair[::-1], beta=1 - beta, temperature=temperature)
    np.testing.assert_allclose(found, swapped, **CLOSE)
    bound = -beta * np.log(beta) - (1 - beta) * np.log(1 - beta)
    assert np.max(found) <= temperature**2 * bound + 1e-9
    assert np.max(ahead) <= -(temperature**2) * np.log(beta) + 1e-9
    assert np.min(found) >= -1e-11
    assert np.min(ahead) >= -1e-11


def test_the_bounds_are_reached():
    far = np.array([[1e4, 0.0]]), np.array([[0.0, 1e4]])
    np.testing.assert_allclose(skewed(*far), -np.log(0.1), rtol=1e-9)
    np.testing.assert_allclose(shannon(*far, temperature=3.0), 9 * np.log(2), rtol=1e-9)


def test_ends_of_the_mixtures():
    """Divided by b, or by 1 - b, the two directions; the errors fall with the step."""
    limits = soft(TEACHER, STUDENT), reverse(TEACHER, STUDENT)
    errors = []
    for step in (1e-2, 1e-3, 1e-4):
        found = [shannon(TEACHER, STUDENT, beta=beta) / step for beta in (step, 1 - step)]
        errors.append(np.max(np.abs(np.subtract(found, limits)), axis=1))
    np.testing.assert_allclose(errors[1] / errors[2], 10, rtol=0.05)
    assert np.max(errors[2]) < 1e-3
    errors = [np.max(limits[0] - skewed(TEACHER, STUDENT, skew=a)) for a in (1e-3, 1e-4)]
    np.testing.assert_allclose(errors[0] / errors[1], 10, rtol=0.05)
    assert 0 < errors[1] < 1e-3


@few
@given(hnp.arrays("float64", (3, 2, 4), elements=st.floats(-8, 8)), INSIDE)
def test_several_teachers_are_one_mean_teacher(logits, share):
    """Arithmetic mean of the probabilities for KL(p || q), geometric mean for KL(q || p)."""
    first, second, student = logits
    weights = (share, 1 - share)
    p = [np.asarray(soft_targets(x)) for x in (first, second)]
    arithmetic = np.log(sum(w * x for w, x in zip(weights, p, strict=True)))
    geometric = sum(w * np.log(x) for w, x in zip(weights, p, strict=True))
    for loss, mean in ((soft, arithmetic), (reverse, geometric)):

        def gap(student, loss=loss, mean=mean):
            pairs = zip(weights, (first, second), strict=True)
            several = sum(w * loss(teacher, student) for w, teacher in pairs)
            return several - loss(mean, student)

        np.testing.assert_allclose(gap(student), gap(-0.3 * student), atol=1e-9)
        np.testing.assert_allclose(gradient_of(gap, student), 0.0, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_huge_logits_give_finite_losses_and_gradients(dtype, temperature):
    teacher = np.array([[1e4, -1e4, 0], [-1e4, 0, 1e4]], dtype)
    student = np.array([[-1e4, 1e4, 0], [1e4, 0, -1e4]], dtype)
    knobs = {"temperature": temperature, "labels": LABELS}
    loss = call(mixed_loss, teacher, student, **knobs)
    np.testing.assert_allclose(loss, 1e4 + 1e4 * temperature, rtol=1e-3)
    slope = gradient_of(lambda z: call(mixed_loss, teacher, z, **knobs), student)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0.4
    # T (q - p) of the soft part alone: Keras's clipped divergence gives 0 here.
    slope = gradient_of(lambda z: soft(teacher, z, temperature=temperature), student)
    np.testing.assert_allclose(np.abs(slope).max(), temperature, rtol=1e-3)
    matching = logit_matching_loss(teacher_logits=teacher, student_logits=student)
    np.testing.assert_allclose(matching, [4e8, 4e8])
