"""Inheritance: a student that starts with some of the teacher's weights."""

import keras

from distill_lib.compress.copying import inner_layers

# Entries of a layer's configuration that do not change its answers outside of training.
NOT_FUNCTION = {"name", "trainable", "dtype", "rate", "dropout", "recurrent_dropout", "seed"}
NOT_FUNCTION |= {"momentum", "registered_name", "build_config", "shared_object_id"}
NOT_FUNCTION_ENDS = ("_initializer", "_regularizer", "_constraint")


def inherit_weights(student, teacher, layer_names):
    """Start the student from layers of the teacher, as DistilBERT does (Sanh et al., 2019).

    Args:
        student: a built model, changed in place and returned.
        teacher: a built model.
        layer_names: the names of layers that both have, or ``{student name: teacher name}``.

    Raises:
        ValueError: for no name, for an unknown one, and for a pair of layers without weights,
            with weights of other shapes, or that compute different functions of their weights
            (another class, activation, stride and so on). Then nothing is copied.
    """
    if not isinstance(layer_names, dict):
        layer_names = {name: name for name in layer_names}
    if not layer_names:
        raise ValueError(f"layer_names must hold at least one name, got {layer_names}")
    pairs = []
    for own_name, other_name in layer_names.items():
        other = _layer(teacher, "teacher", other_name)
        own = _layer(student, "student", own_name)
        _check_pair(own, other)
        pairs.append((own, other))
    for own, other in pairs:
        own.set_weights(other.get_weights())
    return student


def _layer(model, role, name):
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise ValueError(f"layer_names must be among the {role}'s {names}, got {name!r}")
    return model.get_layer(name)


def _check_pair(own, other):
    shapes = [weight.shape for weight in own.get_weights()]
    given = [weight.shape for weight in other.get_weights()]
    if not shapes:
        raise ValueError(f"layer_names must name layers with weights, got {own.name!r}")
    if shapes != given:
        rule = f"layer {own.name!r} must get weights of shapes {shapes}"
        raise ValueError(f"{rule}, got {given}")
    expected, found = _functions(own), _functions(other)
    if expected != found:
        rule = f"layer {own.name!r} must compute what the teacher's {other.name!r} computes"
        raise ValueError(f"{rule}, {expected}, got {found}")


def _functions(layer):
    """Return what a layer, or each layer of a model, computes, as class and configuration."""
    parts = inner_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return [(type(one).__name__, _function(one.get_config())) for one in parts]


def _function(config):
    """Return a configuration without the entries that say nothing of the function."""
    if isinstance(config, list):
        return [_function(one) for one in config]
    if not isinstance(config, dict):
        return config
    kept = [key for key in config if key not in NOT_FUNCTION]
    return {key: _function(config[key]) for key in kept if not key.endswith(NOT_FUNCTION_ENDS)}
