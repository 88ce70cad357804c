"""Decoupled knowledge distillation: the target class and the other classes, weighed apart."""

from math import inf

from keras import ops

from distill_lib.losses._checks import knob
from distill_lib.losses._inputs import one_hot, picked, softened
from distill_lib.losses._safe import divergence, log_sum


def decoupled_parts(*, labels, teacher_logits, student_logits, temperature=1.0):
    """Split KL(p || q) exactly into target part + (1 - p[label]) * non-target part.

    The target part compares the two numbers p[label] and 1 - p[label] with the student's. The
    non-target part compares the other classes among themselves, after each side is divided by
    its sum over them. It is 0 for two classes, and where the teacher rules every other class
    out. Returns the target part, the non-target part (both without the factor T^2) and
    p[label], each ``(...)``.
    Source: Zhao et al. (2022), equation 7.
    """
    log_p, log_q, _ = softened(teacher_logits, student_logits, temperature)
    is_label = one_hot("labels", labels, log_p)
    target_p, others_p = _split(log_p, is_label)
    target_q, others_q = _split(log_q, is_label)
    p_label = ops.exp(target_p[..., 0])
    return divergence(target_p, target_q), divergence(others_p, others_q), p_label


def decoupled_loss(
    *,
    labels,
    teacher_logits,
    student_logits,
    target_weight=1.0,
    non_target_weight=8.0,
    temperature=4.0,
):
    """Return DKD, T^2 (a target part + b non-target part), see :func:`decoupled_parts`.

    The weights a and b are any finite numbers. Plain distillation has a = 1 and
    b = 1 - p[label], by which the knowledge of a sure teacher about the other classes hardly
    counts. Here b is the same for all examples.
    Source: Zhao et al. (2022), equation 8; b = 8 and T = 4 are its usual values for CIFAR-100.
    """
    target, non_target, _ = decoupled_parts(
        labels=labels,
        teacher_logits=teacher_logits,
        student_logits=student_logits,
        temperature=temperature,
    )
    target = knob("target_weight", target_weight, target.dtype) * target
    non_target = knob("non_target_weight", non_target_weight, target.dtype) * non_target
    return knob("temperature", temperature, target.dtype) ** 2 * (target + non_target)


def _split(log_p, is_label):
    """Return the logarithms of two distributions.

    The first is that of (the label, any other class), ``(..., 2)``. The second is that of the
    other classes, given that it is not the label, ``(..., classes)`` with -inf at the label.
    """
    log_others = ops.where(is_label, -inf, log_p)
    log_any_other = log_sum(log_others)
    target = ops.stack([picked(log_p, is_label), log_any_other], axis=-1)
    never = ops.equal(log_others, -inf)
    log_given = ops.where(never, -inf, log_others - log_any_other[..., None])
    return target, log_given
