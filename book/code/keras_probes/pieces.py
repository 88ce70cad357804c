"""What the probes are made of: small models, fixed data, one evaluation or one update."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple

import keras
import numpy as np

TOLERANCE = 1e-3  # of a finding, absolute; every expected value is 0, 1 or a small integer
CLASSES, WIDTH, ROWS = 3, 6, 32
# Two warnings of Keras's own: its feature extractors take a list and are handed a tensor, and
# a distiller that is loaded is not compiled, which is a finding here.
KERAS_WARNINGS = ("The structure of `inputs` doesn't match", r"`compile\(\)` was not called")


class Finding(NamedTuple):
    """A measured number and what it would be if the claim held."""

    value: float
    expected: float
    raised: bool = False  # an error stood in the way, which at least is not silent

    @property
    def outcome(self):
        """ "right", "wrong" (silently) or "raises"."""
        if abs(self.value - self.expected) <= TOLERANCE:
            return "right"
        return "raises" if self.raised else "wrong"


class Candidate(NamedTuple):
    """An implementation of distillation: the class, and the ways to make its losses."""

    distiller: Callable  # of teacher, student, distillation_losses, student_loss_weight
    logits: Callable  # of temperature: a distillation loss between logits
    features: Callable  # of (teacher's layer, student's layer): one between features
    wide_features: Callable  # the same for layers of different width
    cross_entropy: Callable  # of temperature: soft cross-entropy between logits, or None
    label_loss: Callable  # makes the loss for integer labels and a student without softmax
    set_temperature: Callable  # of (distillation loss, temperature), after a first step


@contextmanager
def quiet():
    """Hold back Keras's two warnings, and no other."""
    with warnings.catch_warnings():
        for message in KERAS_WARNINGS:
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


def numbers(*shape, seed=0, scale=1.0):
    """Normal random numbers that are the same everywhere, float32 `shape`."""
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")


def examples():
    """Inputs `(ROWS, WIDTH)` and integer labels `(ROWS,)`."""
    return numbers(ROWS, WIDTH), np.arange(ROWS) % CLASSES


def network(*extra, seed=0, width=WIDTH, **options):
    """A classifier that returns logits: layer "hidden", the extra layers, layer "logits"."""
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(width, activation="relu", name="hidden", **options)
    last = keras.layers.Dense(CLASSES, name="logits")
    model = keras.Sequential([keras.Input((WIDTH,)), hidden, *extra, last])
    return keras.Model(model.inputs[0], model.outputs[0])


def table(logits):
    """A model without hidden layers that answers row i of the unit matrix with `logits[i]`."""
    rows, columns = logits.shape
    layer = keras.layers.Dense(columns, use_bias=False, name="logits")
    model = keras.Sequential([keras.Input((rows,)), layer])
    layer.set_weights([logits])
    return keras.Model(model.inputs[0], model.outputs[0])


class TrainingCalls(keras.layers.Layer):
    """Hands its input on and counts the calls made in training mode."""

    def build(self, input_shape):
        """Make the counter."""
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        """Return `inputs`."""
        if training:
            self.count.assign_add(1.0)
        return inputs


def prepared(candidate, teacher, student, loss, *, label_share=0.0, graph=False, **options):
    """A compiled distiller; plain gradient descent with rate 1, so that updates can be read.

    Runs eagerly unless `graph`: the verdicts are the same, the probes ten times as fast.
    """
    options.setdefault("distillation_losses", [loss])
    pair = {"teacher": teacher, "student": student, "student_loss_weight": label_share}
    made = candidate.distiller(**pair, **options)
    sgd = keras.optimizers.SGD(1.0)
    settings = {"run_eagerly": not graph, "jit_compile": False}
    made.compile(optimizer=sgd, loss=candidate.label_loss(), **settings)
    return made


def evaluated(candidate, teacher, student, loss, x, y, weight=None, **options):
    """The loss of one batch without an update."""
    made = prepared(candidate, teacher, student, loss, **options)
    return float(made.test_on_batch(x, y, weight, return_dict=True)["loss"])


def table_loss(candidate, loss, teacher_logits, student_logits):
    """The mean loss between two arrays of logits `(n, classes)`, from `evaluate` itself."""
    x, y = np.eye(len(teacher_logits), dtype="float32"), np.zeros(len(teacher_logits), int)
    pair = table(teacher_logits), table(student_logits)
    return evaluated(candidate, *pair, loss, x, y)


def table_gradient(candidate, loss, teacher_logits, student_logits):
    """Each example's gradient with respect to the student's logits, read off one update."""
    n = len(teacher_logits)
    student = table(student_logits)
    made = prepared(candidate, table(teacher_logits), student, loss)
    made.train_on_batch(np.eye(n, dtype="float32"), np.zeros(n, int))
    return n * (student_logits - student.get_weights()[0])


def softmax(logits):
    """Probabilities, in float64, without Keras."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype="float64")
    return powers / powers.sum(axis=-1, keepdims=True)


def divergence(teacher_logits, student_logits, temperature):
    """T² KL(p‖q), the mean over examples, without Keras."""
    p, q = (softmax(logits / temperature) for logits in (teacher_logits, student_logits))
    return temperature**2 * (p * np.log(p / q)).sum(axis=-1).mean()


def runs(action, *errors):
    """The finding 1 if `action()` runs, 0 if it raises one of the `errors`; others pass on."""
    try:
        action()
    except errors:
        return Finding(0.0, 1, raised=True)
    return Finding(1.0, 1)
