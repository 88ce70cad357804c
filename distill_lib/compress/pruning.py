"""Pruning: zeros for the weights that matter least, and keeping them through fine-tuning.

A *kernel* is here every weight whose name ends in "kernel": those of dense layers, of all
kinds of convolutions, of recurrent layers and of attention, at any depth, a shared one once.
Biases, embeddings and the weights of normalisation are none. All functions raise
``ValueError`` for a model without kernels, and for kernels that are not of floats.
"""

from functools import partial

import keras
import numpy as np

from distill_lib.compress.copying import copy_model


def prune_magnitude(model, sparsity):
    """Return a copy of a model whose smallest kernel weights are zero.

    The weights of all kernels are ranked together by their absolute values. (Han et al., 2015,
    prune layer by layer.) ``sparsity`` is the share that becomes zero, at least 0 and below 1.
    Zeros save space or time only where a format or a program is made for them.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be at least 0 and below 1, got {sparsity}")
    pruned = copy_model(model)
    kernels = _kernels(pruned)
    weights = _joined(kernels)
    order = np.argsort(np.abs(weights), kind="stable")
    weights[order[: round(sparsity * weights.size)]] = 0
    ends = np.cumsum([np.prod(kernel.shape) for kernel in kernels])
    for kernel, values in zip(kernels, np.split(weights, ends[:-1]), strict=True):
        kernel.assign(values.reshape(kernel.shape))
    return pruned


def sparsity(model):
    """Return the share of kernel weights that are exactly zero, from 0 to 1."""
    return float(np.mean(_joined(_kernels(model)) == 0))


def keep_pruned(model, pruned):
    """Hold at zero the kernel weights of ``model`` that are zero in ``pruned``; return it.

    The kernels of both, often one model, have the same shapes in the same order. Each kernel
    gets a constraint, which every optimiser applies after its update. A constraint that it had
    already is applied first. No file keeps the new one: call the function again after loading.
    """
    kernels, others = _kernels(model), _kernels(pruned)
    shapes = [tuple(kernel.shape) for kernel in kernels]
    expected = [tuple(kernel.shape) for kernel in others]
    if shapes != expected:
        raise ValueError(f"model must have kernels of shapes {expected}, got {shapes}")
    for kernel, other in zip(kernels, others, strict=True):
        is_kept = keras.ops.not_equal(other, 0)
        kernel.constraint = partial(_masked, is_kept, kernel.constraint)
        kernel.assign(kernel.constraint(kernel))
    model.train_function = None  # A step compiled earlier does not know the constraints.
    return model


def _kernels(model):
    kernels = [weight for weight in model.weights if weight.name.endswith("kernel")]
    if not kernels or not all(keras.backend.is_float_dtype(one.dtype) for one in kernels):
        found = sorted({f"{weight.name} {weight.dtype}" for weight in model.weights})
        raise ValueError(f"model must have kernels, all of floats, got weights {found}")
    return kernels


def _joined(kernels):
    return np.concatenate([np.ravel(keras.ops.convert_to_numpy(one)) for one in kernels])


def _masked(is_kept, inner, weights):
    return keras.ops.where(is_kept, inner(weights) if inner else weights, 0)
