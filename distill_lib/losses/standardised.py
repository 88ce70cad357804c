"""Losses that do not ask for the teacher's very numbers: only up to scale, or correlation.

Numbers that differ by less than a millionth of their size count as constant. A constant has
neither scale nor correlation, and no gradient here: a student must not start with equal logits.
"""

from keras import ops

from distill_lib.losses._checks import knob
from distill_lib.losses._inputs import (
    finite_teacher,
    is_kept,
    logit_pair,
    softened,
    without_masked,
)
from distill_lib.losses._safe import divergence, unit


def standardised_target_loss(*, teacher_logits, student_logits, temperature=2.0):
    """Return T^2 KL(p || q) of logits brought to mean 0 and deviation 1 over the classes.

    So the student is free in offset and scale (above 0). The deviation is the population's.
    That of the authors' code has N - 1 in it, which softens by root(N / (N - 1)) more. A
    teacher's logit of -inf is refused, for such logits have no deviation.
    Source: Sun et al. (2024), section 4.
    """
    teacher, student = logit_pair(teacher_logits, student_logits)
    root_of_classes = student.shape[-1] ** 0.5
    teacher = root_of_classes * _centred_unit(finite_teacher(teacher), axis=-1)
    student = root_of_classes * _centred_unit(student, axis=-1)
    log_p, log_q, factor = softened(teacher, student, temperature)
    return factor * divergence(log_p, log_q)


def correlation_loss(
    *,
    teacher_logits,
    student_logits,
    temperature=1.0,
    between_weight=1.0,
    within_weight=1.0,
    mask=None,
):
    """Return DIST, b (1 - correlation over classes) + w (1 - correlation over examples).

    The first correlation is that of p and q of one example. The second is that of the columns
    p_c and q_c of one class c, averaged over the classes. Both are computed as half the squared
    distance of centred unit vectors, so that each example is charged its own part, and the mean
    over examples is the paper's loss. A row or column that is constant on one side alone costs
    1/2 (in the paper 1), and 0 where it is so on both sides. The authors' code has a factor
    T^2, which a correlation does not need.

    Every leading index of the logits is an example, such as each token of a sequence, and all
    of them are compared with one another. ``mask`` has the leading axes, or the first of them.
    The weights b and w are any finite numbers.
    Source: Huang et al. (2022), section 3.
    """
    teacher, student = logit_pair(teacher_logits, student_logits)
    kept = is_kept(mask, student[..., 0])
    teacher, student = without_masked(teacher, kept), without_masked(student, kept)
    log_p, log_q, _ = softened(teacher, student, temperature)
    flat = (-1, ops.shape(log_q)[-1])
    p, q = ops.reshape(ops.exp(log_p), flat), ops.reshape(ops.exp(log_q), flat)
    between_weight = knob("between_weight", between_weight, q.dtype)
    within_weight = knob("within_weight", within_weight, q.dtype)
    weights = ops.cast(ops.reshape(kept, (-1,)), q.dtype)
    rows = _centred_unit(p, axis=1) - _centred_unit(q, axis=1)
    between = between_weight * ops.sum(ops.square(rows), axis=1)
    within = within_weight * _distance_within_columns(p, q, weights)
    return ops.reshape(0.5 * weights * (between + within), ops.shape(kept))


def _distance_within_columns(p, q, kept):
    """Return each example's part of |p_c - q_c|^2 for columns c, their mean over classes.

    It is times the number of kept examples, so that the mean over these is the distance.
    """
    p, q = _with_mean_where_masked(p, kept), _with_mean_where_masked(q, kept)
    difference = _centred_unit(p, axis=0) - _centred_unit(q, axis=0)
    return ops.sum(kept) * ops.mean(ops.square(difference), axis=1)


def _with_mean_where_masked(columns, kept):
    """Put the mean of the kept examples in the place of the masked: no correlation changes."""
    kept = kept[:, None]
    mean = ops.sum(kept * columns, axis=0) / ops.maximum(ops.sum(kept), 1)
    return kept * columns + (1 - kept) * mean


def _centred_unit(values, axis):
    """Return the values less their mean and of length 1 along the axis; 0 where constant."""
    fixed = ops.stop_gradient(values)
    low, high = ops.min(fixed, axis, keepdims=True), ops.max(fixed, axis, keepdims=True)
    # False for nan, which must not pass for a constant. Where all are 0, `unit` gives 0.
    constant = high - low < 1e-6 * ops.maximum(ops.abs(low), ops.abs(high))
    centred = values - ops.mean(values, axis=axis, keepdims=True)
    return unit(ops.where(constant, 0.0, centred), axis)
