"""Response knowledge: the answers, one by one.

KL(p || q) punishes a student that leaves out what the teacher thinks possible, KL(q || p)
one that says what the teacher thinks impossible; the mixtures lie between. The losses that
soften have the factor T^2 of :func:`soft_target_loss`. All but the labels' serve tokens too.
"""

from keras import ops

from distill_lib.losses._inputs import as_logits, at_label, logit_pair, positive, share, soften
from distill_lib.losses._safe import divergence


def soft_targets(logits, temperature=1.0):
    """softmax(logits / T): one-hot towards T = 0, then uniform (Hinton et al., 2015, eq. 1)."""
    logits = as_logits("logits", logits)
    return ops.softmax(logits / positive("temperature", temperature, logits.dtype), axis=-1)


def hard_label_loss(*, labels, student_logits):
    """Cross-entropy with the true label, -log q[label] at T = 1."""
    log_q = ops.log_softmax(as_logits("student_logits", student_logits), axis=-1)
    return -at_label(labels, log_q)[0]


def smoothed_label_loss(*, labels, student_logits, smoothing=0.1):
    """Label smoothing, (1 - s) (-log q[label]) + s mean_i (-log q_i) at T = 1, s in [0, 1].

    A teacher who knows nothing: its gradient is that of :func:`mixed_loss` with equal teacher
    logits, T = 1 and ``soft_weight=s``. So it is the control for softness without knowledge.
    Source: Szegedy et al. (2016), section 7; Yuan et al. (2020) for the teacher.
    """
    log_q = ops.log_softmax(as_logits("student_logits", student_logits), axis=-1)
    smoothing = share("smoothing", smoothing, log_q.dtype)
    return (smoothing - 1) * at_label(labels, log_q)[0] - smoothing * ops.mean(log_q, axis=-1)


def soft_target_loss(*, teacher_logits, student_logits, temperature=1.0):
    """Hinton's soft loss, T^2 KL(p || q) = T^2 sum_i p_i (log p_i - log q_i).

    Its gradient with respect to z is T (q - p). T^2 keeps that gradient's size comparable
    over temperatures; for T towards infinity it tends to the difference of the centred
    logits divided by N, and the loss to half its square summed over classes, times N. From T
    of about 100 on, T^2 magnifies the rounding of a float32 value (not of the gradient).
    Source: Hinton, Vinyals and Dean (2015), section 2.
    """
    log_p, log_q, factor = soften(teacher_logits, student_logits, temperature)
    return factor * divergence(log_p, log_q)


def mixed_loss(*, labels, teacher_logits, student_logits, temperature=1.0, soft_weight=0.5):
    """(1 - a) hard_label_loss + a soft_target_loss, a in [0, 1]; T is the soft part's alone."""
    hard = hard_label_loss(labels=labels, student_logits=student_logits)
    soft = soft_target_loss(
        teacher_logits=teacher_logits, student_logits=student_logits, temperature=temperature
    )
    soft_weight = share("soft_weight", soft_weight, soft.dtype)
    return (1 - soft_weight) * ops.cast(hard, soft.dtype) + soft_weight * soft


def logit_matching_loss(*, teacher_logits, student_logits):
    """0.5 sum_i (z_i - v_i)^2, of one class or more (Ba and Caruana, 2014, eq. 1)."""
    teacher, student = logit_pair(teacher_logits, student_logits, least=1)
    return 0.5 * ops.sum(ops.square(student - teacher), axis=-1)


def reverse_kl_loss(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(q || p) = T^2 sum_i q_i (log q_i - log p_i) (Gu et al., 2024, sec. 2.1)."""
    log_p, log_q, factor = soften(teacher_logits, student_logits, temperature)
    return factor * divergence(log_q, log_p)


def jensen_shannon_loss(*, teacher_logits, student_logits, beta=0.5, temperature=1.0):
    """T^2 (b KL(p || m) + (1 - b) KL(q || m)), m = b p + (1 - b) q, b strictly in (0, 1).

    Bounded, for b = 1/2 by T^2 log 2. It vanishes at both ends, as b KL(p || q) towards 0 and
    (1 - b) KL(q || p) towards 1: a learning rate that suits one b does not suit another.
    Source: Agarwal et al. (2024), equation 1.
    """
    log_p, log_q, factor = soften(teacher_logits, student_logits, temperature)
    beta = share("beta", beta, log_p.dtype, ends=False)
    log_m = _log_mixture(log_p, log_q, beta)
    return factor * (beta * divergence(log_p, log_m) + (1 - beta) * divergence(log_q, log_m))


def skew_kl_loss(*, teacher_logits, student_logits, skew=0.1, temperature=1.0):
    """Skew KL, T^2 KL(p || a p + (1 - a) q), a strictly in (0, 1).

    At most -T^2 log a, however wrong the student; towards a = 0 it is the soft target loss.
    Source: Ko et al. (2024), section 3.1.
    """
    log_p, log_q, factor = soften(teacher_logits, student_logits, temperature)
    skew = share("skew", skew, log_p.dtype, ends=False)
    return factor * divergence(log_p, _log_mixture(log_p, log_q, skew))


def _log_mixture(log_p, log_q, part):
    """log(a p + (1 - a) q)."""
    # Not Keras's logaddexp: where both terms are equal, its gradient in TensorFlow is wrong.
    terms = [ops.log(part) + log_p, ops.log1p(-part) + log_q]
    return ops.logsumexp(ops.stack(terms, axis=-1), axis=-1)
