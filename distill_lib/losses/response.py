"""Response knowledge, the basis: hard labels, soft targets, and their mixture."""

from keras import ops

from distill_lib.losses._inputs import (
    at_label,
    divergence,
    logit_pair,
    or_nan,
    positive,
    share,
    softened,
)
from distill_lib.losses._inputs import (
    logits as checked,
)


def soft_targets(logits, temperature=1.0):
    """softmax(logits / T): one-hot towards T = 0, uniform towards infinity.

    Source: Hinton, Vinyals and Dean (2015), equation 1.
    """
    logits = checked("logits", logits)
    return ops.softmax(logits / positive("temperature", temperature, logits.dtype), axis=-1)


def hard_label_loss(*, labels, student_logits):
    """Cross-entropy with the true label, -log q[label] at T = 1."""
    return _label_losses(labels, student_logits)[0]


def smoothed_label_loss(*, labels, student_logits, smoothing=0.1):
    """Label smoothing, (1 - s) (-log q[label]) + s mean_i (-log q_i) at T = 1, s in [0, 1].

    A teacher who knows nothing: its gradient is that of :func:`mixed_loss` with equal teacher
    logits, T = 1 and ``soft_weight=s``. So it is the control for softness without knowledge.
    Source: Szegedy et al. (2016), section 7; Yuan et al. (2020) for the teacher.
    """
    hard, log_q = _label_losses(labels, student_logits)
    smoothing = share("smoothing", smoothing, log_q.dtype)
    return (1 - smoothing) * hard - smoothing * ops.mean(log_q, axis=-1)


def soft_target_loss(*, teacher_logits, student_logits, temperature=1.0):
    """Hinton's soft loss, T^2 KL(p || q) = T^2 sum_i p_i (log p_i - log q_i).

    Its gradient with respect to z is T (q - p). T^2 keeps that gradient's size comparable
    over temperatures; for T towards infinity it tends to the difference of the centred
    logits divided by N, and the loss to half its square summed over classes, times N. In
    float32 the value (not the gradient) loses digits beyond T of about 100, because T^2 then
    multiplies the rounding of a very small divergence.
    Source: Hinton, Vinyals and Dean (2015), section 2.
    """
    log_p, log_q, temperature = softened(teacher_logits, student_logits, temperature)
    return temperature * temperature * divergence(log_p, log_q)


def mixed_loss(*, labels, teacher_logits, student_logits, temperature=1.0, soft_weight=0.5):
    """Labels and teacher, (1 - a) hard_label_loss + a soft_target_loss, a in [0, 1].

    The temperature is the soft part's alone. Source: as :func:`soft_target_loss`.
    """
    hard = hard_label_loss(labels=labels, student_logits=student_logits)
    soft = soft_target_loss(
        teacher_logits=teacher_logits, student_logits=student_logits, temperature=temperature
    )
    soft_weight = share("soft_weight", soft_weight, soft.dtype)
    return (1 - soft_weight) * ops.cast(hard, soft.dtype) + soft_weight * soft


def logit_matching_loss(*, teacher_logits, student_logits):
    """Regression on the logits, 0.5 sum_i (z_i - v_i)^2; a single output will do.

    Source: Ba and Caruana (2014), equation 1.
    """
    teacher, student = logit_pair(teacher_logits, student_logits, least=1)
    return 0.5 * ops.sum(ops.square(student - teacher), axis=-1)


def _label_losses(labels, student_logits):
    """Cross-entropy with the label ``(...)`` and all log-probabilities ``(..., classes)``."""
    log_q = ops.log_softmax(checked("student_logits", student_logits), axis=-1)
    is_label = at_label(labels, log_q)
    return or_nan(is_label, -ops.sum(ops.where(is_label, log_q, 0.0), axis=-1)), log_q
