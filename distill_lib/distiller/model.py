"""Distillation inside Keras's own training: ``fit``, callbacks, metrics, saving, strategies."""

import keras
import tensorflow as tf
from keras import ops

from distill_lib import counting
from distill_lib.distiller import arguments, judged, objective
from distill_lib.distiller.adjustable import Adjustable
from distill_lib.distiller.class_weights import with_class_weights
from distill_lib.distiller.watch import Watch
from distill_lib.features import ForwardPass, as_functional
from distill_lib.terms import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class Distiller(Adjustable):
    """Train ``student`` on labels and on a teacher, with the habits of Keras's ``Distiller``.

    The loss is ``w * student_loss + (1 - w) * sum_k weight_k * term_k``, plus the student's
    own penalties in full. ``student_loss`` is the loss given to ``compile``, which must take
    logits. A term is the mean of its function under the same sample weights and masks. The
    signals come from ``teacher`` in every step: ``fit(x, labels)``, or ``fit(x)``; or stored
    with y, by the names of the functions' arguments: ``fit(x, {"labels": y, "teacher_logits":
    v})``, features of several layers as a dictionary by layer. What comes with y is not asked
    of a teacher. An entry ``"mask"`` says what counts; it is needed where Keras loses the mask
    on its way, as in the sum of a residual block.

    Labels may be a dictionary by output if the student returns one. ``evaluate(x, labels)``
    without the stored signals measures the student alone: its loss is then the student's loss.
    ``predict`` and ``export`` are those of the student; calling the distiller returns what a
    step needs, ``{"answer": ..., "features": [...]}``. The teacher is frozen, runs in inference
    mode and is never stored: after loading, call ``set_teacher``. Losses that compare examples
    compare those of one replica.

    Args:
        teacher: A ``keras.Model``, or a list of them: a term is then the mean over the
            teachers. ``None``: all signals come with y.
        student: The ``keras.Model`` to be trained.
        distillation_losses: A :class:`~distill_lib.terms.DistillationTerm` or a list of them.
        distillation_loss_weights: Numbers from 0, one for each; ``None`` is 1 for all.
        student_loss_weight: The number w in [0, 1]; at 0, ``compile`` needs no ``loss``.

    Raises:
        ValueError: For these arguments, for probabilities where a term takes logits, for an
            unknown layer, for a signal that nobody gives; in ``fit`` also if the loss becomes
            nan or infinite (the signal, row and step are named).
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
        terms = arguments.checked_terms(distillation_losses)
        arguments.check_student(student, terms)
        weights = arguments.checked_weights(distillation_loss_weights, len(terms))
        student_weight = arguments.checked_student_weight(student_loss_weight)
        # The student casts its inputs itself.
        super().__init__(name=name, dtype=student.dtype_policy, autocast=False)
        self.student = student
        self._set_up(teacher, terms, weights, student_weight)
        self._student_mean = keras.metrics.Mean(name="student_loss")
        self._distillation_mean = keras.metrics.Mean(name="distillation_loss")
        self._term_means = [keras.metrics.Mean(name=one) for one in self.term_names]
        layers = {term.student_layer for term in terms} - {None}
        self._student_pass = ForwardPass(student, layers)
        if functional := as_functional(student):
            self.compute_output_spec(functional.input)  # builds the adapters
            self.built = True

    def call(self, inputs, training=None):
        """Return the student's answer, and out of the same pass the features of each term."""
        answer, found = self._student_pass(inputs, training=training)
        features = []
        for term, adapter in zip(self.distillation_losses, self.adapters, strict=True):
            features.append(counting.applied(adapter, found[term.student_layer]))
        return {"answer": answer, "features": features}

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", **options):
        """As Keras's ``fit``; ``class_weight`` also of tokens, maps and stored signals."""
        weights = options.pop("sample_weight", None)
        if (by_class := options.pop("class_weight", None)) is not None:
            x, y, weights = with_class_weights(self.student, x, y, weights, by_class)
        weights = options["sample_weight"] = arguments.weights_like(y, weights)
        if isinstance(x, tf.data.Dataset):
            options.setdefault("shuffle", False)  # Keras warns that it cannot shuffle
        validation = arguments.checked_validation(options.get("validation_data"))
        options["validation_data"] = validation
        arguments.check_stored(y)
        callbacks = keras.tree.flatten(options.pop("callbacks", None) or [])
        # First, because no later callback shall save weights that are nan.
        watch = Watch((x, y, weights), validation, callbacks)
        options["callbacks"] = [watch, *callbacks]
        return super().fit(x, y, batch_size, epochs, verbose, **options)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", **options):
        """As Keras's ``evaluate``; weights of tokens also beside stored signals."""
        weights = options.pop("sample_weight", None)
        options["sample_weight"] = arguments.weights_like(y, weights)
        return super().evaluate(x, y, batch_size, verbose, **options)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, **options):
        """As Keras's ``train_on_batch``, with the ``class_weight`` of :meth:`fit`."""
        if class_weight is not None:
            data = with_class_weights(self.student, x, y, sample_weight, class_weight)
            x, y, sample_weight = data
        return super().train_on_batch(x, y, sample_weight, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the sum that the class describes, a scalar; its parts go to the metrics."""
        if not isinstance(y_pred, dict) or "answer" not in y_pred:
            raise ValueError(f"call must return 'answer' and 'features', got {y_pred}")
        given = arguments.signals_in(y, self.distillation_losses)
        parts = [self._aggregate_additional_loss(one) for one in self.losses]
        size = ops.shape(keras.tree.flatten(y_pred["answer"])[0])[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        has_labels = self._has_labels(given)
        with_terms = training or self._has_all_signals(given) or not has_labels
        w = self._student_weight.value if with_terms else 1.0
        if has_labels:
            outputs = judged.judged(self.loss, given, y_pred["answer"], sample_weight)
            loss = judged.student_loss(self._compile_loss, outputs)
            self._student_mean.update_state(loss * replicas, size)
            parts.append(w * loss)
        if with_terms and self.distillation_losses:
            values = self._values_of_terms(x, given, y_pred, sample_weight)
            pairs = zip(self._term_weights, values, strict=True)
            total = sum(weight.value * value for weight, value in pairs)
            self._distillation_mean.update_state(total, size)
            for mean, value in zip(self._term_means, values, strict=True):
                mean.update_state(value, size)
            parts.append((1 - w) * total / replicas)
        return sum(parts, 0.0)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Return the metrics of ``compile``, of labels and the student's answer, and ours."""
        given = arguments.signals_in(y, self.distillation_losses)
        if "labels" in given and self._compile_metrics is not None:
            outputs = judged.judged(self.loss, given, y_pred["answer"], sample_weight)
            judged.update_metrics(self._compile_metrics, outputs)
        results = self.get_metrics_result()
        # What `compute_loss` has left out is not 0, it was not measured.
        unmeasured = [] if self._has_labels(given) else ["student_loss"]
        if not self._has_all_signals(given):
            unmeasured += ["distillation_loss", *self.term_names]
        return {name: value for name, value in results.items() if name not in unmeasured}

    def predict_step(self, data):
        """Return the student's answer."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x, training=False)["answer"]

    def export(self, *arguments, **options):
        """Export the student, as its own ``export`` does."""
        return self.student.export(*arguments, **options)

    def get_config(self):
        """Return all but the teacher; weights and knobs with their present values."""
        pairs = zip(self.distillation_losses, self.term_names, strict=True)
        terms = [term.with_knobs(self.get_knobs(name)) for term, name in pairs]
        parts = {"student": self.student, "distillation_losses": terms}
        return {
            **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()},
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "student_loss_weight": self.student_loss_weight,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild the model from :meth:`get_config`, without a teacher."""
        parts = {name: config[name] for name in ("student", "distillation_losses")}
        return cls(**config | keras.saving.deserialize_keras_object(parts, custom_objects))

    def _values_of_terms(self, x, given, y_pred, sample_weight):
        """The value of each term, with the teachers asked if that is needed."""
        asked = [teacher(x, training=False) for teacher in self.live_teachers(given)]
        common = objective.common_signals(self.loss, given, y_pred["answer"])
        weight = judged.weight_of(sample_weight)
        parts = zip(self.distillation_losses, self._knobs, y_pred["features"], strict=True)
        return [
            objective.term_value(
                term, knobs, common | {"student_features": features}, asked, weight
            )
            for term, knobs, features in parts
        ]
