"""The checks: a few properties that a sound implementation has, each as one number.

A check takes what is to be tested and returns a `Finding`: the measured number, and the one
that it must be. Nothing is compared with an implementation; the expected numbers come from
the mathematics.
"""

import inspect
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

TOLERANCE = 2e-3
_random = np.random.default_rng(0)
TEACHER = _random.normal(scale=4, size=(8, 10)).astype("float32")  # logits
STUDENT = _random.normal(scale=2, size=(8, 10)).astype("float32")
FEATURES = _random.normal(size=(2, 8, 5)).astype("float32")  # of teacher and student
IMAGES = _random.uniform(size=(64, 12)).astype("float32")


class Finding(NamedTuple):
    """A measured number and the number that it must be."""

    measured: float
    expected: float

    @property
    def right(self):
        """Whether the two agree; nan agrees with nothing."""
        return bool(abs(self.measured - self.expected) <= TOLERANCE)

    def __str__(self):
        verdict = "passes" if self.right else "FAILS"
        numbers = (f"{round(number, 3) + 0:.3f}" for number in self)  # no -0.000
        return "measured {}, must be {}: {}".format(*numbers, verdict)


def mean(loss, teacher, student, **knobs):
    """The mean loss over the examples, as a number."""
    return float(np.mean(loss(teacher_logits=teacher, student_logits=student, **knobs)))


def slope(loss, teacher, student, **knobs):
    """The gradient of the summed loss with respect to the student's logits."""
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = loss(teacher_logits=tf.constant(teacher), student_logits=student, **knobs)
    found = tape.gradient(values, student)
    return np.zeros(student.shape) if found is None else found.numpy()


def ratio(one, other):
    """One over the other; nan where both are zero."""
    return float(one) / float(other) if other else float("nan")


def equal_answers(loss):
    """A student that answers as its teacher does, up to a constant, costs nothing."""
    return Finding(mean(loss, TEACHER, TEACHER + 3), 0)


def sure_teacher(loss):
    """A sure teacher is a label: the loss over the cross-entropy with that label."""
    labels = TEACHER.argmax(axis=1)
    sure = 20 * np.eye(10, dtype="float32")[labels]
    log_q = STUDENT - np.log(np.exp(STUDENT).sum(axis=1, keepdims=True))
    return Finding(mean(loss, sure, STUDENT) / -log_q[range(8), labels].mean(), 1)


def hot_gradient(loss):
    """Hot targets teach as strongly: gradient at twice a high temperature over that at once."""
    sizes = [np.linalg.norm(slope(loss, TEACHER, STUDENT, temperature=t)) for t in (2e3, 1e3)]
    return Finding(ratio(*sizes), 1)


def divided_logits(loss):
    """Only logits over T count: the loss at T = 4 over T^2 times that of quarter logits."""
    whole = mean(loss, TEACHER, STUDENT, temperature=4.0)
    return Finding(ratio(whole, 16 * mean(loss, TEACHER / 4, STUDENT / 4)), 1)


def by_hand(loss):
    """KL of (1/2, 1/2) from (1/4, 3/4), in nats: log 2 - 1/2 log 3."""
    teacher, student = np.log([[[0.5, 0.5]], [[0.25, 0.75]]]).astype("float32")
    return Finding(mean(loss, teacher, student), np.log(2) - np.log(3) / 2)


def pull(loss):
    """The gradient is T (q - p): its size over the size of that."""
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (TEACHER, STUDENT))
    return Finding(np.linalg.norm(slope(loss, TEACHER, STUDENT)) / np.linalg.norm(q - p), 1)


def nothing_in_common(loss, beta=0.1):
    """Answers with nothing in common cost the entropy of the coin b, and never more."""
    teacher, student = np.float32([[50, 0]]), np.float32([[0, 50]])
    entropy = -beta * np.log(beta) - (1 - beta) * np.log(1 - beta)
    return Finding(mean(loss, teacher, student, beta=beta), entropy)


def small_step(loss):
    """A small step of b is a small step of the loss: from 0 (if allowed) to a millionth."""
    near = mean(loss, TEACHER, STUDENT, beta=1e-6)
    try:
        return Finding(abs(mean(loss, TEACHER, STUDENT, beta=0.0) - near), 0)
    except ValueError:
        return Finding(0.0, 0)


def doubled_weights(mean_of):
    """Twice the weight counts twice: the mean with weights of 2 over that with 1."""
    values, ones = tf.constant([1.0, 3.0, 5.0]), np.ones(3, "float32")
    return Finding(float(mean_of(values, 2 * ones) / mean_of(values, ones)), 2)


def repeated_batch(mean_of):
    """The same batch twice has the same mean: the second over the first."""
    values, mask = tf.constant([[1.0, 3.0, 5.0]]), np.array([[True, True, False]])
    twice = mean_of(tf.concat([values] * 2, 0), mask=np.concatenate([mask] * 2))
    return Finding(float(twice / mean_of(values, mask=mask)), 1)


def more_padding(mean_of):
    """Padding counts nowhere: the mean with three more padded steps over that without."""
    values, mask = tf.constant([[1.0, 3.0, 5.0]]), np.array([[True, True, False]])
    longer = mean_of(tf.pad(values, [[0, 0], [0, 3]]), mask=np.pad(mask, [(0, 0), (0, 3)]))
    return Finding(float(longer / mean_of(values, mask=mask)), 1)


def long_and_short(mean_of):
    """Every token counts alike: sequences of three tokens and one, their mean by hand."""
    values = tf.constant([[1.0, 1.0, 1.0], [5.0, 0.0, 0.0]])
    mask = np.array([[True, True, True], [True, False, False]])
    return Finding(float(mean_of(values, mask=mask)), (1 + 1 + 1 + 5) / 4)


def three_points(loss):
    """Three points in line, one step apart, against three with equal distances: by hand."""
    line, triangle = np.float32([[0, 0], [1, 0], [2, 0]]), np.float32([[0, 0], [1, 0], [0, 0]])
    triangle[2] = 0.5, 0.75**0.5
    gaps = np.array([1, 1, 2]) / (4 / 3) - 1
    found = np.mean(loss(teacher_features=line, student_features=triangle))
    return Finding(float(found), np.mean(gaps**2 / 2))


def shuffled_batch(loss):
    """A batch has no order: the mean loss of the batch reordered over that in order."""
    order = [3, 6, 1, 0, 7, 5, 2, 4]
    pairs = FEATURES[:, order], FEATURES
    found = [
        np.mean(loss(teacher_features=teacher, student_features=student))
        for teacher, student in pairs
    ]
    return Finding(float(found[0] / found[1]), 1)


def large_gap(loss):
    """Logits 120 apart are still numbers: entries of the gradient that are not finite."""
    teacher, student = np.float32([[0, 120, 0]]), np.float32([[120, 0, 0]])
    labels = {"labels": np.array([1])} if "labels" in inspect.signature(loss).parameters else {}
    found = slope(loss, teacher, student, temperature=1.0, **labels)
    return Finding(float(np.sum(~np.isfinite(found))), 0)


def sure_and_wrong(loss):
    """A student sure of the wrong class is corrected: the gradient there."""
    teacher, student = np.float32([[0, 50]]), np.float32([[50, 0]])
    return Finding(float(slope(loss, teacher, student)[0, 0]), 1)


def silent_classes(build):
    """Every class can learn: classes whose output moves with no weight, for any image."""
    keras.utils.set_random_seed(0)
    student = build(16, (12,), 10)
    with tf.GradientTape() as tape:
        logits = student(IMAGES)
    bias = next(w for w in student.get_layer("logits").weights if w.name == "bias")
    found = tape.gradient(logits, bias.value)
    return Finding(float(np.sum(found.numpy() == 0)), 0)


def own_answers(batches):
    """The answer belongs to the input: share of rows whose answer is their own."""
    found = [np.all(x == answers, axis=1) for x, answers in batches(IMAGES, IMAGES, seed=0)]
    return Finding(float(np.mean(found)), 1)


def next_tokens(pairs):
    """Logits that predict every next token leave no surprise: its mean in nats."""
    tokens = np.array([[2, 0, 1, 1], [1, 2, 2, 0]])
    logits = 50 * np.eye(3)[np.roll(tokens, -1, axis=1)]
    tokens, logits = (np.asarray(array) for array in pairs(tokens, logits))
    log_q = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return Finding(-np.mean(np.take_along_axis(log_q, tokens[..., None], axis=-1)), 0)


def mean_target(stored):
    """Stored answers are unbiased: the largest error of their mean probabilities."""
    p = 1 / np.arange(1, 11)  # as words are distributed
    p /= p.sum()
    rows = np.asarray(stored(np.tile(np.log(p), (100_000, 1)), 4))
    made = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    return Finding(float(np.abs(made.mean(axis=0) - p).max()), 0)


class Witness(layers.Layer):
    """Passes its input on, and counts the calls in training mode."""

    def __init__(self, **options):
        super().__init__(**options)
        self.awake = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs, training=None):
        """The input as it is."""
        if training:
            self.awake.assign_add(1.0)
        return inputs


def network(width, seed):
    """A network with a witness, dropout and batch normalisation."""
    keras.utils.set_random_seed(seed)
    hidden = [layers.Dense(width), layers.BatchNormalization(name="norm"), layers.Dropout(0.5)]
    return keras.Sequential([keras.Input((12,)), Witness(), *hidden, layers.Dense(10)])


def moved(model, action):
    """How far an action moves the weights and statistics of a model, at most."""
    before = model.get_weights()
    action()
    after = model.get_weights()
    return max(float(np.abs(a - b).max()) for a, b in zip(after, before, strict=True))


def teacher_stays(trainer):
    """Training the student leaves the teacher as it is: the largest change of its weights."""
    student, teacher = network(8, seed=1), network(32, seed=2)
    return Finding(moved(teacher, lambda: trainer(student, teacher).fit(IMAGES)), 0)


def dropout_stays(trainer, epochs=4):
    """Evaluation in between changes no mode: training passes of the student in 4 epochs."""
    student, teacher = network(8, seed=1), network(32, seed=2)
    trainer(student, teacher).fit(IMAGES, epochs=epochs, x_test=IMAGES)
    return Finding(float(student.layers[0].awake.numpy()), epochs)


def looking_changes_nothing(evaluate):
    """Evaluation is no training: the largest change of the student's weights by it."""
    student = network(8, seed=1)
    return Finding(moved(student, lambda: evaluate(student, "norm", IMAGES)), 0)
