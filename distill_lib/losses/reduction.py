"""From one loss for each example to the number that is minimised."""

from keras import ops

from distill_lib.losses._inputs import as_floats


def weighted_mean(values, sample_weight=None, mask=None):
    """Weighted mean by Keras's rule ``sum_over_batch_size``: sum(w m v) / sum(m).

    The weights do not enter the divisor: doubling all of them doubles the result, as in
    ``fit``. Masked entries count nowhere, whatever they hold, ``nan`` included. A scalar, 0
    where nothing counts.

    Args:
        values: losses of any shape, for example ``(batch,)`` or ``(batch, steps)``.
        sample_weight, mask: numbers, and booleans (true counts), of that shape or of its
            leading axes: ``(batch,)`` weighs whole sequences.
    """
    (values,) = as_floats(values)
    weighted, counted = values, ops.ones_like(values)
    if sample_weight is not None:
        weighted = values * _align("sample_weight", sample_weight, values)
    if mask is not None:
        kept = _align("mask", mask, values) != 0
        weighted, counted = ops.where(kept, weighted, 0.0), ops.where(kept, counted, 0.0)
    return ops.divide_no_nan(ops.sum(weighted), ops.sum(counted))


def _align(name, array, values):
    """Give ``array`` trailing axes of size 1 until it broadcasts along whole examples."""
    array = ops.cast(ops.convert_to_tensor(array), values.dtype)
    shape, full = tuple(array.shape), tuple(values.shape)
    # `zip` may stop early: that is the point of a leading shape.
    fits = len(shape) <= len(full) and all(
        a is None or b is None or a in (1, b) for a, b in zip(shape, full, strict=False)
    )
    if not fits:
        raise ValueError(f"{name} must have the leading axes of values {full}, got {shape}")
    return ops.reshape(array, (*ops.shape(array), *[1] * (len(full) - len(shape))))
