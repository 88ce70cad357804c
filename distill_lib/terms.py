"""One summand of a distillation loss: a loss function, its knobs, and its layers."""

import inspect
from numbers import Real
from types import MappingProxyType

import keras

from distill_lib import losses
from distill_lib.mean_loss import mean_loss, parameters_of

PACKAGE = "distill_lib"
for _function in filter(inspect.isfunction, vars(losses).values()):  # so that it can be saved
    keras.saving.register_keras_serializable(PACKAGE)(_function)


@keras.saving.register_keras_serializable(PACKAGE)
class DistillationTerm(keras.distillation.DistillationLoss):
    """A loss function for a :class:`~distill_lib.distiller.Distiller`, or for Keras's own.

    A term only describes; it holds no variables, so several distillers may be given the same
    one. Each of them makes its own copy of the adapter and its own variables of the knobs.

    In Keras's distiller, ``DistillationTerm(soft_target_loss, temperature=4.0)`` replaces
    ``LogitsDistillation(temperature=4.0)``, whose default compares raw logits with a divergence
    of probabilities (Keras 3.12.0 to 3.15.1). There a term can use neither layers nor labels.

    Args:
        function: Takes signals by name and returns one value for each example, such as the
            functions of :mod:`distill_lib.losses`. A function of your own must be registered
            with Keras if the distiller is to be saved.
        student_layer: The layer whose output is ``student_features``: a path such as
            ``"backbone/conv3"``, or a key of the dictionary that the student returns. ``None``
            means the key ``"features"``, or the student's logits if there is no such key.
        teacher_layer: The same for ``teacher_features``.
        adapter: A layer that is applied to the student's features and trained with it, such as
            :func:`~distill_lib.features.projector`.
        name: The name of the metric; by default that of the function.
        **knobs: The other arguments of ``function``. To change a number while a distiller
            trains, call its ``set_knobs``. A ``keras.Variable`` is used as it is.

    Raises:
        ValueError: If the function does not take a knob, if a knob is out of range, or if a
            layer is named although the function takes no features.
    """

    def __init__(
        self,
        function,
        *,
        student_layer=None,
        teacher_layer=None,
        adapter=None,
        name=None,
        **knobs,
    ):
        self.function, self.adapter = function, adapter
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.name = name or getattr(function, "__name__", type(function).__name__)
        named, self.takes_everything = parameters_of(function)
        self.takes = set(named)
        required = {name for name, one in named.items() if one.default is one.empty}
        self.needs = required - knobs.keys()
        self.knobs = MappingProxyType(dict(knobs))  # read-only: a change would reach nobody
        self._check()

    def __repr__(self):
        parts = [self.name]
        for name in ("student_layer", "teacher_layer", "adapter"):
            if getattr(self, name) is not None:
                parts.append(f"{name}={getattr(self, name)!r}")
        parts += [f"{name}={value}" for name, value in self.knobs.items()]
        return f"DistillationTerm({', '.join(parts)})"

    def _check(self):
        self.check_knobs(self.knobs)
        if self.takes_everything:
            return
        if not any(name.startswith("student_") for name in self.takes):
            raise ValueError(f"function must take student_logits or the like, got {self.name}")
        for name in ("student_layer", "adapter", "teacher_layer"):
            features = "teacher_features" if name == "teacher_layer" else "student_features"
            if getattr(self, name) is not None and features not in self.takes:
                raise ValueError(f"{name} needs a function of {features}, got {self.name}")

    def check_knobs(self, knobs):
        """Raise ``ValueError`` for a knob that the function does not take or cannot use."""
        unknown = sorted(knobs.keys() - self.takes)
        if unknown and not self.takes_everything:
            raise ValueError(f"knobs must be arguments of {self.name}, got {unknown}")
        is_ours = getattr(self.function, "__module__", "").startswith("distill_lib.losses")
        for name, value in knobs.items():
            if is_ours and is_number(value):
                losses.check_knob(name, value)

    def uses(self, name):
        """Return whether the function takes the signal ``name``."""
        return self.takes_everything or name in self.takes

    def lacks(self, names):
        """Return the signals, sorted, that the function needs beside those named."""
        return sorted(self.needs - set(names))

    def value_of(self, signals, knobs, sample_weight=None):
        """Return the :func:`~distill_lib.mean_loss.mean_loss` of the function, a scalar.

        Args:
            signals: Tensors by name, the features of this term and a ``"mask"`` among them.
            knobs: Numbers or Variables by name.
            sample_weight: Numbers of the leading axes of the function's values.

        Raises:
            ValueError: If a signal is missing, or whatever the function refuses.
        """
        if missing := self.lacks(signals):
            raise ValueError(f"{self.name} must get {missing}, got {sorted(signals)}")
        if sample_weight is not None:
            signals = {**signals, "sample_weight": sample_weight}
        return mean_loss(self.function, signals, knobs)[0]

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """Return the mean over the batch, a scalar, for Keras's ``Distiller``."""
        signals = {"teacher_logits": teacher_outputs, "teacher_features": teacher_outputs}
        signals |= {"student_logits": student_outputs, "student_features": student_outputs}
        return self.value_of(signals, dict(self.knobs))

    def validate_model_compatibility(self, teacher, student):
        """Refuse what Keras's ``Distiller`` does not give: labels, and features of layers."""
        layers = ("adapter", "student_layer", "teacher_layer")
        names = [name for name in layers if getattr(self, name) is not None]
        if "labels" in self.needs:
            names.append("labels")
        if names:
            rule = f"must use none of {names} in Keras's Distiller"
            raise ValueError(f"{self.name} {rule}: take that of distill_lib.distiller")

    def get_config(self):
        """Return what rebuilds the term; of a Variable its present value."""
        config = {key: getattr(self, key) for key in ("student_layer", "teacher_layer", "name")}
        for key in ("function", "adapter"):
            config[key] = keras.saving.serialize_keras_object(getattr(self, key))
        return config | {"knobs": {name: _plain(one) for name, one in self.knobs.items()}}

    @classmethod
    def from_config(cls, config):
        """Rebuild the term from :meth:`get_config`."""
        config = dict(config)
        for key in ("function", "adapter"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config.pop("knobs"), **config)

    def with_knobs(self, knobs):
        """Return the same term with other values of its knobs."""
        layers = {"student_layer": self.student_layer, "teacher_layer": self.teacher_layer}
        options = {"adapter": self.adapter, "name": self.name, **layers}
        return DistillationTerm(self.function, **options, **{**self.knobs, **knobs})


def is_number(value):
    """Return whether a knob is a number, which may be changed, and not a flag or an array."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _plain(value):
    """A knob as it is written into a file."""
    return float(value) if isinstance(value, keras.Variable) else value
