"""Probes of the value and the gradient of a loss."""

import keras
import numpy as np

from .pieces import (
    CLASSES,
    ROWS,
    Finding,
    divergence,
    evaluated,
    examples,
    network,
    numbers,
    softmax,
    table_gradient,
    table_loss,
)

T = 3.0  # Keras's default temperature
TEACHER = numbers(ROWS, CLASSES, seed=1, scale=5.0)  # surer than its student, so that the
STUDENT = numbers(ROWS, CLASSES, seed=2, scale=2.0)  # divergence depends on the direction


def divergence_value(candidate):
    """The loss on logits is T² KL(p‖q): loss over the value by hand."""
    loss = table_loss(candidate, candidate.logits(T), TEACHER, STUDENT)
    return Finding(loss / divergence(TEACHER, STUDENT, T), 1)


def divergence_gradient(candidate):
    """Its gradient is T(q − p): cosine of the angle between the two."""
    found = table_gradient(candidate, candidate.logits(T), TEACHER, STUDENT)
    wanted = T * (softmax(STUDENT / T) - softmax(TEACHER / T))
    size = np.linalg.norm(found) * np.linalg.norm(wanted)
    return Finding(float((found * wanted).sum() / size), 1)


def shifted_logits(candidate):
    """Logits that differ by a constant are the same answer: their loss is zero."""
    shift = numbers(ROWS, 1, seed=3, scale=3.0)
    return Finding(table_loss(candidate, candidate.logits(T), TEACHER, TEACHER + shift), 0)


def far_apart(candidate):
    """A confident wrong student is corrected: the gradient at z = (50, 0), v = (0, 50)."""
    v, z = np.array([[0, 50]], "float32"), np.array([[50, 0]], "float32")
    return Finding(float(table_gradient(candidate, candidate.logits(1.0), v, z)[0, 0]), 1)


def divergence_instance(candidate):
    """Keras's loss with `loss=KLDivergence()` is T² KL(p‖q): loss over the value by hand."""
    instance = keras.losses.KLDivergence()
    loss = keras.distillation.LogitsDistillation(temperature=T, loss=instance)
    values = loss.compute_loss(TEACHER, STUDENT)
    return Finding(float(values) / divergence(TEACHER, STUDENT, T), 1)


def cross_entropy(candidate):
    """Soft cross-entropy takes the teacher's probabilities: loss over the value by hand."""
    if candidate.cross_entropy is None:
        return None
    loss = table_loss(candidate, candidate.cross_entropy(1.0), TEACHER, STUDENT)
    log_q = np.log(softmax(STUDENT))
    return Finding(loss / -(softmax(TEACHER) * log_q).sum(axis=1).mean(), 1)


def label_loss(candidate):
    """The label loss suits a student that returns logits: loss over the value by hand."""
    x, y = examples()
    student = network(seed=1)
    options = {"label_share": 1.0}
    loss = evaluated(candidate, network(), student, candidate.logits(T), x, y, **options)
    q = softmax(keras.ops.convert_to_numpy(student(x)))
    return Finding(loss / -np.log(q[np.arange(ROWS), y]).mean(), 1)


PROBES = (
    divergence_value,
    divergence_gradient,
    shifted_logits,
    far_apart,
    divergence_instance,
    cross_entropy,
    label_loss,
)
