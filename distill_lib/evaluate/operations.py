"""The multiply-adds of a model, counted call by call along its graph of layers."""

import inspect
from math import prod

import keras
from keras import layers


def operation_count(model):
    """Return the multiply-adds that a Functional or Sequential model needs for one example.

    Counted are the products with weights in dense layers, convolutions (strided, dilated,
    grouped, transposed, depthwise, separable), ``EinsumDense``, recurrent layers (at every
    step) and attention, with the two products of activations in attention: queries with keys
    and weights with values, without any saving by masks. A layer that is called several times
    counts as often, also inside inner models, ``TimeDistributed`` and ``Bidirectional``.

    By convention additions of biases, activations, pooling, normalisation and the look-up of
    embeddings count nothing, nor does any other layer without weights. (Normalisation after a
    convolution can be folded into it.)

    Raises:
        ValueError: for a layer with weights that is none of these, a product of two
            activations outside attention layers (such as ``keras.ops.matmul`` or ``Dot``), a
            model without a graph, and sizes that are unknown until run time, as with
            ``keras.Input((None, None, 3))``.
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs)
    if not hasattr(model, "_nodes_by_depth"):
        kind = type(model).__name__
        raise ValueError(f"model must be a built Functional or Sequential, got a {kind}")
    total = 0
    # Keras has no public name for the calls in a graph; `layer.output` knows only the first.
    for nodes in model._nodes_by_depth.values():
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
    if isinstance(layer, keras.Sequential) or hasattr(layer, "_nodes_by_depth"):
        return operation_count(layer)
    if type(layer) in COUNTERS:
        needed = list(shapes.values())
        if not isinstance(layer, layers.EinsumDense):  # which may leave its output open
            needed.append(output)
        for shape in needed:
            if None in shape:
                raise ValueError(f"layer {layer.name!r} must have known sizes, got {shape}")
        return int(COUNTERS[type(layer)](layer, shapes, output))
    is_free = not getattr(layer, "weights", []) or type(layer) in FREE
    if type(layer).__name__ in PRODUCTS or not is_free:
        rule = "model must consist of layers whose multiply-adds can be counted"
        raise ValueError(f"{rule}, got {layer.name!r} of the class {type(layer).__name__}")
    return 0


def _only(shapes):
    """Return the shape of the first tensor of a call; most layers have no other."""
    return next(iter(shapes.values()))


def _dense(layer, shapes, output):
    return prod(output) * _only(shapes)[-1]


def _convolution(layer, shapes, output):
    return prod(output) * prod(layer.kernel.shape[:-1])  # (k, k, channels of a group, f)


def _transposed_convolution(layer, shapes, output):
    # Every number of the input is multiplied by a kernel of (k, k, filters).
    return prod(_only(shapes)) * prod(layer.kernel.shape[:-1])


def _depthwise_convolution(layer, shapes, output):
    return prod(output) * prod(layer.kernel.shape[:-2])  # (k, k, c, depth multiplier)


def _separable_convolution(layer, shapes, output):
    positions = prod(output) // layer.filters
    return positions * (prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape))


def _einsum(layer, shapes, output):
    # The product of the sizes of all letters: those of the input, and the kernel's own ones.
    inputs, kernel = layer.equation.split("->")[0].split(",")
    sizes = zip(kernel, layer.kernel.shape, strict=True)
    own = prod(size for letter, size in sizes if letter not in inputs)
    return prod(_only(shapes)) * own


def _attention(layer, shapes, output):
    """Count four projections, of queries or of keys and values, and two products."""
    query, value = shapes["query"], shapes["value"]
    config = layer.get_config()
    tokens, others = prod(query[:-1]), prod(value[:-1])
    attended = others  # by one query: the tokens along the axes of attention
    if config.get("attention_axes"):
        attended = prod((1, *value)[axis] for axis in config["attention_axes"])
    if isinstance(layer, layers.MultiHeadAttention):
        widths = config["num_heads"] * (config["key_dim"] + config["value_dim"])
    else:
        widths = config["num_query_heads"] * 2 * config["head_dim"]
    total = tokens * attended * widths
    for weight in layer.weights:
        *_, part, name = weight.path.split("/")
        if name == "kernel":
            total += prod(weight.shape) * (others if part in ("key", "value") else tokens)
    return total


def _recurrent(layer, shapes, output):
    steps, cell = _only(shapes)[0], layer.cell
    return steps * (prod(cell.kernel.shape) + prod(cell.recurrent_kernel.shape))


def _bidirectional(layer, shapes, output):
    both = (layer.forward_layer, layer.backward_layer)
    return sum(_count(one, shapes, output) for one in both)


def _time_distributed(layer, shapes, output):
    steps, *shape = _only(shapes)
    return steps * _count(layer.layer, {"inputs": shape}, output[1:])


COUNTERS = {
    layers.Dense: _dense,
    layers.Conv1D: _convolution,
    layers.Conv2D: _convolution,
    layers.Conv3D: _convolution,
    layers.Conv1DTranspose: _transposed_convolution,
    layers.Conv2DTranspose: _transposed_convolution,
    layers.Conv3DTranspose: _transposed_convolution,
    layers.DepthwiseConv1D: _depthwise_convolution,
    layers.DepthwiseConv2D: _depthwise_convolution,
    layers.SeparableConv1D: _separable_convolution,
    layers.SeparableConv2D: _separable_convolution,
    layers.EinsumDense: _einsum,
    layers.MultiHeadAttention: _attention,
    layers.GroupQueryAttention: _attention,
    layers.SimpleRNN: _recurrent,
    layers.LSTM: _recurrent,
    layers.GRU: _recurrent,
    layers.Bidirectional: _bidirectional,
    layers.TimeDistributed: _time_distributed,
}
# Layers with weights that count nothing, by convention.
FREE = (layers.Embedding, layers.BatchNormalization, layers.LayerNormalization)
FREE += (layers.GroupNormalization, layers.RMSNormalization, layers.Normalization, layers.PReLU)
# Layers and operations that multiply activations with each other, which is not counted.
PRODUCTS = {"Attention", "AdditiveAttention", "Dot", "Matmul", "Einsum", "Tensordot", "Inner"}
PRODUCTS |= {"Outer", "Vdot", "Kron", "DotProductAttention", "Conv", "ConvTranspose"}
PRODUCTS |= {"DepthwiseConv", "SeparableConv"}
