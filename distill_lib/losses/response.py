"""Response knowledge: the teacher's answers, one example at a time.

KL(p || q) punishes a student that leaves out what the teacher thinks possible. KL(q || p)
punishes one that says what the teacher thinks impossible. The mixtures lie between the two.
Every loss with a temperature T has the factor T^2, which :func:`soft_target_loss` explains.
Each token of a sequence, and each pixel of a map, may be an example.
"""

from math import inf

from keras import ops

from distill_lib.losses._checks import knob, require
from distill_lib.losses._inputs import (
    as_logits,
    finite_teacher,
    logit_pair,
    one_hot,
    picked,
    softened,
)
from distill_lib.losses._safe import divergence, log_sum


def soft_targets(logits, temperature=1.0):
    """Return the probabilities softmax(logits / T), of the shape of the logits.

    They tend to one-hot for T towards 0, and to uniform ones for T towards infinity.
    Source: Hinton, Vinyals and Dean (2015), equation 1.
    """
    logits = as_logits("logits", logits)
    temperature = knob("temperature", temperature, logits.dtype)
    return ops.softmax(logits / temperature, axis=-1)


def hard_label_loss(*, labels, student_logits):
    """Return the cross-entropy with the true label, -log q[label] at T = 1."""
    log_q = ops.log_softmax(as_logits("student_logits", student_logits), axis=-1)
    return -picked(log_q, one_hot("labels", labels, log_q))


def smoothed_label_loss(*, labels, student_logits, smoothing=0.1):
    """Return the cross-entropy with a smoothed label, for a smoothing s in [0, 1].

    It is (1 - s) (-log q[label]) + s mean_i (-log q_i) at T = 1. The gradient is that of
    :func:`mixed_loss` with equal teacher logits, T = 1 and ``soft_weight=s``: of a teacher who
    knows nothing. So the loss is the control for softness without knowledge.
    Source: Szegedy et al. (2016), section 7; Yuan et al. (2020) for the teacher.
    """
    log_q = ops.log_softmax(as_logits("student_logits", student_logits), axis=-1)
    smoothing = knob("smoothing", smoothing, log_q.dtype)
    log_q_label = picked(log_q, one_hot("labels", labels, log_q))
    return (smoothing - 1) * log_q_label - smoothing * ops.mean(log_q, axis=-1)


def soft_target_loss(*, teacher_logits, student_logits, temperature=1.0):
    """Return Hinton's soft loss, T^2 KL(p || q) = T^2 sum_i p_i (log p_i - log q_i).

    Its gradient with respect to z is T (q - p). The factor T^2 keeps the size of that gradient
    comparable over temperatures. For T towards infinity the gradient tends to the difference
    of the centred logits divided by N, and the loss to half the square of that difference,
    summed over the classes and divided by N. From T of about 100 on, T^2 magnifies the
    rounding of a float32 value, though not that of the gradient.
    Source: Hinton, Vinyals and Dean (2015), section 2.
    """
    log_p, log_q, factor = softened(teacher_logits, student_logits, temperature)
    return factor * divergence(log_p, log_q)


def mixed_loss(*, labels, teacher_logits, student_logits, temperature=1.0, soft_weight=0.5):
    """Return (1 - a) :func:`hard_label_loss` + a :func:`soft_target_loss`, for a in [0, 1].

    The weight a is ``soft_weight``. Only the soft part has a temperature.
    """
    hard = hard_label_loss(labels=labels, student_logits=student_logits)
    soft = soft_target_loss(
        teacher_logits=teacher_logits, student_logits=student_logits, temperature=temperature
    )
    soft_weight = knob("soft_weight", soft_weight, soft.dtype)
    return (1 - soft_weight) * ops.cast(hard, soft.dtype) + soft_weight * soft


def logit_matching_loss(*, teacher_logits, student_logits):
    """Return half the squared distance of the logits, 0.5 sum_i (z_i - v_i)^2.

    One output is enough, so the loss also serves regression. A teacher's logit of -inf is
    refused, for no student is at a finite distance from it.
    Source: Ba and Caruana (2014), equation 1.
    """
    teacher, student = logit_pair(teacher_logits, student_logits, least=1)
    return 0.5 * ops.sum(ops.square(student - finite_teacher(teacher)), axis=-1)


def reverse_kl_loss(*, teacher_logits, student_logits, temperature=1.0):
    """Return the reverse divergence, T^2 KL(q || p) = T^2 sum_i q_i (log q_i - log p_i).

    A teacher that rules a class out (a logit of -inf) that the student does not is refused, for
    the loss would be infinite. :func:`jensen_shannon_loss` is finite there.
    Source: Gu et al. (2024), section 2.1.
    """
    log_p, log_q, factor = softened(teacher_logits, student_logits, temperature)
    finite = ops.logical_or(ops.not_equal(log_p, -inf), ops.equal(log_q, -inf))
    rule = "allow every class that student_logits allow, or else KL(q || p) is infinite"
    return factor * divergence(log_q, require("teacher_logits", log_p, finite, rule))


def jensen_shannon_loss(*, teacher_logits, student_logits, beta=0.5, temperature=1.0):
    """Return T^2 (b KL(p || m) + (1 - b) KL(q || m)) with the mixture m = b p + (1 - b) q.

    The share b of the teacher is ``beta``, strictly between 0 and 1. The loss is bounded, for
    b = 1/2 by T^2 log 2. It vanishes at both ends, as b KL(p || q) for b towards 0 and as
    (1 - b) KL(q || p) for b towards 1: a learning rate that suits one b does not suit another.
    Source: Agarwal et al. (2024), equation 1.
    """
    log_p, log_q, factor = softened(teacher_logits, student_logits, temperature)
    beta = knob("beta", beta, log_p.dtype)
    log_m = _log_mixture(log_p, log_q, beta)
    return factor * (beta * divergence(log_p, log_m) + (1 - beta) * divergence(log_q, log_m))


def skew_kl_loss(*, teacher_logits, student_logits, skew=0.1, temperature=1.0):
    """Return the skewed divergence T^2 KL(p || a p + (1 - a) q).

    The share a is ``skew``, strictly between 0 and 1. The loss is at most -T^2 log a, however
    wrong the student is. For a towards 0 it tends to :func:`soft_target_loss`.
    Source: Ko et al. (2024), section 3.1.
    """
    log_p, log_q, factor = softened(teacher_logits, student_logits, temperature)
    skew = knob("skew", skew, log_p.dtype)
    return factor * divergence(log_p, _log_mixture(log_p, log_q, skew))


def _log_mixture(log_p, log_q, share_of_p):
    """Return log(a p + (1 - a) q) for the share a of p."""
    # Not Keras's logaddexp: where both terms are equal, its gradient in TensorFlow is wrong.
    terms = [ops.log(share_of_p) + log_p, ops.log1p(-share_of_p) + log_q]
    return log_sum(ops.stack(terms, axis=-1))
