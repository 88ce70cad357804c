"""Features of inner layers, out of the forward pass that gives the answer, and their adapters.

A *path* names an inner layer: ``"conv3"``, or ``"backbone/conv3"`` for a layer of the nested
model ``backbone``. Layers are shared with the given model; they are neither copied nor changed.
"""

import inspect

import keras


def with_outputs(model, layers, adapters=None):
    """Build a model on the layers of ``model`` that returns features beside its answer.

    Training the new model trains ``model``, because both have the same layers. To get a model
    without the features back, write ``keras.Model(new.input, new.output["logits"])``.

    Args:
        model: A functional model, or a sequential one with an input; nested at will.
        layers: Paths by the name of the output, such as ``{"features": "backbone/conv3"}``,
            or a list of paths, each of which is then its own name. If a layer is called
            several times, the feature is the output of its first call.
        adapters: Layers such as :func:`projector`, by the name of the output they change. An
            adapter is the regressor of FitNets (Romero et al., 2015).

    Returns:
        A functional ``keras.Model`` whose output is a dictionary: ``"logits"`` (or the entries
        of the dictionary that ``model`` returns), and the names of ``layers``.

    Raises:
        ValueError: If a layer is unknown (the message lists all), if a name is that of an
            output already, if an adapter has no layer, or if ``model`` has no ``keras.Input``.
    """
    paths = dict(layers) if isinstance(layers, dict) else {path: path for path in layers}
    adapters = adapters or {}
    extended = _with_inner_outputs(model, sorted(set(paths.values())))
    answer, found = extended.output
    outputs = outputs_by_name(model, answer)
    if taken := sorted(outputs.keys() & paths.keys()):
        raise ValueError(f"layers must not be named like an output, got {taken}")
    if unknown := sorted(adapters.keys() - paths.keys()):
        raise ValueError(f"adapters must be among the layers {sorted(paths)}, got {unknown}")
    for name, path in paths.items():
        feature = found[path]
        outputs[name] = adapters[name](feature) if name in adapters else feature
    return keras.Model(extended.input, outputs, name=f"{model.name}_with_outputs")


def projector(student_features_shape, teacher_channels, size=None):
    """Make a linear map from the student's channels to the teacher's, for a hint.

    Args:
        student_features_shape: The shape with the batch axis: ``(batch, channels)``,
            ``(batch, steps, channels)`` or ``(batch, rows, columns, channels)``.
        teacher_channels: The number of channels that the teacher's features have.
        size: ``(rows, columns)`` of the teacher's map. It is reached by averaging whole blocks
            if that is possible, or else by bilinear resizing. ``None`` keeps the student's.

    Returns:
        A Keras layer named ``"projector"``: ``Dense``, or for maps a 1 x 1 ``Conv2D``.

    Raises:
        ValueError: If the shape has another number of axes.
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


class ForwardPass:
    """One forward pass of a model that gives its answer and the features of inner layers.

    Args:
        model: A ``keras.Model`` that returns a tensor or a dictionary of tensors.
        layers: Paths of inner layers, or keys of the dictionary that the model returns.

    Raises:
        ValueError: If a functional model has no such layer. A model that hides its graph
            (a subclass of ``keras.Model``) is asked for the key at its first call instead.
    """

    def __init__(self, model, layers):
        self.model, self._keys = model, sorted(set(layers))
        functional = as_functional(model)
        # A lone answer is called logits, but a layer of this name is meant as the layer.
        output = functional.output if functional else dict.fromkeys(self._keys)
        keys = output if isinstance(output, dict) else {}
        self._paths = [name for name in self._keys if name not in keys]
        self._extended = _with_inner_outputs(model, self._paths) if self._paths else model
        self._takes_training = "training" in inspect.signature(model.call).parameters

    def __call__(self, inputs, training=False):
        """Return ``(answer, features)``: what the model returns, and features by layer.

        The features of ``None`` are the output ``"features"``, or else the logits.
        """
        options = {"training": training} if self._takes_training else {}
        answer = self._extended(inputs, **options)
        features = {}
        if self._paths:
            answer, features = answer
        outputs = outputs_by_name(self.model, answer)
        for key in self._keys:
            if key not in features and key not in outputs:
                known = f"{self.model.name}, {sorted(outputs)}"
                raise ValueError(f"layer must be a key of {known}, got {key!r}")
        default = outputs.get("features", outputs.get("logits"))
        return answer, {None: default, **outputs, **features}


def outputs_by_name(model, answer):
    """Return the dictionary that a model returned, or ``{"logits": answer}`` for a tensor."""
    if isinstance(answer, (list, tuple)):
        raise ValueError(f"{model.name} must return one tensor or a dict, got {answer}")
    return dict(answer) if isinstance(answer, dict) else {"logits": answer}


def as_functional(model):
    """Return a functional model of the same layers, or ``None`` if the graph is hidden."""
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0])
    if getattr(model, "inputs", None):
        # A new model, because `clone_model` would also copy the compilation of this one.
        return keras.Model(model.input, model.output)
    return None


def _with_inner_outputs(model, paths):
    """Build the model with the outputs ``(its own, {path: output of that layer})``."""
    functional = as_functional(model)
    if functional is None:
        raise ValueError(f"model must be functional or begin with keras.Input: {model.name}")
    known = sorted(set(_all_paths(model)))
    if unknown := sorted(set(paths) - set(known)):
        raise ValueError(f"layer must be one of {model.name}, {known}, got {unknown}")
    recorder = _Recorder(paths)
    clone = keras.models.clone_model(
        functional, clone_function=_keep_layer, call_function=recorder.call_layer
    )
    return keras.Model(clone.input, (clone.output, {p: recorder.found[p] for p in paths}))


class _Recorder:
    """Calls the layers of a model again, and keeps the outputs that are wanted."""

    def __init__(self, paths):
        self.paths, self.found = paths, {}

    def call_layer(self, layer, *arguments, **options):
        """Call one layer; of a nested model also its own inner layers that are wanted."""
        prefix = f"{layer.name}/"
        inner = [path.removeprefix(prefix) for path in self.paths if path.startswith(prefix)]
        if inner:
            outputs, deeper = _with_inner_outputs(layer, inner)(*arguments, **options)
            for path, feature in deeper.items():
                self.found.setdefault(prefix + path, feature)
        else:
            outputs = layer(*arguments, **options)
        self.found.setdefault(layer.name, outputs)
        return outputs


def _keep_layer(layer):
    return layer


def _all_paths(model):
    for layer in model.layers:
        yield layer.name
        if isinstance(layer, keras.Model) and as_functional(layer):
            yield from (f"{layer.name}/{path}" for path in _all_paths(layer))
