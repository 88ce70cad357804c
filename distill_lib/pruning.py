"""Pruning: zeros for the weights that matter least, and keeping them through fine-tuning.

A "kernel" is the weight array of a Dense or Conv2D layer; biases and normalisation are
never pruned.
"""

import keras
import numpy as np
from keras.layers import Conv2D, Dense


def prune_magnitude(model, sparsity):
    """Set the kernel weights of smallest magnitude to zero, over all kernels together.

    Han et al. (2015), arXiv:1506.02626, prune layer by layer; one threshold for the whole
    model, as here, takes more from the layers that have more to spare.

    Args:
        model: built ``keras.Model``.
        sparsity: share of all kernel weights to set to zero, from 0 up to but not 1.

    Returns:
        a copy with ``round(sparsity * kernel weights)`` zeros. It has as many parameters as
        before: zeros save space only in a format, or time only in a kernel, made for them.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be at least 0 and below 1, got {sparsity}")
    pruned = copy_model(model)
    kernels = [layer.kernel for layer in kernel_layers(pruned)]
    values = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
    flat = np.concatenate([value.ravel() for value in values])
    flat[np.argsort(np.abs(flat), kind="stable")[: round(sparsity * flat.size)]] = 0
    parts = np.split(flat, np.cumsum([value.size for value in values])[:-1])
    for kernel, value, part in zip(kernels, values, parts, strict=True):
        kernel.assign(part.reshape(value.shape))
    return pruned


def sparsity(model):
    """The share of kernel weights that are exactly zero, from 0 to 1."""
    values = [keras.ops.convert_to_numpy(layer.kernel) for layer in kernel_layers(model)]
    return float(sum((v == 0).sum() for v in values) / sum(v.size for v in values))


class KeepPruned(keras.callbacks.Callback):
    """Keeps the zeros of a pruned model while it, or a copy of it, is fine-tuned.

    The zeros are put back after every update, inside the compiled step, so several steps in
    one execution are no gap.

    Args:
        model: pruned model; its zeros are noted now. The model given to ``fit`` must have
            kernels of the same shapes in the same order.
    """

    def __init__(self, model):
        super().__init__()
        self.masks = [keras.ops.not_equal(layer.kernel, 0) for layer in kernel_layers(model)]

    def on_train_begin(self, logs=None):
        layers = kernel_layers(self.model)
        shapes = [tuple(layer.kernel.shape) for layer in layers]
        expected = [tuple(mask.shape) for mask in self.masks]
        if shapes != expected:
            raise ValueError(f"model must have kernels of shapes {expected}, got {shapes}")
        self.kept = [layer.kernel.constraint for layer in layers]
        for layer, mask in zip(layers, self.masks, strict=True):
            layer.kernel.constraint = _Masked(mask, layer.kernel.constraint)
            layer.kernel.assign(layer.kernel.constraint(layer.kernel))
        # A step compiled by an earlier `fit` does not know the constraints.
        self.model.make_train_function(force=True)

    def on_train_end(self, logs=None):
        for layer, constraint in zip(kernel_layers(self.model), self.kept, strict=True):
            layer.kernel.constraint = constraint
        self.model.train_function = None


class _Masked(keras.constraints.Constraint):
    def __init__(self, mask, inner):
        self.mask, self.inner = mask, inner

    def __call__(self, weights):
        weights = weights if self.inner is None else self.inner(weights)
        return keras.ops.where(self.mask, weights, keras.ops.zeros_like(weights))


def kernel_layers(model):
    """All Dense and Conv2D layers, those of nested models included, in order."""
    return [layer for layer in all_layers(model) if has_kernel(layer)]


def has_kernel(layer):
    """Whether this is a Dense or Conv2D layer."""
    return isinstance(layer, (Dense, Conv2D))


def all_layers(model):
    """Yield the layers of a model, those of nested models in place of the models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)
        else:
            yield layer


def copy_model(model):
    """A model of the same layers, names and weights, uncompiled."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
