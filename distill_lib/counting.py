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


def weight_with_axes(sample_weight, axes):
    """Return the weights with ``axes`` axes, those that they lack of size 1, or ``None``.

    Keras would repeat weights of examples, ``(batch,)``, along the last axis of losses of
    tokens, ``(batch, steps)``: an error, or wrong without a word where the sizes agree.
    """
    if sample_weight is None:
        return None
    weight = ops.convert_to_tensor(sample_weight)
    while len(weight.shape) > axes and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    if len(weight.shape) > axes:
        rule = f"have at most {axes} axes like the losses of this output"
        raise ValueError(f"sample_weight must {rule}, got shape {tuple(weight.shape)}")
    return _expanded(weight, axes)


def has_weight(sample_weight):
    """Return the mask of the examples whose weight is not 0, or ``None`` without weights."""
    if sample_weight is None:
        return None
    return ops.not_equal(ops.convert_to_tensor(sample_weight), 0)


def without_uncounted(values, mask, axes):
    """Return the values with zeros where they do not count.

    Args:
        values: A tensor.
        mask: What counts, or ``None``.
        axes: How many leading axes of the values number examples. The others hold what one
            example consists of, such as its logits; a mask does not speak of them.

    Raises:
        ValueError: If the sizes of the mask are not those of the leading axes.
    """
    values = ops.convert_to_tensor(values)
    mask = with_axes(mask, axes)
    if mask is None:
        return values
    check_leading_axes(mask, values)
    # Chosen, not multiplied: nan times 0 would be nan, and so would be its gradient.
    return ops.where(_expanded(mask, len(values.shape)), values, ops.zeros_like(values))


def with_all_axes(mask, values, axes):
    """Return the mask with exactly the first ``axes`` axes of the values, or ``None``."""
    mask = with_axes(mask, axes)
    if mask is None:
        return None
    check_leading_axes(mask, values)
    return both(mask, ops.ones(ops.shape(values)[:axes], "bool"))


def check_leading_axes(mask, values):
    """Refuse a mask whose known sizes are neither 1 nor those of the values' leading axes."""
    pairs = zip(mask.shape, values.shape, strict=False)
    if any(None not in (one, other) and one not in (1, other) for one, other in pairs):
        rule = f"have the leading axes of what it speaks of, {tuple(values.shape)}"
        raise ValueError(f"mask must {rule}, got shape {tuple(mask.shape)}")


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


def applied(layer, values):
    """Return what a layer makes of the values, with their mask where the layer has lost it.

    Raises:
        ValueError: If the layer changes the number of steps and does not tell their mask.
    """
    if layer is None:
        return values
    mask = mask_of(values)
    if mask is not None and not layer.supports_masking:
        values = ops.copy(values)  # a copy has no mask, of whose loss Keras would warn
    found = layer(values)
    if mask is None or mask_of(found) is not None:
        return found
    mask = with_axes(mask, max(len(found.shape) - 1, 1))
    if mask.shape != found.shape[: len(mask.shape)]:
        rule = "keep the steps of its input, or return their mask from compute_mask"
        raise ValueError(f"adapter must {rule}, got {mask.shape} steps and {found.shape}")
    return with_mask(found, mask)


def _expanded(mask, axes):
    return ops.reshape(mask, (*ops.shape(mask), *[1] * (axes - len(mask.shape))))
