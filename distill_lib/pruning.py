"""Pruning: zeros for the weights that matter least, and keeping them through fine-tuning.

A "kernel" is the weight array of a Dense or Conv2D layer; nothing else is ever pruned.
"""

from functools import partial

import keras
import numpy as np
from keras.layers import Conv2D, Dense


def prune_magnitude(model, sparsity):
    """A copy of a model without its smallest kernel weights, all kernels taken together.

    ``sparsity`` is the share of them that become zero, in [0, 1). Zeros save space or time only
    where a format or program is made for them. Han et al. (2015) prune layer by layer.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be at least 0 and below 1, got {sparsity}")
    pruned = copy_model(model)
    rest = _kernel_weights(pruned)
    rest[np.argsort(np.abs(rest), kind="stable")[: round(sparsity * rest.size)]] = 0
    for layer in kernel_layers(pruned):
        own, rest = np.split(rest, [np.prod(layer.kernel.shape)])
        layer.kernel.assign(own.reshape(layer.kernel.shape))
    return pruned


def sparsity(model):
    """The share of kernel weights that are exactly zero, from 0 to 1."""
    return float(np.mean(_kernel_weights(model) == 0))


def keep_pruned(model, pruned):
    """Hold at zero the kernel weights of ``model`` that are zero in ``pruned``; returns it.

    By a constraint of each kernel, which every optimiser applies after its update and no file
    keeps. ``ValueError`` unless the kernels have the same shapes in the same order.
    """
    kernels, others = ([la.kernel for la in kernel_layers(one)] for one in (model, pruned))
    shapes, expected = ([tuple(one.shape) for one in some] for some in (kernels, others))
    if shapes != expected:
        raise ValueError(f"model must have kernels of shapes {expected}, got {shapes}")
    for kernel, other in zip(kernels, others, strict=True):
        is_kept = keras.ops.not_equal(other, 0)
        kernel.constraint = partial(_masked, is_kept, kernel.constraint)
        kernel.assign(kernel.constraint(kernel))
    model.train_function = None  # A step compiled earlier does not know the constraints.
    return model


def kernel_layers(model):
    """All Dense and Conv2D layers in order, those of nested models in the models' places."""
    nested = [kernel_layers(x) if isinstance(x, keras.Model) else [x] for x in model.layers]
    return [layer for part in nested for layer in part if isinstance(layer, (Dense, Conv2D))]


def copy_model(model):
    """A model of the same layers, names and weights, uncompiled."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _kernel_weights(model):
    return np.concatenate([np.ravel(layer.kernel) for layer in kernel_layers(model)])


def _masked(is_kept, inner, weights):
    return keras.ops.where(is_kept, inner(weights) if inner else weights, 0)
