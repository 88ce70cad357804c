"""Distillation inside Keras's own training: ``fit``, callbacks, metrics, saving, strategies."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from distill_lib.features import as_functional, forward_pass
from distill_lib.terms import PACKAGE, DistillationTerm, as_variable, check_weight

FOUND = "_found_by_the_distiller"  # handed over on the answer: safe with replicas in threads


@keras.saving.register_keras_serializable(PACKAGE)
class Distiller(keras.Model):
    """Train ``student`` on labels and on a teacher, with the habits of Keras's ``Distiller``.

    The loss is ``w * student_loss + (1 - w) * sum_k weight_k * term_k``, plus the student's
    own penalties (regularisers, ``add_loss``) in full. ``student_loss`` is the loss given to
    ``compile``; the terms are means with the same sample weights and masks. Signals come

    * from ``teacher``, in every step: ``fit(x, labels)``, or ``fit(x)`` without labels;
    * with y, stored: ``fit(x, {"labels": y, "teacher_logits": v, "teacher_features": f})``, by
      the names of the losses' arguments; features of several layers as a dict by layer. What
      comes with y is not asked of a teacher.

    Calls, ``predict`` and the metrics are those of ``student_logits``: the student's output,
    or the entry ``"logits"`` if it returns a dict. The teacher runs in inference mode, is
    never changed and never stored: after loading, set ``distiller.teacher``, before ``fit``.

    Args:
        teacher: a ``keras.Model``, or a list of them: a term is then the mean over teachers
            (for the forward KL: the divergence from their mean, up to a constant). ``None``:
            all signals come with y.
        student: the ``keras.Model`` to be trained.
        distillation_losses: a :class:`~distill_lib.terms.DistillationTerm` or a list.
        distillation_loss_weights: numbers from 0, one for each; ``None`` is 1 for all.
        student_loss_weight: w in [0, 1]; at 0, ``compile`` needs no ``loss``.
        name: of the model.

    All weights are Variables that a callback may assign to. ``class_weight`` weighs terms too.
    Losses that compare examples compare those of one replica.

    Raises:
        ValueError: for these arguments, an unknown layer, or a signal that nobody gives.
    """

    def __init__(
        self,
        teacher=None,
        student=None,
        distillation_losses=(),
        distillation_loss_weights=None,
        student_loss_weight=0.5,
        name="distiller",
    ):
        terms = _terms(distillation_losses)
        _check_model("student", student)
        w = check_weight("student_loss_weight", student_loss_weight, most=1)
        # The student casts its inputs itself.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        self.student, self.distillation_losses, self.teacher = student, terms, teacher
        self.student_loss_weight = as_variable(w, "student_loss_weight")
        self.distillation_loss_weights = _term_weights(terms, distillation_loss_weights)
        # Keras looks for variables and layers in its own attributes, not in those of a term.
        self._knobs = [knob for term in terms for knob in term.variables]
        self._adapters = [term.adapter for term in terms if term.adapter is not None]
        self._needs_labels = w > 0
        self._student_tracker = keras.metrics.Mean(name="student_loss")
        self._trackers = [keras.metrics.Mean(name=one) for one in _unique_names(terms)]
        self._run_student = forward_pass(student, {term.student_layer for term in terms})
        if functional := as_functional(student):
            self.compute_output_spec(functional.input)  # builds the adapters
            self.built = True

    def __setattr__(self, name, value):
        if name != "teacher":
            return super().__setattr__(name, value)
        teachers = value if isinstance(value, (list, tuple)) else [value]
        teachers = [] if value is None else teachers
        layers = {term.teacher_layer for term in self.distillation_losses}
        for teacher in teachers:
            _check_model("teacher", teacher)
        # Past Keras, which would count the teacher's layers among this model's own.
        object.__setattr__(self, "teacher", value)
        object.__setattr__(self, "_ask", [forward_pass(one, layers) for one in teachers])

    def __dir__(self):
        # Saving stores every model that it finds in this list.
        return [name for name in super().__dir__() if name != "teacher"]

    def call(self, inputs, training=None):
        """The student's logits; what the terms need of the same pass goes along unseen."""
        outputs, features = self._run_student(inputs, training=training)
        if "logits" not in outputs:
            raise ValueError(f"student must return 'logits', got only {sorted(outputs)}")
        adapted = [term.adapt(features) for term in self.distillation_losses]
        setattr(outputs["logits"], FOUND, (outputs, adapted))
        return outputs["logits"]

    def fit(self, x=None, y=None, batch_size=None, epochs=1, **options):
        """As Keras's ``fit``; ``class_weight`` is also taken with stored signals."""
        if isinstance(x, tf.data.Dataset):
            options.setdefault("shuffle", False)  # Keras warns that it cannot shuffle
        if isinstance(y, dict) and (by_class := options.pop("class_weight", None)):
            if options.get("sample_weight") is not None or "labels" not in y:
                raise ValueError(
                    "class_weight needs y['labels'] and no sample_weight beside it"
                )
            weights = [by_class.get(int(label), 1.0) for label in np.ravel(y["labels"])]
            options["sample_weight"] = np.asarray(weights, "float32")
        return super().fit(x, y, batch_size, epochs, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum that the class describes, a scalar; the parts go to the metrics."""
        labels, given = _split(y)
        sample_weight = _single(sample_weight)
        size, weight = ops.shape(y_pred)[0], self.student_loss_weight.value
        total = sum((self._aggregate_additional_loss(one) for one in self.losses), 0.0)
        if self._check_labels(labels):
            loss = self._compile_loss(labels, y_pred, sample_weight)
            self._student_tracker.update_state(loss * _replica_count(), size)
            total += weight * loss
        signals = given if labels is None else {"labels": labels, **given}
        means = self._term_means(x, signals, y_pred, sample_weight)
        for mean, part, tracker in zip(
            means, self.distillation_loss_weights, self._trackers, strict=True
        ):
            tracker.update_state(mean, size)
            total += (1 - weight) * part.value * mean / _replica_count()
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The metrics of ``compile``, of labels and the student's logits."""
        if (labels := _split(y)[0]) is None:
            return self.get_metrics_result()
        return super().compute_metrics(x, labels, y_pred, _single(sample_weight))

    def get_config(self):
        """Return all but the teacher; weights and knobs with their present values."""
        serialize = keras.saving.serialize_keras_object
        return {
            "student": serialize(self.student),
            "distillation_losses": [serialize(term) for term in self.distillation_losses],
            "distillation_loss_weights": [float(w) for w in self.distillation_loss_weights],
            "student_loss_weight": float(self.student_loss_weight),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild the model from :meth:`get_config`, without a teacher."""
        read = keras.saving.deserialize_keras_object
        student = read(config["student"], custom_objects)
        terms = [read(term, custom_objects) for term in config["distillation_losses"]]
        return cls(**config | {"student": student, "distillation_losses": terms})

    def _check_labels(self, labels):
        if self._needs_labels and (labels is None or self._compile_loss is None):
            missing = "labels in y" if labels is None else "a loss in compile"
            raise ValueError(f"student_loss_weight must be 0, or else give {missing}")
        return labels is not None and self._compile_loss is not None

    def _term_means(self, x, given, y_pred, sample_weight):
        if not hasattr(y_pred, FOUND):  # Keras, building under a strategy, gives a copy
            y_pred = self(x, training=False)
        outputs, adapted = getattr(y_pred, FOUND)
        student = {f"student_{name}": value for name, value in outputs.items()}
        live = any(term.asks_beside(given) for term in self.distillation_losses)
        asked = [ask(x, training=False) for ask in self._ask] if live else []
        for term, features in zip(self.distillation_losses, adapted, strict=True):
            own = {**student, "student_features": features}
            every = [{**own, **term.teacher_signals(*one), **given} for one in asked]
            means = [term.mean(one, sample_weight) for one in every or [own | given]]
            yield sum(means) / len(means)


def _split(y):
    """The labels, or None; and the stored signals."""
    if not isinstance(y, dict):
        return y, {}
    return y.get("labels"), {name: value for name, value in y.items() if name != "labels"}


def _single(sample_weight):
    """Keras repeats a weight for each entry of y."""
    if isinstance(sample_weight, dict):
        return sample_weight.get("labels", next(iter(sample_weight.values())))
    return sample_weight


def _replica_count():
    return tf.distribute.get_strategy().num_replicas_in_sync


def _terms(losses):
    terms = list(losses) if isinstance(losses, (list, tuple)) else [losses]
    for term in terms:
        if not isinstance(term, DistillationTerm):
            raise ValueError(f"distillation_losses must be DistillationTerms, got {term!r}")
    return terms


def _term_weights(terms, weights):
    weights = [1.0] * len(terms) if weights is None else list(weights)
    if len(weights) != len(terms):
        rule = f"have {len(terms)} entries like distillation_losses"
        raise ValueError(f"distillation_loss_weights must {rule}, got {len(weights)}")
    checked = [check_weight("distillation_loss_weights", weight) for weight in weights]
    return [as_variable(weight, "distillation_loss_weight") for weight in checked]


def _check_model(name, model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name} must be a keras.Model, got {model!r}")


def _unique_names(terms):
    names = [term.name for term in terms]
    return [f"{n}_{i + 1}" if names.count(n) > 1 else n for i, n in enumerate(names)]
