"""Operations that give nan neither as a value nor as a slope."""

from keras import ops

EMPTY = -1e30  # the logarithm of nothing, but finite: 0 times minus infinity would be nan


def divergence(log_p, log_q):
    """KL(p || q) over the last axis."""
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def root(squared):
    """Square root with the slope 0 at 0, where it is infinite and times 0 would be nan."""
    return ops.where(squared > 0, ops.sqrt(ops.where(squared > 0, squared, 1.0)), 0.0)


def unit(vectors, axis=-1):
    """Vectors of length 1; those of length 0 stay 0, with a gradient of 0."""
    length = root(ops.sum(ops.square(vectors), axis=axis, keepdims=True))
    return vectors / ops.where(length > 0, length, float("inf"))
