"""Decoupled knowledge distillation: the target class and the others, weighed apart."""

from keras import ops

from distill_lib.losses._inputs import at_label, scalar, soften
from distill_lib.losses._safe import EMPTY, divergence


def decoupled_parts(*, labels, teacher_logits, student_logits, temperature=1.0):
    """Split KL(p || q) exactly: KL = target part + (1 - p[label]) * non-target part.

    The target part compares p[label] and 1 - p[label] with the student's two numbers; the
    non-target part compares the other classes among themselves, each side renormalised. With
    two classes it is 0. Returns target part, non-target part (without T^2), p[label].
    Source: Zhao et al. (2022), equation 7.
    """
    return _parts(labels, teacher_logits, student_logits, temperature)[:3]


def decoupled_loss(
    *,
    labels,
    teacher_logits,
    student_logits,
    target_weight=1.0,
    non_target_weight=8.0,
    temperature=4.0,
):
    """DKD, T^2 (a target part + b non-target part) of :func:`decoupled_parts`, any a and b.

    Plain distillation has a = 1 and b = 1 - p[label]: a sure teacher's knowledge about the
    other classes hardly counts. Here b is the same for all examples.
    Source: Zhao et al. (2022), equation 8; b = 8 and T = 4 are its usual values for CIFAR-100.
    """
    target, non_target, _, factor = _parts(labels, teacher_logits, student_logits, temperature)
    target = scalar("target_weight", target_weight, target.dtype) * target
    non_target = scalar("non_target_weight", non_target_weight, target.dtype) * non_target
    return factor * (target + non_target)


def _parts(labels, teacher_logits, student_logits, temperature):
    """The target part, the non-target part, p[label] and T^2."""
    log_p, log_q, factor = soften(teacher_logits, student_logits, temperature)
    (target_p, others_p), (target_q, others_q) = (_split(x, labels) for x in (log_p, log_q))
    parts = divergence(target_p, target_q), divergence(others_p, others_q)
    return *parts, ops.exp(target_p[..., 0]), factor


def _split(log_p, labels):
    """log p of (label, any other) ``(..., 2)``; log p of each other, given not the label."""
    label, is_label = at_label(labels, log_p)
    others = ops.where(is_label, EMPTY, log_p)
    rest = ops.logsumexp(others, axis=-1)
    given = ops.where(is_label, EMPTY, log_p - rest[..., None])
    return ops.stack([label, rest], axis=-1), given
