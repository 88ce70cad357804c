"""Other divergences between the two answers: what the student is punished for.

KL(p || q) punishes a student that leaves out what the teacher thinks possible, KL(q || p)
one that says what the teacher thinks impossible; the mixtures lie between. All have the
factor T^2 of :func:`~distill_lib.losses.soft_target_loss`, and serve tokens as well.
"""

from keras import ops

from distill_lib.losses._inputs import divergence, share, softened


def reverse_kl_loss(*, teacher_logits, student_logits, temperature=1.0):
    """The other direction, T^2 KL(q || p) = T^2 sum_i q_i (log q_i - log p_i).

    Source: Gu et al. (2024), section 2.1.
    """
    log_p, log_q, temperature = softened(teacher_logits, student_logits, temperature)
    return temperature * temperature * divergence(log_q, log_p)


def jensen_shannon_loss(*, teacher_logits, student_logits, beta=0.5, temperature=1.0):
    """T^2 (b KL(p || m) + (1 - b) KL(q || m)), m = b p + (1 - b) q, b strictly in (0, 1).

    It is bounded, for b = 1/2 by T^2 log 2. It vanishes at both ends: divided by b it tends to
    KL(p || q) for b towards 0, divided by 1 - b to KL(q || p) for b towards 1. A learning rate
    that suits one b therefore does not suit another.
    Source: Agarwal et al. (2024), equation 1.
    """
    log_p, log_q, temperature = softened(teacher_logits, student_logits, temperature)
    beta = share("beta", beta, log_p.dtype, ends=False)
    log_m = _log_mixture(log_p, log_q, beta)
    mixed = beta * divergence(log_p, log_m) + (1 - beta) * divergence(log_q, log_m)
    return temperature * temperature * mixed


def skew_kl_loss(*, teacher_logits, student_logits, skew=0.1, temperature=1.0):
    """Skew KL, T^2 KL(p || a p + (1 - a) q), a strictly in (0, 1).

    At most -T^2 log a, however wrong the student; towards a = 0 it is the soft target loss.
    Source: Ko et al. (2024), section 3.1.
    """
    log_p, log_q, temperature = softened(teacher_logits, student_logits, temperature)
    log_m = _log_mixture(log_p, log_q, share("skew", skew, log_p.dtype, ends=False))
    return temperature * temperature * divergence(log_p, log_m)


def _log_mixture(log_p, log_q, part):
    """log(a p + (1 - a) q)."""
    # Not Keras's logaddexp: where both terms are equal, its gradient in TensorFlow is wrong.
    terms = [ops.log(part) + log_p, ops.log1p(-part) + log_q]
    return ops.logsumexp(ops.stack(terms, axis=-1), axis=-1)
