"""A small task for the tests of many students, and the plainest training by Keras itself."""

import keras
import numpy as np

from distill_lib.training import batch_rows, train_many

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype("float32")
LABELS = RNG.integers(0, 3, 60)
TEACHER = RNG.normal(scale=3, size=(60, 3)).astype("float32")
OPTIONS = {"steps": 12, "batch_size": 8}


def build():
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden), name="small")


def train_by_keras(loss, optimizer, seed, *, make=build, x=X, y=LABELS, weight=None, **options):
    """Keras's own training on one batch after another, with the end that ``fit`` gives it."""
    options = OPTIONS | options
    keras.utils.set_random_seed(seed)
    model = make()
    optimizer.build(model.trainable_variables)  # Keras's fit does so too late for one of them
    model.compile(optimizer, loss=loss)
    for rows in batch_rows(len(x), seed, **options):
        own = None if weight is None else weight[rows]
        model.train_on_batch(x[rows], y[rows], sample_weight=own)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    return model


def train(loss, signals, *, make=build, x=X, seeds=(0, 1), **options):
    return train_many(make, x, signals, loss=loss, seeds=seeds, **OPTIONS | options)


def largest_difference(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)
