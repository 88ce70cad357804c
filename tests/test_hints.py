"""Hints and logits in one ``fit`` on cached features; the student keeps no projector."""

import keras
import numpy as np
import pytest

from distill_lib import losses
from distill_lib.distiller import (
    CachedTeacherLoss,
    PackedAccuracy,
    pack_targets,
    projector,
    with_hint_output,
    without_hint,
)

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 5)).astype("float32")
LABELS = GENERATOR.integers(0, 3, size=8)
FEATURES = GENERATOR.normal(size=(8, 7)).astype("float16")


def network(kind):
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((5,)),
        keras.layers.Dense(4, activation="tanh", name="hidden"),
        keras.layers.Dense(3, name="logits"),
    ]
    if kind == "sequential":
        return keras.Sequential(layers)
    return keras.Model(layers[0], layers[2](layers[1](layers[0])))


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_hint_and_logits_train_the_student_in_one_fit(kind, tmp_path):
    student = network(kind)
    packed = pack_targets(LABELS, GENERATOR.normal(size=(8, 3)))
    training = with_hint_output(student, "hidden", teacher_channels=7)
    hint = CachedTeacherLoss(losses.hint_loss)
    logits = CachedTeacherLoss(losses.mixed_loss, temperature=4.0)
    training.compile(
        keras.optimizers.Adam(0.01),
        loss={"logits": logits, "hint": hint},
        loss_weights={"logits": 1.0, "hint": 0.5},
        metrics={"logits": [PackedAccuracy()]},
    )
    answers = training(X)
    expected = logits(packed, answers["logits"]) + 0.5 * hint(FEATURES, answers["hint"])
    hint_before, weights_before = float(hint(FEATURES, answers["hint"])), student.get_weights()
    targets = {"logits": packed, "hint": FEATURES}
    history = training.fit(X, targets, batch_size=8, epochs=30, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)
    assert float(hint(FEATURES, training(X)["hint"])) < hint_before
    assert np.abs(student.get_weights()[0] - weights_before[0]).max() > 0.01
    np.testing.assert_array_equal(student(X), training(X)["logits"])
    np.testing.assert_array_equal(without_hint(training)(X), training(X)["logits"])
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert loaded.count_params() == 5 * 4 + 4 + 4 * 3 + 3  # nothing of the projector
    np.testing.assert_allclose(loaded(X), student(X), rtol=1e-6)


def test_projector_for_vectors_sequences_and_maps():
    for shape in ((2, 3), (2, 4, 3), (2, 5, 4, 3)):
        layer = projector((None, *shape[1:]), 7)
        found = layer(np.ones(shape, "float32"))
        assert found.shape == (*shape[:-1], 7)
        assert layer.count_params() == 3 * 7 + 7
    with pytest.raises(ValueError, match="student_features_shape must have 2, 3 or 4 axes"):
        projector((None,), 7)
