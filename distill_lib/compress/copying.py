"""Copies of models: with the same layers, with some of them replaced, or in 8-bit integers."""

import keras
from keras.layers import Dense, EinsumDense, Embedding, InputLayer

from distill_lib.features import as_functional


def copy_model(model, replacements=None):
    """Return an uncompiled copy of a model: the same layers, names, flags and weights.

    A layer that is used several times, also by several inner models, is copied once. Inner
    Functional and Sequential models are copied layer by layer; every other layer is made anew
    from its ``get_config()``.

    ``replacements`` is ``{id(layer): built layer}``: what stands in the copy for a layer of the
    model or of its inner models. ``ValueError`` if the model has no graph of layers, as a
    subclassed one or a Sequential that is not built.
    """
    if as_functional(model) is None:
        kind = type(model).__name__
        raise ValueError(f"model must be a built Functional or Sequential, got a {kind}")
    replacements = replacements or {}
    twins = dict(replacements)
    copy = _copy_graph(model, twins)
    for layer in inner_layers(model):
        if id(layer) not in replacements:
            twins[id(layer)].set_weights(layer.get_weights())
    return copy


def quantise_int8(model):
    """Return a copy whose kernels are 8-bit integers, with one scale for each output.

    This is Keras's own ``quantize("int8")``. Keras 3.15 does so for Dense, EinsumDense (also
    those inside attention) and Embedding, and quantises the inputs of a Dense layer on the
    fly; all other layers keep their floats. A Dense layer's file shrinks to about a quarter;
    a CPU is not faster, and the quantised kernels cannot be trained. ``ValueError`` if the
    model has none of these layers.
    """
    copy = copy_model(model)
    # The filter avoids Keras's warning for each layer, or subclass, that it cannot quantise.
    able = (Dense, EinsumDense, Embedding)
    copy.quantize("int8", filters=lambda layer: type(layer) in able)
    if all(weight.dtype != "int8" for weight in copy.weights):
        found = [type(layer).__name__ for layer in model.layers]
        raise ValueError(f"model must have a Dense, EinsumDense or Embedding, got {found}")
    return copy


def inner_layers(model):
    """Return every layer of a model once, those of inner models in the models' places.

    Inputs are left out, and wrappers such as ``TimeDistributed`` are not looked into.
    """
    found = {}
    for layer in model.layers:
        parts = inner_layers(layer) if _is_inner_model(layer) else [layer]
        found |= {id(one): one for one in parts if not isinstance(one, InputLayer)}
    return list(found.values())


def _copy_graph(model, twins):
    """Copy a model; ``twins`` maps the id of each layer met so far to its copy."""

    def twin_of(layer):
        if id(layer) not in twins:
            if _is_inner_model(layer):
                twins[id(layer)] = _copy_graph(layer, twins)
            else:
                twins[id(layer)] = type(layer).from_config(layer.get_config())
        return twins[id(layer)]

    if isinstance(model, keras.Sequential):
        tensor = model.inputs[0]
        first = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
        twins_in_order = [twin_of(layer) for layer in model.layers]
        copy = keras.Sequential([first, *twins_in_order], name=model.name)
    else:
        # Of a compiled model, `clone_model` would compile the copy, and fail for own losses.
        uncompiled = keras.Model(model.input, model.output, name=model.name)
        copy = keras.models.clone_model(uncompiled, clone_function=twin_of)
    if not model.trainable:
        copy.trainable = False
    return copy


def _is_inner_model(layer):
    """Whether a layer is of one of Keras's own two classes of models with a graph."""
    # Keras exports no name for the class of `keras.Model(inputs, outputs)`.
    return type(layer) is keras.Sequential or type(layer).__name__ == "Functional"
