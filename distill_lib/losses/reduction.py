"""From one loss for each example to the number that is minimised."""

from keras import ops

from distill_lib.losses._inputs import along, as_floats


def weighted_mean(values, sample_weight=None, mask=None):
    """Weighted mean by Keras's rule ``sum_over_batch_size``: sum(w m v) / sum(m).

    The weights do not enter the divisor: doubling all of them doubles the result, as in
    ``fit``. Masked entries count nowhere, whatever they hold, ``nan`` included. The values
    have any shape, weights and mask (true counts) that one or its leading axes: ``(batch,)``
    weighs whole sequences. A scalar, 0 where nothing counts.
    """
    (values,) = as_floats(values)
    kept = along("mask", mask, values) != 0
    weighted = ops.where(kept, values * along("sample_weight", sample_weight, values), 0.0)
    return ops.divide_no_nan(ops.sum(weighted), ops.sum(ops.cast(kept, values.dtype)))
