"""Losses that do not ask for the teacher's very numbers: up to scale, up to correlation.

What differs by less than a millionth of its size counts as constant. It has neither, and no
gradient here: a student must not start with equal logits.
"""

from keras import ops

from distill_lib.losses._inputs import check_shape, logit_pair, scalar, soften, without_masked
from distill_lib.losses._safe import divergence, unit


def standardised_target_loss(*, teacher_logits, student_logits, temperature=2.0):
    """T^2 KL(p || q) of logits brought to mean 0 and deviation 1 over the classes.

    So offset and scale (above 0) are free. The deviation is the population's; that of the
    authors' code has N - 1 in it, which softens by root(N / (N - 1)) more.
    Source: Sun et al. (2024), section 4.
    """
    pair = logit_pair(teacher_logits, student_logits)
    standardised = [_direction(x, axis=-1) * x.shape[-1] ** 0.5 for x in pair]
    log_p, log_q, factor = soften(*standardised, temperature)
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
    """DIST, b (1 - correlation over the classes) + w (1 - correlation over the batch).

    The first is of p and q of one example, the second of two columns p_c and q_c, averaged
    over classes c: half the squared distance of centred unit vectors, so that each example is
    charged its own part, and the mean over examples is the paper's loss. A constant row or
    column costs 0 against another, else 1/2 (the paper: 1). The authors' code has a factor
    T^2, which a correlation does not need. Logits are ``(batch, classes)``.
    Source: Huang et al. (2022), section 3.
    """
    pair = logit_pair(teacher_logits, student_logits)
    check_shape("student_logits", pair[1], (None, None), "the shape (batch, classes)")
    *pair, kept = without_masked(mask, *pair)
    log_p, log_q, _ = soften(*pair, temperature)
    count = ops.sum(kept)
    p, q = (_fill(ops.exp(x), kept[:, None], ops.maximum(count, 1)) for x in (log_p, log_q))
    between, within = (ops.square(_direction(p, axis) - _direction(q, axis)) for axis in (1, 0))
    between = scalar("between_weight", between_weight, q.dtype) * ops.sum(between, axis=1)
    within = scalar("within_weight", within_weight, q.dtype) * count * ops.mean(within, axis=1)
    return 0.5 * kept * (between + within)


def _fill(rows, kept, count):
    """Put the mean of the kept rows in the place of the others: it changes no correlation."""
    return kept * rows + (1 - kept) * ops.sum(kept * rows, axis=0) / count


def _direction(values, axis):
    """Centred and of length 1 along the axis; 0 with slope 0 where constant."""
    fixed = ops.stop_gradient(values)
    low, high = (f(fixed, axis=axis, keepdims=True) for f in (ops.min, ops.max))
    varies = high - low > 1e-6 * ops.maximum(ops.abs(low), ops.abs(high))
    values = values - ops.mean(values, axis=axis, keepdims=True)
    # Divided by the range first, or squares of what is small underflow.
    return unit(ops.where(varies, values / ops.where(varies, high - low, 1.0), 0.0), axis)
