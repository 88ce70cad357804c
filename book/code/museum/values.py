"""Losses with a wrong value. Each docstring says what the function is meant to be."""

import keras
from keras import ops


def pointwise_kl(log_q, p):
    """The terms p (log p - log q) of KL(p || q), from log q and p: the order of PyTorch."""
    return p * (ops.log(p) - log_q)


def raw_logits(*, teacher_logits, student_logits, temperature=1.0):
    """The divergence of the teacher's and the student's softened answers."""
    return keras.losses.kl_divergence(
        teacher_logits / temperature, student_logits / temperature
    )


def missing_log(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(p || q)."""
    p = ops.softmax(teacher_logits / temperature)
    q = ops.softmax(student_logits / temperature)
    return temperature**2 * ops.sum(pointwise_kl(q, p), axis=-1)


def mean_of_terms(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(p || q)."""
    p = ops.softmax(teacher_logits / temperature)
    log_q = ops.log_softmax(student_logits / temperature)
    return temperature**2 * ops.mean(pointwise_kl(log_q, p), axis=-1)


def without_square(*, teacher_logits, student_logits, temperature=1.0):
    """The soft part of the loss, at any temperature as strong as the hard part."""
    p = ops.softmax(teacher_logits / temperature)
    log_q = ops.log_softmax(student_logits / temperature)
    return ops.sum(pointwise_kl(log_q, p), axis=-1)


def idle_temperature(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(p || q)."""
    p, log_q = ops.softmax(teacher_logits), ops.log_softmax(student_logits)
    return temperature**2 * ops.sum(pointwise_kl(log_q, p), axis=-1)


def other_direction(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(p || q): punish a student that leaves out what the teacher thinks possible."""
    log_p = ops.log_softmax(teacher_logits / temperature)
    q = ops.softmax(student_logits / temperature)
    return temperature**2 * ops.sum(pointwise_kl(log_p, q), axis=-1)


def same_answer_twice(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(p || q)."""
    p = ops.softmax(teacher_logits / temperature)
    log_q = ops.log_softmax(teacher_logits / temperature)
    return temperature**2 * ops.sum(pointwise_kl(log_q, p), axis=-1)


def exchanged_beta(*, teacher_logits, student_logits, beta=0.5):
    """b KL(p || m) + (1 - b) KL(q || m) with m = b p + (1 - b) q."""
    p, q = ops.softmax(teacher_logits), ops.softmax(student_logits)
    log_m = ops.log((1 - beta) * p + beta * q)
    parts = ops.sum(pointwise_kl(log_m, p), -1), ops.sum(pointwise_kl(log_m, q), -1)
    return beta * parts[0] + (1 - beta) * parts[1]


def mixed_logarithms(*, teacher_logits, student_logits, beta=0.5):
    """b KL(p || m) + (1 - b) KL(q || m) with m = b p + (1 - b) q."""
    log_p, log_q = ops.log_softmax(teacher_logits), ops.log_softmax(student_logits)
    log_m = beta * log_p + (1 - beta) * log_q
    teacher_part = ops.sum(ops.exp(log_p) * (log_p - log_m), axis=-1)
    student_part = ops.sum(ops.exp(log_q) * (log_q - log_m), axis=-1)
    return beta * teacher_part + (1 - beta) * student_part


def jump_at_the_end(*, teacher_logits, student_logits, beta=0.5):
    """The family of losses between KL(p || q) at b = 0 and KL(q || p) at b = 1."""
    log_p, log_q = ops.log_softmax(teacher_logits), ops.log_softmax(student_logits)
    p, q = ops.exp(log_p), ops.exp(log_q)
    if beta == 0:
        return ops.sum(p * (log_p - log_q), axis=-1)
    if beta == 1:
        return ops.sum(q * (log_q - log_p), axis=-1)
    log_m = ops.log(beta * p + (1 - beta) * q)
    return ops.sum(beta * p * (log_p - log_m) + (1 - beta) * q * (log_q - log_m), axis=-1)
