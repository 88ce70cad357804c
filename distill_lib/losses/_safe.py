"""Operations whose value and gradient stay right at the edges: at 0, and at log(0) = -inf.

The gradient of ``where(condition, f(x), 0)`` is nan where f has an infinite slope, because
0 * inf is nan. Hence the pattern of this file: first replace x where it must not count, then
apply f, then replace the result. Every condition is an equality, for it must be false for nan:
``x > 0`` would take nan for 0, and a broken network would look like a perfect one.
"""

from math import inf

from keras import ops


def divergence(log_p, log_q):
    """Return KL(p || q) over the last axis, in nats; a class with p = 0 adds nothing."""
    difference = ops.where(ops.equal(log_p, -inf), 0.0, log_p - log_q)  # not -inf, nor its nan
    return ops.sum(ops.exp(log_p) * difference, axis=-1)


def log_sum(log_values):
    """Return log(sum(exp(x))) over the last axis; -inf with slope 0 where all x are -inf."""
    nothing = ops.all(ops.equal(log_values, -inf), axis=-1)
    log_values = ops.where(nothing[..., None], 0.0, log_values)
    return ops.where(nothing, -inf, ops.logsumexp(log_values, axis=-1))


def root(squares):
    """Return the square root, with the slope 0 at 0, where it is infinite."""
    zero = ops.equal(squares, 0)
    return ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, squares)))


def unit(vectors, axis=-1):
    """Return vectors of length 1; those of length 0 stay 0, with a gradient of 0."""
    # The scale falls out, but squares of very large or small numbers would be inf or 0.
    size = ops.max(ops.abs(ops.stop_gradient(vectors)), axis=axis, keepdims=True)
    vectors = vectors / ops.where(ops.equal(size, 0), 1.0, size)
    length = root(ops.sum(ops.square(vectors), axis=axis, keepdims=True))
    return vectors / ops.where(ops.equal(length, 0), inf, length)
