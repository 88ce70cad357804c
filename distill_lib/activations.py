"""Probabilities taken for logits: how to see it, and how to take the last activation off.

Most models of ``keras.applications`` end in a softmax. A loss that applies its own softmax to
their answers computes a number without complaint, and a wrong one.
"""

import keras

from distill_lib.features import as_functional

PROBABILITIES = ("softmax", "sigmoid")
HANDS_ON = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Reshape,
)


def last_activation(model):
    """Return the name of the last activation of a model, ``"linear"`` if it has none.

    Of a dictionary of outputs, ``"logits"`` is meant. Layers that only hand on what they get
    are passed over: a ``Reshape``, or an ``Activation("linear")`` that changes the type.

    ``None`` means that it cannot be known: the model is not functional, it returns several
    tensors without ``"logits"``, or it ends in an unknown kind of layer, such as a ``Lambda``.
    """
    tensor = _logits_of(as_functional(model))
    if tensor is None:
        return None
    layer, inputs = _origin(tensor)
    while _hands_on(layer) and len(inputs) == 1:
        layer, inputs = _origin(inputs[0])
    if isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    return last_activation(layer) if isinstance(layer, keras.Model) else _activation_of(layer)


def without_last_activation(model):
    """Build the model that returns the logits of a model that returns probabilities.

    The new model shares all layers but the last with ``model``. A last layer with an activation
    of its own, such as ``Dense(10, activation="softmax")``, is replaced by a linear one with a
    copy of its weights; a last ``Softmax`` or ``Activation`` layer is left out.

    Args:
        model: A functional or sequential ``keras.Model`` with one output, or a dictionary with
            ``"logits"``; not nested at its end. It is not changed.

    Returns:
        A functional ``keras.Model``; ``model`` itself if it ends without an activation.

    Raises:
        ValueError: If the last activation is not known, or is neither softmax nor sigmoid.
    """
    activation = last_activation(model)
    if activation == "linear":
        return model
    functional = as_functional(model)
    layer, inputs = _origin(_logits_of(functional)) if activation else (None, None)
    if activation not in PROBABILITIES or _activation_of(layer) != activation:
        rule = "end in a layer with a softmax or sigmoid of its own"
        raise ValueError(f"model must {rule}, got {model.name!r} with {activation!r}")
    logits = inputs[0] if _is_only_activation(layer) else _linear(layer, inputs[0])
    output = functional.output
    output = {**output, "logits": logits} if isinstance(output, dict) else logits
    return keras.Model(functional.input, output, name=f"{model.name}_logits")


def _linear(layer, features):
    """Call a copy of the layer that has no activation."""
    copy = layer.__class__.from_config(layer.get_config() | {"activation": "linear"})
    logits = copy(features)
    copy.set_weights(layer.get_weights())
    copy.trainable = layer.trainable
    return logits


def check_gives_logits(role, model):
    """Raise ``ValueError`` if a model is known to end in a softmax or a sigmoid."""
    activation = last_activation(model)
    if activation in PROBABILITIES:
        remedy = "take the activation off with distill_lib.without_last_activation(model)"
        raise ValueError(
            f"{role} must return logits, but {model.name!r} returns probabilities: "
            f"it ends in {activation}; {remedy}"
        )


def _logits_of(functional):
    if functional is None:
        return None
    if isinstance(functional.output, dict):
        return functional.output.get("logits")
    return functional.outputs[0] if len(functional.outputs) == 1 else None


def _origin(tensor):
    """Return the layer that made a tensor, and the tensors that it was given for that."""
    # Not `layer.input`, which is refused if the layer was called several times.
    layer, node, _ = tensor._keras_history
    return layer, layer._inbound_nodes[node].input_tensors


def _hands_on(layer):
    is_linear = isinstance(layer, keras.layers.Activation) and _activation_of(layer) == "linear"
    return isinstance(layer, HANDS_ON) or is_linear


def _activation_of(layer):
    """Return the name of a layer's own activation, or ``None`` if it is not known."""
    if isinstance(layer, keras.layers.InputLayer):
        return "linear"
    kind = type(layer).__name__.lower()
    if kind in PROBABILITIES:  # a layer, or an operation such as `keras.ops.softmax`
        return kind
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _is_only_activation(layer):
    is_activation = isinstance(layer, keras.layers.Activation)
    return is_activation or type(layer).__name__.lower() in PROBABILITIES
