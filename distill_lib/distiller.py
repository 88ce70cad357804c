"""The losses inside Keras's own training: its ``Distiller``, and plain ``fit`` on a cache.

Two of the three ways to use a loss (the third is to call it):

* ``keras.distillation.Distiller(..., distillation_losses=KerasDistillationLoss(f))`` runs
  the teacher on every batch of every epoch;
* ``student.compile(loss=CachedTeacherLoss(f))`` and ``fit`` on stored teacher signals run
  it once for all, and honour ``sample_weight`` and masks, which ``Distiller`` drops.
"""

import inspect

import keras
import numpy as np
from keras import ops

from distill_lib import losses
from distill_lib.hints import projector, with_hint_output, without_hint  # noqa: F401

# The arguments by which a loss names the signals that it wants; the first word decides.
NAMES = ("labels", "teacher_logits", "teacher_features", "student_logits", "student_features")
PACKAGE = "distill_lib"
for _name in losses.__all__:  # so that a compiled model can be saved and loaded again
    keras.saving.register_keras_serializable(PACKAGE)(getattr(losses, _name))


class _FunctionLoss:
    """A pure loss function with its arguments, which Keras can store and rebuild."""

    def get_config(self):
        """Return what rebuilds the loss; a Variable is stored by its present value."""
        numbers = {
            name: float(value) if isinstance(value, keras.Variable) else value
            for name, value in self.arguments.items()
        }
        function = keras.saving.serialize_keras_object(self.function)
        return {"function": function, "arguments": numbers}

    @classmethod
    def from_config(cls, config):
        """Rebuild the loss from :meth:`get_config`."""
        config = dict(config)
        function = keras.saving.deserialize_keras_object(config.pop("function"))
        return cls(function, **config.pop("arguments"), **config)


@keras.saving.register_keras_serializable(PACKAGE)
class KerasDistillationLoss(_FunctionLoss, keras.distillation.DistillationLoss):
    """Any loss without labels, for ``keras.distillation.Distiller``.

    ``KerasDistillationLoss(soft_target_loss, temperature=4.0)`` replaces Keras's
    ``LogitsDistillation(temperature=4.0)``, whose default feeds raw logits to a divergence
    of probabilities (Keras 3.12.0 to 3.15.1). With ``student_loss_weight=1 - a`` the total
    is ``mixed_loss(soft_weight=a)``. Features of inner layers are not served here, because
    ``Distiller`` then runs the student twice a step: see :func:`with_hint_output`.

    Args:
        function: takes ``teacher_logits`` and ``student_logits`` (or ``..._features``) by
            name and returns one value for each example.
        **arguments: handed on to ``function`` on every call.

    Raises:
        ValueError: ``function`` needs labels, or names neither logits nor features.
    """

    def __init__(self, function, **arguments):
        self.function, self.arguments = function, arguments
        if "labels" in _signal_names(function):
            raise ValueError(
                "function must not take labels: Distiller adds their loss itself "
                f"(student_loss_weight), got {function}"
            )

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """Return the mean loss of the batch, a scalar."""
        signals = {"teacher": teacher_outputs, "student": student_outputs}
        return ops.mean(_apply(self.function, signals, self.arguments))


@keras.saving.register_keras_serializable(PACKAGE)
class CachedTeacherLoss(_FunctionLoss, keras.losses.Loss):
    """Any loss, for ``compile`` and ``fit`` on stored teacher signals as targets.

    Args:
        function: takes ``student_logits`` (or ``student_features``) and any of ``labels``
            and ``teacher_logits`` (``teacher_features``) by name; one value an example.
            ``hard_label_loss`` works too: the control on the very same targets.
        labelled: whether the targets are :func:`pack_targets` (label in column 0) or bare
            teacher signals. ``None``: packed exactly when ``function`` takes labels.
            ``True`` lets a function without labels read packed targets.
        name, reduction: as in every Keras loss.
        **arguments: handed on to ``function``. A ``keras.Variable`` may be changed between
            steps (for example to anneal the temperature).

    ``class_weight`` of ``fit`` does not understand packed targets (Keras takes their
    argmax for the label); pass ``sample_weight``.

    Raises:
        ValueError: ``labelled=False`` for a ``function`` that needs labels; when called,
            targets whose width does not fit.
    """

    def __init__(
        self,
        function,
        *,
        labelled=None,
        name=None,
        reduction="sum_over_batch_size",
        **arguments,
    ):
        # Labels travel as floats: float32 holds them exactly, half precision would not.
        dtype = keras.backend.result_type(keras.config.floatx(), "float32")
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        needs_labels = "labels" in _signal_names(function)
        if needs_labels and labelled is False:
            raise ValueError(f"labelled must not be False: {function} takes labels, got False")
        self.function, self.arguments = function, arguments
        self.labelled = needs_labels if labelled is None else labelled

    def call(self, y_true, y_pred):
        """Return one loss for each example."""
        signals = {"student": y_pred, "teacher": y_true}
        if self.labelled:
            _check_packed(y_true, y_pred)
            signals["labels"], signals["teacher"] = y_true[..., 0], y_true[..., 1:]
        return _apply(self.function, signals, self.arguments)

    def get_config(self):
        """Return what rebuilds the loss; a Variable is stored by its present value."""
        keras_part = {"name": self.name, "reduction": self.reduction}
        return {**super().get_config(), **keras_part, "labelled": self.labelled}


@keras.saving.register_keras_serializable(PACKAGE)
class PackedAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of examples whose largest logit is the label, for :func:`pack_targets`."""

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(_packed_match, name=name, dtype=dtype)

    def get_config(self):
        """Return what rebuilds the metric."""
        return {"name": self.name, "dtype": self.dtype}


def pack_targets(labels, teacher_logits):
    """Put labels and teacher logits into one array, because ``fit`` takes one target.

    Args:
        labels: integers ``(...)`` from 0 to classes - 1.
        teacher_logits: ``(..., classes)``.

    Returns:
        float32 ``(..., 1 + classes)``: the label in column 0, then the logits.

    Raises:
        ValueError: shapes that do not fit, a label outside, logits that are not finite.
    """
    labels, logits = np.asarray(labels), np.asarray(teacher_logits).astype("float32")
    leading = logits.shape[:-1]
    if labels.shape != leading:
        raise ValueError(f"labels must have the leading shape {leading}, got {labels.shape}")
    if not np.isin(labels, np.arange(logits.shape[-1])).all():
        raise ValueError(
            f"labels must be integers from 0 to {logits.shape[-1] - 1}, "
            f"got values from {labels.min()} to {labels.max()}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("teacher_logits must be finite, got inf or nan (float16 overflow?)")
    return np.concatenate([labels[..., None].astype("float32"), logits], axis=-1)


def _signal_names(function):
    names = [name for name in inspect.signature(function).parameters if name in NAMES]
    if not {"student_logits", "student_features"} & set(names):
        raise ValueError(
            "function must take student_logits or student_features by name, "
            f"got {function} with {names}"
        )
    return names


def _apply(function, signals, arguments):
    named = {name: signals[name.split("_")[0]] for name in _signal_names(function)}
    return function(**named, **arguments)


def _check_packed(y_true, y_pred):
    if y_true.shape[-1] != y_pred.shape[-1] + 1:
        raise ValueError(
            "y_true must be pack_targets(labels, teacher_logits), one column wider than the "
            f"student's {y_pred.shape[-1]} outputs, got shape {tuple(y_true.shape)}"
        )


def _packed_match(y_true, y_pred):
    _check_packed(y_true, y_pred)
    return ops.equal(ops.cast(y_true[..., 0], "int32"), ops.argmax(y_pred, axis=-1))
