"""One summand of a distillation loss: a pure loss function, its knobs and its layers."""

import inspect
from numbers import Real

import keras
from keras import ops

from distill_lib import losses

PACKAGE = "distill_lib"
for _function in filter(inspect.isfunction, vars(losses).values()):  # so that it can be saved
    keras.saving.register_keras_serializable(PACKAGE)(_function)


@keras.saving.register_keras_serializable(PACKAGE)
class DistillationTerm(keras.distillation.DistillationLoss):
    """A loss function for a :class:`~distill_lib.distiller.Distiller`, or for Keras's own.

    There (no layers, no labels) ``DistillationTerm(soft_target_loss, temperature=4.0)``
    replaces ``LogitsDistillation(temperature=4.0)``, whose default feeds raw logits to a
    divergence of probabilities (Keras 3.12.0 to 3.15.1).

    Args:
        function: takes signals by name, gives one value for each example. Register a function
            of your own with Keras if it is to be saved.
        student_layer, teacher_layer: whose output are the features: a path
            ``"backbone/conv3"``, or a key where the model returns a dict. ``None`` is the key
            ``"features"``, or else the answer.
        adapter: a layer for the student's features, see :mod:`distill_lib.features`.
        name: of the metric; by default the function's.
        **arguments: the knobs of ``function``. A number becomes a ``keras.Variable``, to be
            changed in training: ``term.arguments["temperature"].assign(2.0)``.

    Raises:
        ValueError: a function that does not take ``arguments``, or features where a layer is
            named; on the first batch, a missing signal or whatever ``function`` refuses.
    """

    def __init__(
        self,
        function,
        *,
        student_layer=None,
        teacher_layer=None,
        adapter=None,
        name=None,
        **arguments,
    ):
        self.function, self.adapter = function, adapter
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.name = name or getattr(function, "__name__", type(function).__name__)
        parameters = inspect.signature(function).parameters.values()
        named = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
        self.takes, self._takes_all = {one.name for one in named}, len(named) < len(parameters)
        self.needs = {one.name for one in named if one.default is one.empty} - arguments.keys()
        if not self._takes_all:
            self._check(arguments)
        self.arguments = {key: as_variable(value, key) for key, value in arguments.items()}
        self._unchecked = arguments  # a loss cannot see that a Variable is out of range

    def _check(self, arguments):
        if unknown := sorted(arguments.keys() - self.takes):
            raise ValueError(f"arguments must be those of {self.name}, got {unknown}")
        if not any(name.startswith("student_") for name in self.takes):
            raise ValueError(f"function must take student_logits or the like, got {self.name}")
        for name in ("student_layer", "adapter", "teacher_layer"):
            features = "teacher_features" if name[0] == "t" else "student_features"
            if getattr(self, name) is not None and features not in self.takes:
                raise ValueError(f"{name} needs a function of {features}, got {self.name}")

    @property
    def variables(self):
        """The knobs that are Variables."""
        return [value for value in self.arguments.values() if isinstance(value, keras.Variable)]

    def adapt(self, features):
        """Out of the student's features by layer its own, adapted, with their mask."""
        found = features[self.student_layer]
        mask = getattr(found, "_keras_mask", None)
        found = found if self.adapter is None else self.adapter(found)
        if mask is not None:
            found._keras_mask = mask
        return found

    def asks_beside(self, given):
        """Whether the function needs a teacher's signal that is not among those given."""
        return any(name.startswith("teacher_") for name in self.needs - given.keys())

    def teacher_signals(self, outputs, features):
        """A live teacher's outputs by name, and its features; no gradient goes back."""
        found = {f"teacher_{name}": value for name, value in outputs.items()}
        found["teacher_features"] = features[self.teacher_layer]
        return {name: ops.stop_gradient(value) for name, value in found.items()}

    def mean(self, signals, sample_weight=None):
        """The :func:`~distill_lib.losses.weighted_mean`, with the mask of the student's output.

        Features with a mask of steps are compared step by step, each an example of its own.
        """
        if missing := sorted(self.needs - signals.keys()):
            raise ValueError(f"{self.name} must get {missing}, got {sorted(signals)}")
        if not self._takes_all:
            signals = {name: signals[name] for name in signals.keys() & self.takes}
        if isinstance(signals.get("teacher_features"), dict):
            signals["teacher_features"] = signals["teacher_features"][self.teacher_layer]
        student = next(signals[name] for name in sorted(signals) if name.startswith("student_"))
        mask = getattr(student, "_keras_mask", None)
        by_step = mask is not None and len(mask.shape) > 1 and "student_features" in signals
        if mask is not None and "mask" in self.takes:
            signals["mask"] = mask
        if by_step:
            signals = {name: _steps_as_examples(name, signals[name]) for name in signals}
        values = self._values(signals)
        values = ops.reshape(values, ops.shape(mask)) if by_step else values
        if "mask" in signals and len(mask.shape) > len(values.shape):
            mask = ops.any(mask, axis=-1)  # the function has summed over the steps itself
        return losses.weighted_mean(values, sample_weight, mask)

    def _values(self, signals):
        if self._unchecked is not None:
            self.function(**signals, **self._unchecked)
            self._unchecked = None
        return self.function(**signals, **self.arguments)

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """For Keras's ``Distiller``: the mean over the batch, a scalar."""
        teacher = {"teacher_logits": teacher_outputs, "teacher_features": teacher_outputs}
        student = {"student_logits": student_outputs, "student_features": student_outputs}
        return self.mean(teacher | student)

    def validate_model_compatibility(self, teacher, student):
        """For Keras's ``Distiller``, which gives neither labels nor one pass with features."""
        used = {"student_layer", "teacher_layer", "adapter"}
        names = [name for name in sorted(used) if getattr(self, name) is not None]
        if names := names + sorted({"labels"} & self.needs):
            rule = f"must use none of {names} in Keras's Distiller"
            raise ValueError(f"{self.name} {rule}: take that of distill_lib.distiller")

    def get_config(self):
        """Return what rebuilds the term; a Variable is stored by its present value."""
        config = {key: getattr(self, key) for key in ("student_layer", "teacher_layer", "name")}
        for key in ("function", "adapter"):
            config[key] = keras.saving.serialize_keras_object(getattr(self, key))
        numbers = {
            key: float(one) if isinstance(one, keras.Variable) else one
            for key, one in self.arguments.items()
        }
        return config | {"arguments": numbers}

    @classmethod
    def from_config(cls, config):
        """Rebuild the term from :meth:`get_config`."""
        config = dict(config)
        for key in ("function", "adapter"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config.pop("arguments"), **config)


def as_variable(value, name):
    """A ``keras.Variable`` that is not trained, of a number; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return keras.Variable(float(value), trainable=False, name=name)


def _steps_as_examples(name, signal):
    """``(batch, steps, ...)`` -> ``(batch * steps, ...)``, for features and their mask."""
    shape = (-1,) if name == "mask" else (-1, *signal.shape[2:])
    return ops.reshape(signal, shape) if name == "mask" or "_features" in name else signal
