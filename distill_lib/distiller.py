"""Distillation inside Keras's own training: ``fit``, callbacks, metrics, saving, strategies."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from distill_lib.features import as_functional, forward_pass
from distill_lib.terms import PACKAGE, DistillationTerm, as_variable

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
    All weights are Variables that a callback may assign to. ``class_weight`` weighs terms too.
    Losses that compare examples compare those of one replica.

    Args:
        teacher: a ``keras.Model``, or a list of them: a term is then the mean over teachers.
            ``None``: all signals come with y.
        student: the ``keras.Model`` to be trained.
        distillation_losses: a :class:`~distill_lib.terms.DistillationTerm` or a list.
        distillation_loss_weights: numbers from 0, one for each; ``None`` is 1 for all.
        student_loss_weight: w in [0, 1]; at 0, ``compile`` needs no ``loss``.

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
        _check_model("student", student)
        terms = _checked_terms(distillation_losses)
        w, *weights = _checked_weights(terms, student_loss_weight, distillation_loss_weights)
        # The student casts its inputs itself.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        self.student, self.distillation_losses, self.teacher = student, terms, teacher
        self.student_loss_weight = as_variable(w, "student_loss_weight")
        self.distillation_loss_weights = [as_variable(one, "loss_weight") for one in weights]
        # Keras looks for variables and layers in its own attributes, not in those of a term.
        self._knobs = [knob for term in terms for knob in term.variables]
        self._adapters = [term.adapter for term in terms if term.adapter is not None]
        self._needs_labels = w > 0
        self._student_tracker = keras.metrics.Mean(name="student_loss")
        names = [term.name for term in terms]
        names = [f"{n}_{i + 1}" if names.count(n) > 1 else n for i, n in enumerate(names)]
        self._trackers = [keras.metrics.Mean(name=name) for name in names]
        self._run_student = forward_pass(student, {term.student_layer for term in terms})
        if functional := as_functional(student):
            self.compute_output_spec(functional.input)  # builds the adapters
            self.built = True

    def __setattr__(self, name, value):
        if name != "teacher":
            return super().__setattr__(name, value)
        teachers = value if isinstance(value, (list, tuple)) else [value] * (value is not None)
        for teacher in teachers:
            _check_model("teacher", teacher)
        layers = {term.teacher_layer for term in self.distillation_losses}
        # Past Keras, which would count the teacher's layers among this model's own.
        object.__setattr__(self, "teacher", value)
        object.__setattr__(self, "_ask", [forward_pass(one, layers) for one in teachers])

    def __dir__(self):
        # Saving stores every model that it finds in this list.
        return [name for name in super().__dir__() if name != "teacher"]

    def call(self, inputs, training=None):
        """The student's logits; what the terms need of the same pass goes along unseen."""
        outputs, features = self._run_student(inputs, training=training)
        adapted = [term.adapt(features) for term in self.distillation_losses]
        setattr(outputs["logits"], FOUND, (outputs, adapted))
        return outputs["logits"]

    def fit(self, x=None, y=None, batch_size=None, epochs=1, **options):
        """As Keras's ``fit``; ``class_weight`` is also taken with stored signals."""
        if isinstance(x, tf.data.Dataset):
            options.setdefault("shuffle", False)  # Keras warns that it cannot shuffle
        if isinstance(y, dict) and (by_class := options.pop("class_weight", None)):
            if options.get("sample_weight") is not None or "labels" not in y:
                raise ValueError("class_weight needs y['labels'] and no sample_weight")
            weights = [by_class.get(int(label), 1.0) for label in np.ravel(y["labels"])]
            options["sample_weight"] = np.asarray(weights, "float32")
        return super().fit(x, y, batch_size, epochs, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum that the class describes, a scalar; the parts go to the metrics."""
        given, sample_weight = _by_name(y), _single(sample_weight)
        size, weight = ops.shape(y_pred)[0], self.student_loss_weight.value
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        total = sum((self._aggregate_additional_loss(one) for one in self.losses), 0.0)
        if self._check_labels(given):
            loss = self._compile_loss(given["labels"], y_pred, sample_weight)
            self._student_tracker.update_state(loss * replicas, size)
            total += weight * loss
        means = self._term_means(x, given, y_pred, sample_weight)
        parts = zip(means, self.distillation_loss_weights, self._trackers, strict=True)
        for mean, part, tracker in parts:
            tracker.update_state(mean, size)
            total += (1 - weight) * part.value * mean / replicas
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The metrics of ``compile``, of labels and the student's logits."""
        if "labels" not in (given := _by_name(y)):
            return self.get_metrics_result()
        return super().compute_metrics(x, given["labels"], y_pred, _single(sample_weight))

    def get_config(self):
        """Return all but the teacher; weights and knobs with their present values."""
        parts = {"student": self.student, "distillation_losses": list(self.distillation_losses)}
        return {
            **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()},
            "distillation_loss_weights": [float(w) for w in self.distillation_loss_weights],
            "student_loss_weight": float(self.student_loss_weight),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild the model from :meth:`get_config`, without a teacher."""
        parts = {name: config[name] for name in ("student", "distillation_losses")}
        return cls(**config | keras.saving.deserialize_keras_object(parts, custom_objects))

    def _check_labels(self, given):
        has_loss = self._compile_loss is not None
        if self._needs_labels and not (has_loss and "labels" in given):
            missing = "labels in y" if has_loss else "a loss in compile"
            raise ValueError(f"student_loss_weight must be 0, or else give {missing}")
        return has_loss and "labels" in given

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


def _by_name(y):
    return y if isinstance(y, dict) else {} if y is None else {"labels": y}


def _single(sample_weight):
    """Keras repeats a weight for each entry of y."""
    if isinstance(sample_weight, dict):
        return sample_weight.get("labels", next(iter(sample_weight.values())))
    return sample_weight


def _check_model(name, model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name} must be a keras.Model, got {model!r}")


def _checked_terms(terms):
    terms = list(terms) if isinstance(terms, (list, tuple)) else [terms]
    if wrong := [term for term in terms if not isinstance(term, DistillationTerm)]:
        raise ValueError(f"distillation_losses must be DistillationTerms, got {wrong}")
    return terms


def _checked_weights(terms, student_loss_weight, weights):
    weights = [1.0] * len(terms) if weights is None else list(weights)
    if len(weights) != len(terms) or any(weight < 0 for weight in weights):
        rule = f"be {len(terms)} numbers from 0 like distillation_losses"
        raise ValueError(f"distillation_loss_weights must {rule}, got {weights}")
    if not 0 <= student_loss_weight <= 1:
        raise ValueError(f"student_loss_weight must lie in [0, 1], got {student_loss_weight}")
    return [float(weight) for weight in (student_loss_weight, *weights)]
