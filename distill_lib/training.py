"""Training that makes a comparison fair: the seed, and nothing else, decides the luck.

The loop is Keras's own ``fit``. This module only fixes what ``fit`` leaves open: with one
seed, any two losses start from the same weights and see the same batches in the same order.
"""

import logging

import keras
import numpy as np
import tensorflow as tf

# One call into TensorFlow runs this many updates: for a small network on two cores about
# half the time goes into the calls otherwise. Ctrl-C and callbacks act between calls.
STEPS_PER_CALL = 50

# Each training compiles its own step, on purpose; TensorFlow takes many of them for a mistake.
logging.getLogger("tensorflow").addFilter(
    lambda record: "triggered tf.function retracing" not in record.getMessage()
)


def train(build, x, y, *, loss, seed, **options):
    """Train one new model; :func:`train_seeds` explains the arguments.

    Args:
        seed: integer from 0; decides the initial weights, the order of the batches, and
            the dropout masks. The same seed gives the same result on the same machine.

    Returns:
        the trained ``keras.Model``, uncompiled.
    """
    return train_seeds(build, x, y, loss=loss, seeds=[seed], **options)[0]


def train_seeds(
    build,
    x,
    y,
    *,
    loss,
    seeds,
    steps=1000,
    batch_size=128,
    learning_rate=1e-3,
    metrics=(),
    callbacks=(),
):
    """Train a new model for each seed, with Adam and a constant learning rate.

    The model is compiled once and reset for each seed: its weights to those of a new model,
    its optimiser to zero. The results equal, to the last bit, those of separate trainings.

    Args:
        build: function without arguments that returns a new, built ``keras.Model``.
        x: array ``(n, ...)`` of inputs.
        y: array ``(n, ...)`` of whatever ``loss`` takes as ``y_true``: labels, targets,
            teacher outputs, or labels packed together with teacher outputs.
        loss: a Keras loss, or a function of ``(y_true, y_pred)``.
        seeds: integers from 0.
        steps: number of updates.
        batch_size: examples in every batch; there is no smaller last one, a batch may
            reach over the end of a pass into the next.
        learning_rate: a number, or a Keras schedule.
        metrics: Keras metrics.
        callbacks: Keras callbacks; the whole training is one epoch.

    Returns:
        a list of trained ``keras.Model``, one for each seed, in the order of ``seeds``. They
        are uncompiled; ``model.history`` is the ``History`` of the ``fit``.

    Raises:
        ValueError: lengths of ``x`` and ``y`` differ, or a count is below 1, or ``build``
            returns a model without weights.
    """
    _check(x, y, steps, batch_size)
    worker, start, models = None, None, []
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        model = _new_model(build)
        if worker is None:
            worker, start = _compiled_copy(build, loss, learning_rate, metrics)
        _assign(worker.variables, _values(model.variables))
        _assign(worker.optimizer.variables, start)
        batches = shuffled_batches(x, y, seed=seed, steps=steps, batch_size=batch_size)
        options = {"shuffle": False, "callbacks": list(callbacks), "verbose": 0}
        model.history = worker.fit(batches, **options)
        _assign(model.variables, _values(worker.variables))
        models.append(model)
    return models


def shuffled_batches(x, y, *, seed, steps, batch_size=128):
    """Batches from one shuffled pass over the data after another, cut at ``steps`` batches.

    Args:
        x, y: arrays of the same length n.
        seed: integer from 0 that alone decides the order.
        steps: number of batches.
        batch_size: examples in each batch.

    Returns:
        a ``tf.data.Dataset`` of ``steps`` pairs ``(batch_size, ...)``.
    """
    rng = np.random.default_rng(seed)
    count, passes = steps * batch_size, -(-steps * batch_size // len(x))
    order = np.concatenate([rng.permutation(len(x)) for _ in range(passes)])
    rows = tf.data.Dataset.from_tensor_slices(order[:count].reshape(steps, batch_size))
    x, y = tf.constant(x), tf.constant(y)
    return rows.map(lambda i: (tf.gather(x, i), tf.gather(y, i))).prefetch(2)


def _new_model(build):
    model = build()
    if not model.built or not model.trainable_variables:
        raise ValueError(
            "build must return a model that is built (give it a keras.Input) and has "
            f"trainable weights, got {model.name!r}"
        )
    return model


def _compiled_copy(build, loss, learning_rate, metrics):
    """A compiled model, and the values of its optimiser before the first update."""
    worker = _new_model(build)
    worker.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=loss,
        metrics=list(metrics),
        steps_per_execution=STEPS_PER_CALL,
    )
    worker.optimizer.build(worker.trainable_variables)
    return worker, _values(worker.optimizer.variables)


def _values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _check(x, y, steps, batch_size):
    if len(x) != len(y):
        raise ValueError(f"y must have one entry for each of {len(x)} inputs, got {len(y)}")
    for name, value in (("len(x)", len(x)), ("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
