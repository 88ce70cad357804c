"""Gradients of the response losses: their formula, their limit, and huge logits."""

import numpy as np
import pytest

from distill_lib.losses import (
    hard_label_loss,
    logit_matching_loss,
    mixed_loss,
    soft_target_loss,
)

TEACHER = np.array([[2.0, 1.0, -1.0], [0.0, 3.0, 0.5]])
STUDENT = np.array([[1.0, 1.5, 0.0], [-1.0, 1.0, 2.0]])
LABELS = np.array([0, 2])


def softmax(row, temperature):
    powers = [np.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def soft(teacher, student, temperature):
    return soft_target_loss(
        teacher_logits=teacher, student_logits=student, temperature=temperature
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_is_temperature_times_the_difference_of_probabilities(gradient, temperature):
    found = gradient(lambda z: soft(TEACHER, z, temperature), STUDENT)
    p = np.array([softmax(row, temperature) for row in TEACHER])
    q = np.array([softmax(row, temperature) for row in STUDENT])
    np.testing.assert_allclose(found, temperature**2 * (q - p) / temperature, atol=1e-12)


def test_temperature_squared_keeps_the_size_of_the_gradient(gradient):
    def size(temperature, power):
        slope = gradient(lambda z: soft(TEACHER, z, temperature), STUDENT)
        return np.linalg.norm(slope) * temperature ** (power - 2)

    assert 0.5 < size(16.0, power=2) / size(1.0, power=2) < 2
    assert size(16.0, power=0) / size(1.0, power=0) < 1 / 100


def test_hot_limit_is_matching_of_centred_logits(gradient):
    teacher = TEACHER - TEACHER.mean(axis=-1, keepdims=True)
    student = STUDENT - STUDENT.mean(axis=-1, keepdims=True)
    limit = logit_matching_loss(teacher_logits=teacher, student_logits=student) / 3
    errors = [np.abs(soft(TEACHER, STUDENT, t) - limit).max() for t in (1e2, 1e3, 1e4)]
    np.testing.assert_allclose(errors[0] / errors[1], 10, rtol=0.1)  # the error falls as 1/T
    assert errors[2] < 1e-3
    slope = gradient(lambda z: soft(TEACHER, z, 1e5), STUDENT)
    np.testing.assert_allclose(slope, (student - teacher) / 3, atol=1e-4)


LOSSES = {
    "hard": lambda z: hard_label_loss(labels=LABELS, student_logits=z),
    "soft": lambda z: soft(TEACHER, z, 2.5),
    "mixed": lambda z: mixed_loss(
        labels=LABELS, teacher_logits=TEACHER, student_logits=z, soft_weight=0.4
    ),
    "matching": lambda z: logit_matching_loss(teacher_logits=TEACHER, student_logits=z),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_finite_differences(gradient, name):
    loss, step = LOSSES[name], 1e-5
    numeric = np.zeros_like(STUDENT)
    for index in np.ndindex(STUDENT.shape):
        ahead, behind = STUDENT.copy(), STUDENT.copy()
        ahead[index] += step
        behind[index] -= step
        numeric[index] = np.sum(np.asarray(loss(ahead)) - np.asarray(loss(behind)))
    np.testing.assert_allclose(gradient(loss, STUDENT), numeric / (2 * step), atol=1e-8)


def test_no_gradient_where_the_student_equals_the_teacher(gradient):
    for loss in (LOSSES["soft"], LOSSES["matching"]):
        np.testing.assert_allclose(gradient(loss, TEACHER), 0.0, atol=1e-15)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_huge_logits_give_finite_losses_and_gradients(gradient, dtype, temperature):
    teacher = np.array([[1e4, -1e4, 0], [-1e4, 0, 1e4]], dtype)
    student = np.array([[-1e4, 1e4, 0], [1e4, 0, -1e4]], dtype)
    arguments = {"teacher_logits": teacher, "temperature": temperature, "labels": LABELS}
    loss = mixed_loss(student_logits=student, **arguments)
    np.testing.assert_allclose(loss, 1e4 + 1e4 * temperature, rtol=1e-3)
    slope = gradient(lambda z: mixed_loss(student_logits=z, **arguments), student)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0.4  # Keras's clipped divergence gives 0 here
    matching = logit_matching_loss(teacher_logits=teacher, student_logits=student)
    np.testing.assert_allclose(matching, [4e8, 4e8])


def test_label_outside_the_classes_gives_nan_for_that_example_only(gradient):
    def loss(z):
        return hard_label_loss(labels=np.array([-1, 1]), student_logits=z)

    np.testing.assert_array_equal(np.isnan(loss(STUDENT)), [True, False])
    assert np.isnan(hard_label_loss(labels=np.array([0, 3]), student_logits=STUDENT)[1])
    assert np.isfinite(gradient(loss, STUDENT)).all()
