"""What counts: one meaning for masks, weights of 0 and ignored labels.

A mask is boolean and true where something counts. Its axes are the leading axes of what it
speaks of: ``(batch,)`` for examples, ``(batch, steps)`` for the tokens of sequences. ``None``
means that everything counts. What does not count enters no value and no gradient, whatever it
holds; it may be nan, or a label that is no class.
"""

import keras
from keras import ops


def mask_of(tensor):
    """Return the mask that Keras keeps with a tensor, or ``None``."""
    return getattr(tensor, "_keras_mask", None)


def both(one, other):
    """Return the mask of what counts by both masks; they may have unequally many axes."""
    if one is None or other is None:
        return other if one is None else one
    axes = max(len(one.shape), len(other.shape))
    return ops.logical_and(_expanded(one, axes), _expanded(other, axes))


def with_axes(mask, axes):
    """Bring a mask to at most ``axes`` axes: what has any part that counts counts itself."""
    if mask is None or len(mask.shape) <= axes:
        return mask
    return ops.any(mask, axis=tuple(range(axes, len(mask.shape))))


def has_weight(sample_weight):
    """Return the mask of the examples whose weight is not 0, or ``None`` without weights."""
    if sample_weight is None:
        return None
    return ops.not_equal(ops.convert_to_tensor(sample_weight), 0)


def without_uncounted(values, mask):
    """Return the values with zeros where they do not count."""
    values = ops.convert_to_tensor(values)
    mask = with_axes(mask, len(values.shape))
    if mask is None:
        return values
    # Chosen, not multiplied: nan times 0 would be nan, and so would be its gradient.
    return ops.where(_expanded(mask, len(values.shape)), values, ops.zeros_like(values))


class AttachMask(keras.layers.Layer):
    """Hands on the first of two tensors, with the second as the mask that Keras keeps with it.

    Keras's losses and metrics take the mask from there. An adapter that does not hand on the
    mask of its input, such as a convolution, gets it back in this way.
    """

    def __init__(self):
        super().__init__(autocast=False)

    def call(self, inputs):
        """Return the values of ``(values, mask)``."""
        return ops.copy(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        """Return the mask of ``(values, mask)``."""
        return inputs[1]


def with_mask(values, mask):
    """Return the values with a mask for Keras; as they are if everything counts."""
    return values if mask is None else AttachMask()([values, mask])


def _expanded(mask, axes):
    return ops.reshape(mask, (*ops.shape(mask), *[1] * (axes - len(mask.shape))))
