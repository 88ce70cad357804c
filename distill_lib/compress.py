"""Parameter distillation: make a small model out of the weights of a large one.

Pruning, low-rank factorisation, quantisation and inheritance of weights. Every function but
:func:`inherit_weights` leaves its model as it is and returns a changed copy, for a built
Functional or Sequential ``keras.Model``. A "kernel" is the weight matrix of a Dense or Conv2D
layer; biases and normalisation are never pruned or factorised.
"""

import keras
import numpy as np
from keras.layers import Dense, EinsumDense, Embedding

from distill_lib.pruning import (
    KeepPruned,
    all_layers,
    copy_model,
    has_kernel,
    prune_magnitude,
    sparsity,
)

__all__ = [
    "KeepPruned",
    "factorise_low_rank",
    "inherit_weights",
    "prune_magnitude",
    "quantise_int8",
    "sparsity",
]


def factorise_low_rank(model, rank_fraction, layer_names=None):
    """Replace each kernel by the best product of two thinner ones (truncated SVD).

    A Dense kernel ``(m, n)`` becomes ``(m, r)`` times ``(r, n)``; a Conv2D kernel ``(k, k, c,
    f)``, seen as a ``(k * k * c, f)`` matrix, becomes a k x k convolution to r channels and a
    1 x 1 convolution. By Eckart and Young (1936) the squared Frobenius error of the kernel is
    the sum of the squares of the dropped singular values, and no rank-r product has less.

    Args:
        model: built ``keras.Model``.
        rank_fraction: r as a share of ``min(m, n)``, above 0 to 1; r is at least 1. At 1 the
            outputs stay equal up to rounding; parameters are saved only while
            ``r < m * n / (m + n)``, which is half of the full rank for a square kernel.
        layer_names: names of the layers to factorise; ``None`` for all Dense and ungrouped
            Conv2D layers of the model (not of models nested in it).

    Returns:
        a copy in which each such layer is a ``keras.Sequential`` of two under the old name.
    """
    if not 0 < rank_fraction <= 1:
        raise ValueError(f"rank_fraction must be above 0 and at most 1, got {rank_fraction}")
    able = [la.name for la in model.layers if has_kernel(la) and getattr(la, "groups", 1) == 1]
    chosen = able if layer_names is None else list(layer_names)
    if unable := sorted(set(chosen) - set(able)):
        raise ValueError(f"layer_names must be among {able}, got {unable}")
    factors = {name: _factors(model.get_layer(name).kernel, rank_fraction) for name in chosen}

    def clone(layer):
        if layer.name in factors:
            return _two_layers(layer, rank=factors[layer.name][0].shape[-1])
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        if layer.weights:  # Inputs have none, and a new name in the copy.
            rest = layer.get_weights()[1 if layer.name in factors else 0 :]
            copy.get_layer(layer.name).set_weights([*factors.get(layer.name, ()), *rest])
    return copy


def _factors(kernel, rank_fraction):
    """Two kernels whose product is nearest to ``kernel``; both take half of the scale."""
    kernel = keras.ops.convert_to_numpy(kernel)
    *head, outputs = kernel.shape  # (m, n) or (k, k, c, f)
    left, values, right = np.linalg.svd(
        kernel.reshape(-1, outputs).astype("float64"), full_matrices=False
    )
    rank = max(1, round(rank_fraction * len(values)))
    scale = np.sqrt(values[:rank])
    first = (left[:, :rank] * scale).reshape(*head, rank)
    second = (scale[:, None] * right[:rank]).reshape(*[1] * (len(head) - 1), rank, outputs)
    return first.astype(kernel.dtype), second.astype(kernel.dtype)


def _two_layers(layer, rank):
    """An untrained pair of layers of the given inner width with the shapes of ``layer``."""
    first, second = layer.get_config(), layer.get_config()
    first |= {"name": f"{layer.name}_in", "use_bias": False, "activation": None}
    second |= {"name": f"{layer.name}_out"}
    if isinstance(layer, Dense):
        first |= {"units": rank}
    else:
        first |= {"filters": rank}
        second |= {"kernel_size": 1, "strides": 1, "padding": "valid", "dilation_rate": 1}
    pair = [layer.__class__.from_config(config) for config in (first, second)]
    return keras.Sequential(pair, name=layer.name)


def quantise_int8(model):
    """Store the kernels as 8-bit integers with one scale for each output, Keras's own way.

    Keras 3.15 quantises Dense, EinsumDense and Embedding; Conv2D, biases and normalisation
    stay float32 there. Dense inputs are quantised on the fly, example by example, so no
    calibration data are needed. The file shrinks to about a quarter for Dense layers; it is
    not faster on a CPU. The copy's quantised kernels cannot be trained.

    Args:
        model: built ``keras.Model`` with at least one such layer.

    Returns:
        a quantised copy.
    """
    able = (Dense, EinsumDense, Embedding)
    copy = copy_model(model)
    if not any(isinstance(layer, able) for layer in all_layers(copy)):
        raise ValueError(
            "model must have a Dense, EinsumDense or Embedding layer, got "
            f"{[layer.__class__.__name__ for layer in model.layers]}"
        )
    # The filter avoids Keras's warning for each layer that it cannot quantise.
    copy.quantize("int8", filters=lambda layer: isinstance(layer, able))
    return copy


def inherit_weights(student, teacher, layer_names):
    """Start the student from layers of the teacher, as DistilBERT does (arXiv:1910.01108).

    Args:
        student: built ``keras.Model``, changed in place.
        teacher: built ``keras.Model``.
        layer_names: names of layers that both have, or ``{student name: teacher name}``.

    Returns:
        the student. Nothing is copied unless all names exist and all shapes agree.
    """
    if not isinstance(layer_names, dict):
        layer_names = {name: name for name in layer_names}
    values = {}
    for own, other in layer_names.items():
        values[own] = _layer(teacher, "teacher", other).get_weights()
        shapes = [tuple(w.shape) for w in _layer(student, "student", own).weights]
        given = [value.shape for value in values[own]]
        if shapes != given:
            raise ValueError(f"layer {own!r} must get weights of shapes {shapes}, got {given}")
    for own, weights in values.items():
        student.get_layer(own).set_weights(weights)
    return student


def _layer(model, role, name):
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise ValueError(f"layer_names must be among the {role}'s {names}, got {name!r}")
    return model.get_layer(name)
