"""Low rank: one layer in two thinner ones, by the truncated singular value decomposition."""

from math import prod

import keras
import numpy as np
from keras.layers import Conv1D, Conv2D, Conv3D, Dense

from distill_lib.compress.copying import copy_model, inner_layers

FACTORISABLE = (Dense, Conv1D, Conv2D, Conv3D)


def factorise_low_rank(model, rank_fraction, layer_names=None):
    """Return a copy in which kernels are the best product of two thinner ones.

    A Dense kernel ``(m, n)`` becomes ``(m, r)`` times ``(r, n)``. The kernel of a convolution,
    such as ``(k, k, c, f)``, is seen as a matrix with m = k k c and n = f: it becomes a k x k
    convolution to r channels and a 1 x 1 convolution to f. The two layers stand in the copy
    as one ``keras.Sequential`` under the old name. No other product of rank r has a smaller
    squared error (Eckart and Young, 1936). A ``kernel_regularizer`` still penalises the
    product (:class:`PenalisedPair`).

    A layer for which r (m + n) is not below m n stays as it is, for it would grow. So do all
    layers but Dense, Conv1D, Conv2D and Conv3D of the model or of its inner models, and of
    these subclasses and those with groups, a ``kernel_constraint``, integers or LoRA weights.
    Layers inside wrappers such as ``TimeDistributed`` are not reached.

    Args:
        model: a built Functional or Sequential model.
        rank_fraction: r as a share of ``min(m, n)``, above 0 and at most 1; r is at least 1.
        layer_names: the names of the layers to factorise. ``None`` means all that can be.

    Raises:
        ValueError: if the fraction is out of range, if a name is not that of a layer that can
            be factorised, or if no layer would become smaller.
    """
    if not 0 < rank_fraction <= 1:
        raise ValueError(f"rank_fraction must be above 0 and at most 1, got {rank_fraction}")
    able = [layer for layer in inner_layers(model) if _can_be_factorised(layer)]
    names = [layer.name for layer in able]
    chosen = names if layer_names is None else list(layer_names)
    unable = sorted(set(chosen) - set(names))
    if unable:
        raise ValueError(f"layer_names must be among {names}, got {unable}")
    pairs = {}
    for layer in able:
        *head, outputs = layer.kernel.shape
        inputs = prod(head)
        rank = max(1, round(rank_fraction * min(inputs, outputs)))
        if layer.name in chosen and rank * (inputs + outputs) < inputs * outputs:
            pairs[id(layer)] = _two_layers(layer, rank)
    if not pairs:
        rule = "rank_fraction must make one of the layers smaller, r (m + n) < m n"
        raise ValueError(f"{rule}; got {rank_fraction} for the layers {chosen}")
    return copy_model(model, pairs)


@keras.saving.register_keras_serializable("distill_lib")
class PenalisedPair(keras.Sequential):
    """Two layers whose penalty is that of the product of their two kernels.

    It is part of ``model.losses`` and is saved with the model; ``import distill_lib.compress``
    before loading.

    Args:
        layers: an input and two layers, the second a Dense layer or a 1 x 1 convolution.
        penalty: a regulariser, called on the product in the shape of the undivided kernel.
    """

    def __init__(self, layers=None, penalty=None, **options):
        self.penalty = penalty
        super().__init__(layers, **options)

    def build(self, input_shape=None):
        super().build(input_shape)
        # Keras adds the regularizer of each trainable weight to the losses. That of the
        # second kernel looks at the first one too.
        if len(self.layers) == 2:  # a file adds the layers one by one
            self.layers[1].kernel.regularizer = self._penalty_of_product

    def _penalty_of_product(self, second):
        first = keras.ops.convert_to_tensor(self.layers[0].kernel)
        matrix = keras.ops.reshape(second, second.shape[-2:])
        return self.penalty(keras.ops.tensordot(first, matrix, axes=1))

    def get_config(self):
        penalty = keras.regularizers.serialize(self.penalty)
        return super().get_config() | {"penalty": penalty}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        pair = super().from_config(config, custom_objects)
        pair.penalty = keras.regularizers.deserialize(config["penalty"], custom_objects)
        return pair


def _can_be_factorised(layer):
    # Subclasses may compute something else from the same kernel.
    if type(layer) not in FACTORISABLE or layer.kernel_constraint is not None:
        return False
    is_plain = len(layer.get_weights()) == 1 + layer.use_bias  # neither quantised nor LoRA
    is_float = keras.backend.is_float_dtype(layer.kernel.dtype)
    return is_plain and is_float and getattr(layer, "groups", 1) == 1


def _two_layers(layer, rank):
    """Return two layers, the product of their kernels nearest to that of ``layer``."""
    kernel, *bias = layer.get_weights()
    *head, outputs = kernel.shape  # (m, n), or (k, k, c, f) of a convolution
    matrix = kernel.reshape(-1, outputs).astype("float64")
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    scale = np.diag(np.sqrt(values[:rank]))  # half of the scale for each of the two
    first_kernel = (left[:, :rank] @ scale).reshape(*head, rank)
    ones = [1] * (len(head) - 1)  # the kernel size of a 1 x 1 convolution; none for Dense
    second_kernel = (scale @ right[:rank]).reshape(*ones, rank, outputs)
    pair = _new_pair(layer, rank)
    pair.set_weights([first_kernel, second_kernel, *bias])
    pair.trainable = layer.trainable
    return pair


def _new_pair(layer, rank):
    """Return the two layers with fresh weights, in one model under the old name."""
    same = layer.get_config() | {"kernel_regularizer": None}
    first = {"name": f"{layer.name}_in", "use_bias": False, "activation": None}
    first |= {"activity_regularizer": None}  # what the undivided layer has is the last one's
    second = {"name": f"{layer.name}_out"}
    if isinstance(layer, Dense):
        first |= {"units": rank}
    else:
        first |= {"filters": rank}
        second |= {"kernel_size": 1, "strides": 1, "padding": "valid", "dilation_rate": 1}
    # Where a shared layer has inputs of several sizes, the pair takes any size.
    shapes = [node.input_tensors[0].shape for node in layer._inbound_nodes]
    sizes = zip(*shapes, strict=True)
    shape = [axis[0] if len(set(axis)) == 1 else None for axis in sizes]
    parts = [keras.Input(batch_shape=shape, dtype=layer.compute_dtype)]
    parts += [type(layer).from_config(same | changes) for changes in (first, second)]
    if layer.kernel_regularizer is None:
        return keras.Sequential(parts, name=layer.name)
    return PenalisedPair(parts, layer.kernel_regularizer, name=layer.name)
