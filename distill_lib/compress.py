"""Parameter distillation: make a small model out of the weights of a large one.

For built Functional or Sequential models. All functions but :func:`inherit_weights` return a
changed copy and leave their model as it is.
"""

import keras
import numpy as np
from keras.layers import Conv2D, Dense, EinsumDense, Embedding

from distill_lib.pruning import copy_model, keep_pruned, prune_magnitude, sparsity

__all__ = ["keep_pruned", "prune_magnitude", "sparsity"]  # beside what is defined here
__all__ += ["factorise_low_rank", "inherit_weights", "quantise_int8"]


def factorise_low_rank(model, rank_fraction, layer_names=None):
    """Replace each kernel by the best product of two thinner ones (truncated SVD).

    A Dense kernel ``(m, n)`` becomes ``(m, r)`` times ``(r, n)``; a Conv2D kernel ``(k, k, c,
    f)``, seen as ``(k k c, f)``, a k x k convolution to r channels and a 1 x 1 convolution:
    a ``keras.Sequential`` under the old name. The squared error is the sum of the squares of
    the dropped singular values; no rank-r product has less (Eckart and Young, 1936).
    Parameters are saved while ``r < m n / (m + n)``.

    Args:
        rank_fraction: r as a share of ``min(m, n)``, above 0 to 1; r is at least 1.
        layer_names: of the model itself; ``None`` for all Dense and ungrouped Conv2D layers.
    """
    if not 0 < rank_fraction <= 1:
        raise ValueError(f"rank_fraction must be above 0 and at most 1, got {rank_fraction}")
    able = {la.name: la for la in model.layers if isinstance(la, (Dense, Conv2D))}
    able = {name: la for name, la in able.items() if getattr(la, "groups", 1) == 1}
    chosen = able if layer_names is None else layer_names
    if unable := sorted(set(chosen) - set(able)):
        raise ValueError(f"layer_names must be among {list(able)}, got {unable}")
    pairs = {name: _two_layers(able[name], rank_fraction) for name in chosen}

    def clone(layer):
        return pairs.get(layer.name) or layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights([w for la in model.layers for w in pairs.get(la.name, la).get_weights()])
    return copy


def _two_layers(layer, rank_fraction):
    """Two layers, the product of their kernels nearest to that of ``layer``."""
    kernel, *bias = layer.get_weights()
    *head, outputs = kernel.shape  # (m, n) or (k, k, c, f)
    matrix = kernel.reshape(-1, outputs).astype("float64")
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    rank = max(1, round(rank_fraction * len(values)))
    scale = np.diag(np.sqrt(values[:rank]))  # half of the scale for each
    second = (scale @ right[:rank]).reshape(*[1] * (len(head) - 1), rank, outputs)
    weights = [(left[:, :rank] @ scale).reshape(*head, rank), second, *bias]
    thin = {"name": f"{layer.name}_in", "use_bias": False, "activation": None}
    flat = {"kernel_size": 1, "strides": 1, "padding": "valid", "dilation_rate": 1}
    thin |= {"units": rank} if isinstance(layer, Dense) else {"filters": rank}
    last = {"name": f"{layer.name}_out"} | ({} if isinstance(layer, Dense) else flat)
    configs = [layer.get_config() | changes for changes in (thin, last)]
    pair = keras.Sequential([layer.__class__.from_config(c) for c in configs], name=layer.name)
    pair.build(layer.get_build_config()["input_shape"])
    pair.set_weights(weights)
    return pair


def quantise_int8(model):
    """Kernels as 8-bit integers with one scale for each output, Keras's own way.

    Keras 3.15 does so for Dense, EinsumDense and Embedding (``ValueError`` if there is none)
    and quantises Dense's inputs on the fly. A Dense layer's file shrinks to about a quarter;
    a CPU is not faster, and the quantised kernels cannot be trained.
    """
    copy, able = copy_model(model), (Dense, EinsumDense, Embedding)
    # The filter avoids Keras's warning for each layer that it cannot quantise.
    copy.quantize("int8", filters=lambda layer: isinstance(layer, able))
    if all(weight.dtype != "int8" for weight in copy.weights):
        found = [layer.__class__.__name__ for layer in model.layers]
        raise ValueError(f"model must have a Dense, EinsumDense or Embedding, got {found}")
    return copy


def inherit_weights(student, teacher, layer_names):
    """Start the student from layers of the teacher, as DistilBERT does (Sanh et al., 2019).

    The student is changed in place and returned. ``layer_names`` are those of layers that
    both have, or ``{student name: teacher name}``. ``ValueError`` for an unknown name or for
    shapes that differ; then nothing is copied.
    """
    names = layer_names if isinstance(layer_names, dict) else {n: n for n in layer_names}
    others = [_layer(teacher, "teacher", name) for name in names.values()]
    pairs = list(zip([_layer(student, "student", n) for n in names], others, strict=True))
    for own, other in pairs:
        shapes, given = ([w.shape for w in one.get_weights()] for one in (own, other))
        if shapes != given:
            rule = f"layer {own.name!r} must get weights of shapes {shapes}"
            raise ValueError(f"{rule}, got {given}")
    for own, other in pairs:
        own.set_weights(other.get_weights())
    return student


def _layer(model, role, name):
    if name not in (names := [layer.name for layer in model.layers]):
        raise ValueError(f"layer_names must be among the {role}'s {names}, got {name!r}")
    return model.get_layer(name)
