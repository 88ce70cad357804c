"""From one loss for each example to the number that is minimised."""

from keras import ops

from distill_lib.losses._inputs import as_floats, is_kept, on_leading_axes


def weighted_mean(values, sample_weight=None, mask=None):
    """Return the weighted mean by Keras's rule ``sum_over_batch_size``: sum(w m v) / sum(m).

    The weights w do not enter the divisor: doubling all of them doubles the result, as in
    ``fit``. An entry that is masked (m = 0) counts nowhere. One of weight 0 counts in the
    divisor alone. Neither is looked at, so it may be nan.

    Args:
        values: losses of any shape.
        sample_weight, mask: of that shape, or of its leading axes: ``(batch,)`` weighs whole
            sequences. In a mask, true or any number but 0 counts.

    Returns:
        A scalar of float32 or wider; 0 where nothing counts.
    """
    (values,) = as_floats(values)
    kept = is_kept(mask, values)
    weights = on_leading_axes("sample_weight", sample_weight, values)
    # Not by 0 times the value, which is nan where the value is.
    used = ops.logical_and(kept, ops.not_equal(weights, 0))
    weighted = ops.where(used, ops.where(used, values, 0.0) * weights, 0.0)
    return ops.divide_no_nan(ops.sum(weighted), ops.sum(ops.cast(kept, values.dtype)))
