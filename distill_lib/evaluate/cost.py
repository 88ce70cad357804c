"""Measures of cost: parameters, bytes, seconds and multiply-adds."""

import inspect
import tempfile
import time
import timeit
from math import prod
from pathlib import Path

import keras
import numpy as np
from keras import layers

from distill_lib.features import as_functional

# Their kernels meet every position of the output.
BY_OUTPUT = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
BY_OUTPUT += (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
BY_OUTPUT += (layers.SeparableConv1D, layers.SeparableConv2D)
# Their kernels meet every position, or step, of the input.
BY_INPUT = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
BY_INPUT += (layers.SimpleRNN, layers.LSTM, layers.GRU)
KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel")
ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
WRAPPERS = (layers.Bidirectional, layers.TimeDistributed)
# Layers with weights that count nothing, by convention.
FREE = (layers.Embedding, layers.BatchNormalization, layers.LayerNormalization)
FREE += (layers.GroupNormalization, layers.RMSNormalization, layers.Normalization, layers.PReLU)
# Layers and operations that multiply activations with each other, which is not counted.
PRODUCTS = {"Attention", "AdditiveAttention", "Dot", "Matmul", "Einsum", "Tensordot", "Inner"}
PRODUCTS |= {"Outer", "Vdot", "Kron", "DotProductAttention", "Conv", "ConvTranspose"}
PRODUCTS |= {"DepthwiseConv", "SeparableConv"}


def parameter_count(model):
    """Return the number of weights of a model, trainable or not."""
    return int(model.count_params())


def file_size(model):
    """Return the bytes of the model as a ``.keras`` file, without any optimiser state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.Model(model.inputs, model.outputs).save(path)
        return path.stat().st_size


def latency(function, *, repeats=30, warmup=5):
    """Return the median seconds of one ``function()``, after ``warmup`` calls.

    It is the time of this machine only, and of a ``function`` that waits for its result.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    calls = warmup + repeats
    seconds = timeit.repeat(function, repeat=calls, number=1, timer=time.perf_counter)
    return float(np.median(seconds[warmup:]))


def operation_count(model):
    """Return the multiply-adds that a Functional or Sequential model needs for one example.

    Counted are the products with weights in dense layers, convolutions of all kinds,
    ``EinsumDense``, recurrent layers (at every step) and attention, and in attention those of
    queries with keys and of weights with values, without any saving by masks. A layer that is
    called several times counts as often, also inside inner models, ``TimeDistributed`` and
    ``Bidirectional``. By convention biases, activations, pooling, normalisation, the look-up
    of embeddings and any other layer without weights count nothing.

    Raises:
        ValueError: for a layer with weights that is none of these, a product of two
            activations outside attention layers (such as ``keras.ops.matmul`` or ``Dot``), a
            model without a graph, and sizes that are unknown until run time, as with
            ``keras.Input((None, None, 3))``.
    """
    functional = as_functional(model)
    if functional is None:
        kind = type(model).__name__
        raise ValueError(f"model must be a built Functional or Sequential, got a {kind}")
    total = 0
    # Keras has no public name for the calls in a graph; `layer.output` knows only the first.
    for nodes in functional._nodes_by_depth.values():
        for node in nodes:
            if not node.is_input:
                total += _count(node.operation, _input_shapes(node), node.outputs[0].shape[1:])
    return total


def _input_shapes(node):
    """Return ``{argument: shape}`` of a call's tensors, without the axis of the examples."""
    if not isinstance(node.operation, keras.Layer):
        return {}
    signature = inspect.signature(node.operation.call)
    given = signature.bind(*node.arguments.args, **node.arguments.kwargs).arguments
    return {
        name: tuple(value.shape[1:])
        for name, value in given.items()
        if isinstance(value, keras.KerasTensor)
    }


def _count(layer, shapes, output):
    """Return the multiply-adds of one call of a layer or model, or of another operation."""
    if isinstance(layer, keras.Model) and as_functional(layer):
        return operation_count(layer)
    if _is_free(layer):
        return 0
    kind = type(layer)
    for shape in shapes.values():
        if None in shape:
            raise ValueError(f"layer {layer.name!r} must have known sizes, got {shape}")
    first = next(iter(shapes.values()), None)
    if kind in BY_OUTPUT:
        return _positions(layer, output) * _kernel_size(layer)
    if kind in BY_INPUT:
        return _positions(layer, first) * _kernel_size(layer)
    if kind is layers.EinsumDense:
        return _einsum(layer, first)
    if kind in ATTENTION:
        return _attention(layer, shapes, output)
    if kind is layers.Bidirectional:
        forward = _count(layer.forward_layer, shapes, output)
        return forward + _count(layer.backward_layer, shapes, output)
    if kind is layers.TimeDistributed:
        return first[0] * _count(layer.layer, {"inputs": first[1:]}, output[1:])
    rule = "model must consist of layers whose multiply-adds can be counted"
    raise ValueError(f"{rule}, got {layer.name!r} of the class {kind.__name__}")


def _is_free(layer):
    """Whether a call of a layer or operation counts nothing, whatever the sizes."""
    kind = type(layer)
    if kind in WRAPPERS or kind.__name__ in PRODUCTS:
        return False
    return kind in FREE or not getattr(layer, "weights", [])


def _positions(layer, shape):
    """Return the number of positions in a shape: the product of all axes but the channels."""
    channels_come_first = getattr(layer, "data_format", None) == "channels_first"
    return prod(shape[1:] if channels_come_first else shape[:-1])


def _kernel_size(layer):
    """Return how many numbers all kernels of a layer hold."""
    owner = getattr(layer, "cell", layer)  # a recurrent layer's weights are those of its cell
    return sum(prod(getattr(owner, name).shape) for name in KERNELS if hasattr(owner, name))


def _einsum(layer, shape):
    # The product of the sizes of all letters: those of the input, and the kernel's own ones.
    inputs, kernel = layer.equation.split("->")[0].split(",")
    sizes = zip(kernel, layer.kernel.shape, strict=True)
    return prod(shape) * prod(size for letter, size in sizes if letter not in inputs)


def _attention(layer, shapes, output):
    """Count the projections of queries, keys, values and answers, and the two products."""
    query, value = shapes["query"], shapes["value"]
    key, config = shapes.get("key", value), layer.get_config()
    if isinstance(layer, layers.MultiHeadAttention):
        query_width = key_width = config["num_heads"] * config["key_dim"]
        value_width = answer_width = config["num_heads"] * config["value_dim"]
    else:
        query_width = answer_width = config["num_query_heads"] * config["head_dim"]
        key_width = value_width = config["num_key_value_heads"] * config["head_dim"]
    tokens, others = prod(query[:-1]), prod(value[:-1])
    attended = others  # by one query: the tokens along the axes of attention
    if config.get("attention_axes"):
        attended = prod((1, *value)[axis] for axis in config["attention_axes"])
    query_width_and_gate = query_width + (answer_width if config.get("use_gate") else 0)
    projections = tokens * query[-1] * query_width_and_gate + prod(output) * answer_width
    projections += others * (key[-1] * key_width + value[-1] * value_width)
    return projections + tokens * attended * (query_width + answer_width)
