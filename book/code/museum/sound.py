"""What this book's library does in the places where an exhibit is more than one loss."""

import functools

import keras
import numpy as np

from distill_lib import losses, signals, training
from distill_lib.distiller import Distiller
from distill_lib.terms import DistillationTerm

target_part = functools.partial(losses.decoupled_loss, non_target_weight=0.0)


def batches(x, teacher_logits, seed, batch_size=32):
    """Batches of inputs and of the teacher's stored answers, both by row number."""
    orders = training.batch_rows(len(x), seed, len(x) // batch_size, batch_size)
    return [(x[rows], signals.take(teacher_logits, rows)) for rows in orders]


def sampled(logits, count):
    """`count` draws for each example, decoded to dense logits."""
    return signals.take(signals.sample(logits, count), np.arange(len(logits)))


class Trainer:
    """The library's Distiller, with the teacher's answers alone."""

    def __init__(self, student, teacher):
        term = DistillationTerm(losses.soft_target_loss)
        self.model = Distiller(teacher, student, term, student_loss_weight=0.0)
        self.model.compile(keras.optimizers.SGD(0.1))

    def fit(self, x, epochs=1, x_test=None):
        """One step an epoch, on all examples."""
        looks = None if x_test is None else (x_test, None)
        options = {"batch_size": len(x), "validation_data": looks, "verbose": 0}
        self.model.fit(x, epochs=epochs, **options)


def evaluate_with_features(student, layer, x):
    """The mean hint loss of a layer against itself, by `Distiller.evaluate`."""
    layers = {"student_layer": layer, "teacher_layer": layer}
    term = DistillationTerm(losses.hint_loss, **layers)
    teacher = keras.models.clone_model(student)
    model = Distiller(teacher, student, term, student_loss_weight=0.0)
    model.compile("sgd")
    return model.evaluate(x, batch_size=len(x), verbose=0)
