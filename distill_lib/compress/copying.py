"""Copies of models, whole or with some layers replaced, and the layers inside a model."""

import keras
from keras.layers import InputLayer


def copy_model(model, replacements=None):
    """Return an uncompiled copy of a model: the same layers, names, flags and weights.

    A layer that is used several times, also by several inner models, is copied once. Inner
    Functional and Sequential models are copied layer by layer; every other layer is made anew
    from its ``get_config()``.

    Args:
        model: a built Functional or Sequential model. It is left as it is.
        replacements: ``{id(layer): built layer}``, what stands in the copy for a layer of the
            model or of its inner models.

    Raises:
        ValueError: if the model has no graph of layers, as a subclassed one.
    """
    if not (isinstance(model, keras.Sequential) and model.built) and not _is_functional(model):
        kind = type(model).__name__
        raise ValueError(f"model must be a built Functional or Sequential, got a {kind}")
    replacements = replacements or {}
    twins = dict(replacements)
    copy = _copy_graph(model, twins)
    for layer in inner_layers(model):
        if id(layer) not in replacements:
            twins[id(layer)].set_weights(layer.get_weights())
    return copy


def inner_layers(model):
    """Return every layer of a model once, those of inner models in the models' places.

    Inputs are left out, and wrappers such as ``TimeDistributed`` are not looked into.
    """
    found = {}
    for layer in model.layers:
        parts = inner_layers(layer) if _is_plain(layer) else [layer]
        found |= {id(one): one for one in parts if not isinstance(one, InputLayer)}
    return list(found.values())


def _copy_graph(model, twins):
    """Copy a model; ``twins`` maps the id of each layer met so far to its copy."""

    def twin_of(layer):
        if id(layer) not in twins:
            if _is_plain(layer):
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


def _is_functional(model):
    return isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth")


def _is_plain(layer):
    """Whether a layer is an inner model of one of Keras's own two classes with a graph."""
    # Keras exports no name for the class of `keras.Model(inputs, outputs)`.
    return type(layer) is keras.Sequential or type(layer).__name__ == "Functional"
