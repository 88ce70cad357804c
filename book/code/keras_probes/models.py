"""Probes of what happens to the two models, to their layers, and to saved files."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from .pieces import (
    CLASSES,
    WIDTH,
    Finding,
    TrainingCalls,
    examples,
    network,
    prepared,
    quiet,
    runs,
)


def one_layer_named(candidate):
    """Naming the student's layer alone is used or refused, not ignored: 1 or 0."""
    losses = []
    for student_layer in ("hidden", None):
        try:
            loss = candidate.features(None, student_layer)
            made = prepared(candidate, network(), network(seed=1, width=CLASSES), loss)
            losses.append(made.test_on_batch(*examples(), return_dict=True)["loss"])
        except ValueError:
            return Finding(1.0, 1)
    return Finding(float(not np.isclose(*losses)), 1)


def _images(size, seed):
    """A model of images (8, 8, 1) whose layer "map" has the shape (size, size, 4)."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 1))
    step = 8 // size
    map_ = keras.layers.Conv2D(4, step, strides=step, name="map")(image)
    pooled = keras.layers.GlobalAveragePooling2D()(map_)
    return keras.Model(image, keras.layers.Dense(CLASSES)(pooled))


def unequal_maps(candidate):
    """Maps of 8 × 8 and 1 × 1 are refused, not stretched silently: 1 or 0."""
    loss = candidate.features("map", "map")
    made = prepared(candidate, _images(8, 0), _images(1, 1), loss)
    x, y = np.zeros((4, 8, 8, 1), "float32"), np.zeros(4, int)
    stretched = runs(lambda: made.test_on_batch(x, y), ValueError)
    return Finding(1 - stretched.value, 1)


def unequal_widths(candidate):
    """Layers of different width can be matched, as the documentation says: 1 or 0."""
    loss = candidate.wide_features("hidden", "hidden")

    def step():
        made = prepared(candidate, network(width=2 * WIDTH), network(seed=1), loss)
        made.train_on_batch(*examples())

    return runs(step, ValueError, tf.errors.InvalidArgumentError)


def mixed_precision(candidate):
    """A student in bfloat16 can learn from a teacher in float32: 1 or 0."""

    def step():
        student = network(seed=1)
        half = keras.models.clone_model(student, clone_function=_in_bfloat16)
        made = prepared(candidate, network(), half, candidate.logits(2.0), label_share=0.5)
        made.train_on_batch(*examples())

    return runs(step, ValueError)


def _in_bfloat16(layer):
    return type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})


def _taught(candidate, teacher, student, **options):
    """A distiller after three updates."""
    made = prepared(candidate, teacher, student, candidate.logits(2.0), **options)
    for _ in range(3):
        made.train_on_batch(*examples())
    return made


def teacher_weights(candidate):
    """Training leaves every weight of the teacher as it was: largest change."""
    teacher = network(keras.layers.BatchNormalization())
    before = teacher.get_weights()
    _taught(candidate, teacher, network(seed=1), label_share=0.5)
    pairs = zip(before, teacher.get_weights(), strict=True)
    return Finding(float(max(abs(a - b).max() for a, b in pairs)), 0)


def teacher_mode(candidate):
    """The teacher answers in inference mode: its passes in training mode."""
    counter = TrainingCalls()
    _taught(candidate, network(counter), network(seed=1), label_share=0.5)
    return Finding(float(counter.count), 0)


def teacher_flag(candidate):
    """The teacher can be trained afterwards as before: share of its variables."""
    teacher = network()
    before = len(teacher.trainable_variables)
    _taught(candidate, teacher, network(seed=1))
    return Finding(len(teacher.trainable_variables) / before, 1)


def shared_layers(candidate):
    """A student that shares layers with its teacher keeps them: share of its variables."""
    shared = network()
    middle = shared.get_layer("hidden").output
    student = keras.Model(shared.inputs[0], keras.layers.Dense(CLASSES)(middle))
    before = len(student.trainable_variables)
    prepared(candidate, shared, student, candidate.logits(2.0))
    return Finding(len(student.trainable_variables) / before, 1)


def without_labels(candidate):
    """With no weight on labels, `fit(x)` trains without them: 1 or 0."""
    student = network(seed=1)
    before = student.get_weights()[0]

    made = prepared(candidate, network(), student, candidate.logits(2.0))
    found = runs(lambda: made.fit(examples()[0], verbose=0), ValueError)
    moved = float((student.get_weights()[0] != before).any())
    return found._replace(value=found.value * moved)


def reloaded(candidate):
    """A trained distiller, and the same one saved and loaded again."""
    made = _taught(candidate, network(), network(seed=1), label_share=0.5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "distiller.keras"
        made.save(path)
        with quiet():
            return made, keras.models.load_model(path)


def reloaded_weights(candidate):
    """Weights survive saving and loading: largest change of a prediction."""
    made, loaded = reloaded(candidate)
    x, _ = examples()
    return Finding(float(keras.ops.max(keras.ops.abs(made(x) - loaded(x)))), 0)


def reloaded_training(candidate):
    """What was saved compiled can train when it is loaded: 1 or 0."""
    _, loaded = reloaded(candidate)
    return runs(lambda: loaded.fit(*examples(), verbose=0), AttributeError, ValueError)


PROBES = (
    one_layer_named,
    unequal_maps,
    unequal_widths,
    mixed_precision,
    teacher_weights,
    teacher_mode,
    teacher_flag,
    shared_layers,
    without_labels,
    reloaded_weights,
    reloaded_training,
)
