"""Probabilities taken for logits: how to see it, and how to take the last activation off.

Most models of ``keras.applications`` end in a softmax. A loss that applies its own softmax to
their answers computes a number without complaint, and a wrong one.
"""

import keras

from distill_lib.features import as_functional

PROBABILITIES = ("softmax", "sigmoid")


def last_activation(model):
    """Return the name of the last activation of a model, ``"linear"`` if it has none.

    ``None`` means that it cannot be known: the model is not functional, it returns several
    tensors, or it ends in a layer of an unknown kind, such as a ``Lambda``.
    """
    functional = as_functional(model)
    if functional is None or len(functional.outputs) != 1:
        return None
    layer = _last_layer(functional)
    if isinstance(layer, keras.Model):
        return last_activation(layer)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None)


def without_last_activation(model):
    """Build the model that returns the logits of a model that returns probabilities.

    The new model shares all layers but the last with ``model``. A last layer with an activation
    of its own, such as ``Dense(10, activation="softmax")``, is replaced by a linear one with a
    copy of its weights; a last ``Softmax`` or ``Activation`` layer is left out.

    Args:
        model: A functional or sequential ``keras.Model`` with one output, not nested at its
            end. It is not changed.

    Returns:
        A functional ``keras.Model``; ``model`` itself if it ends without an activation.

    Raises:
        ValueError: If the last activation is not known, or is neither softmax nor sigmoid.
    """
    activation = last_activation(model)
    if activation == "linear":
        return model
    layer = _last_layer(as_functional(model)) if activation else None
    if activation not in PROBABILITIES or isinstance(layer, keras.Model):
        rule = "end in a layer with a softmax or sigmoid of its own"
        raise ValueError(f"model must {rule}, got {model.name!r} with {activation!r}")
    if isinstance(layer, (keras.layers.Softmax, keras.layers.Activation)):
        return keras.Model(model.input, layer.input, name=f"{model.name}_logits")
    linear = layer.__class__.from_config(layer.get_config() | {"activation": "linear"})
    new = keras.Model(model.input, linear(layer.input), name=f"{model.name}_logits")
    linear.set_weights(layer.get_weights())
    linear.trainable = layer.trainable
    return new


def check_gives_logits(role, model):
    """Raise ``ValueError`` if a model is known to end in a softmax or a sigmoid."""
    activation = last_activation(model)
    if activation in PROBABILITIES:
        remedy = "take the activation off with distill_lib.without_last_activation(model)"
        raise ValueError(
            f"{role} must return logits, but {model.name!r} returns probabilities: "
            f"it ends in {activation}; {remedy}"
        )


def _last_layer(functional):
    return functional.outputs[0]._keras_history.operation
