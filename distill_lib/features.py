"""Features of inner layers, out of the forward pass that gives the answer, and their adapters.

Layers are shared, neither copied nor changed. An adapter, the regressor of FitNets (Romero et
al., 2015), belongs to the model that is trained, never to the student or its file.
"""

import inspect

import keras


def with_outputs(model, layers, adapters=None):
    """Build a model on the layers of ``model`` that gives features beside the answer.

    Training it trains ``model``: ``keras.Model(new.input, new.output["logits"])`` again.

    Args:
        model: functional, or sequential with an input; nested at will.
        layers: paths by the name of the output, ``{"features": "backbone/conv3"}``, or a list
            of paths, each its own name. Of a layer called several times, the first output.
        adapters: layers such as :func:`projector` by the name of the output they change.

    Returns:
        a functional ``keras.Model`` whose outputs are a dict: ``"logits"`` (or the entries of
        the dict that ``model`` returns) and the names of ``layers``.

    Raises:
        ValueError: an unknown layer (lists all), a name taken, or no ``keras.Input``.
    """
    paths = dict(layers) if isinstance(layers, dict) else {path: path for path in layers}
    extended = _extended(model, set(paths.values()))
    outputs = outputs_by_name(model, extended.output[0])
    if taken := outputs.keys() & paths.keys():
        raise ValueError(f"layers must not be named like an output, got {sorted(taken)}")
    for name, path in paths.items():
        outputs[name] = (adapters or {}).get(name, lambda x: x)(extended.output[1][path])
    return keras.Model(extended.input, outputs, name=f"{model.name}_with_outputs")


def projector(student_features_shape, teacher_channels, size=None):
    """A linear map from the student's channels to ``teacher_channels``, for a hint.

    Args:
        student_features_shape: with the batch axis: ``(batch, channels)``, ``(batch, steps,
            channels)`` or ``(batch, rows, columns, channels)``.
        size: ``(rows, columns)`` of the teacher's map, reached by averaging whole blocks if
            that is possible, else by resizing (bilinear); ``None`` keeps the student's.

    Returns:
        a keras layer ``"projector"``: ``Dense``, or for maps a 1 x 1 ``Conv2D``.
    """
    shape = tuple(student_features_shape)
    if len(shape) not in ((2, 3, 4) if size is None else (4,)):
        expected = "2, 3 or 4 axes with the batch" if size is None else "4 axes to have a size"
        raise ValueError(f"student_features_shape must have {expected}, got {shape}")
    if len(shape) < 4:
        return keras.layers.Dense(teacher_channels, name="projector")
    linear = keras.layers.Conv2D(teacher_channels, 1, name="projector")
    if size is None or tuple(size) == shape[1:3]:
        return linear
    pairs = list(zip(shape[1:3], size, strict=True))
    if all(here and here % there == 0 for here, there in pairs):
        resize = keras.layers.AveragePooling2D([here // there for here, there in pairs])
    else:
        resize = keras.layers.Resizing(*size, antialias=True)
    return keras.Sequential([resize, linear], name="projector")


def forward_pass(model, layers):
    """A function of ``(inputs, **training)`` to outputs by name and features by layer.

    ``layers`` are paths, or keys where the model returns a dict; the features of layer
    ``None`` are the output ``"features"``, or else the answer.
    """
    layers, paths = set(layers) - {None}, set()
    if functional := as_functional(model):
        paths = layers - outputs_by_name(model, functional.output).keys()
    extended = _extended(model, paths) if paths else model
    accepts_training = "training" in inspect.signature(extended.call).parameters

    def run(inputs, **training):
        answers = extended(inputs, **(training if accepts_training else {}))
        answers, found = answers if paths else (answers, {})
        outputs = outputs_by_name(model, answers)
        for layer in layers - paths - outputs.keys():
            known = f"{model.name}, {sorted(outputs)}"
            raise ValueError(f"layer must be a key of {known}, got {layer!r}")
        answer = outputs.get("features", outputs.get("logits"))
        return outputs, {None: answer, **outputs, **found}

    return run


def outputs_by_name(model, outputs):
    """The dict that a model returned, or its only output as ``{"logits": ...}``."""
    if isinstance(outputs, (list, tuple)):
        raise ValueError(f"{model.name} must return one tensor or a dict, got {outputs}")
    return dict(outputs) if isinstance(outputs, dict) else {"logits": outputs}


def as_functional(model):
    """The model as a functional one of its own layers; ``None`` where they hide their graph."""
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0])
    # A new model also of a functional one: `clone_model` would compile what is compiled.
    return keras.Model(model.input, model.output) if getattr(model, "inputs", None) else None


def _extended(model, paths):
    """The model with the outputs ``(its own, {path: output of that layer})``."""
    if (functional := as_functional(model)) is None:
        raise ValueError(f"model must be functional or begin with keras.Input: {model.name}")
    known = sorted(set(_paths(model)))
    if unknown := sorted(paths - set(known)):
        raise ValueError(f"layer must be one of {model.name}, {known}, got {unknown}")
    found = {}

    def call(layer, *arguments, **settings):
        inner = {p.split("/", 1)[1] for p in paths if p.startswith(f"{layer.name}/")}
        if inner:
            outputs, deeper = _extended(layer, inner)(*arguments, **settings)
            found.update({f"{layer.name}/{path}": x for path, x in deeper.items()} | found)
        else:
            outputs = layer(*arguments, **settings)
        found.setdefault(layer.name, outputs)
        return outputs

    clone = keras.models.clone_model(functional, clone_function=_same, call_function=call)
    return keras.Model(clone.input, (clone.output, {path: found[path] for path in paths}))


def _same(layer):
    return layer


def _paths(model):
    for layer in model.layers:
        yield layer.name
        if isinstance(layer, keras.Model) and as_functional(layer):
            yield from (f"{layer.name}/{path}" for path in _paths(layer))
