"""The same loss in three ways, saved and loaded, and Keras's default that is wrong."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill_lib import losses
from distill_lib.distiller import (
    CachedTeacherLoss,
    KerasDistillationLoss,
    PackedAccuracy,
    pack_targets,
)

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 5)).astype("float32")
LABELS = GENERATOR.integers(0, 3, size=8)
WEIGHTS = np.array([0, 1, 2, 0.5, 3, 1, 0, 1], "float32")
FEATURES = GENERATOR.normal(size=(8, 7)).astype("float16")


def network(width, seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(width, activation="tanh", name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(hidden))


@pytest.fixture
def student():
    return network(4, seed=1)


@pytest.fixture
def teacher():
    model = network(6, seed=2)
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


@pytest.fixture
def packed(teacher):
    return pack_targets(LABELS, teacher(X))


def value_and_gradient(student, loss):
    with tf.GradientTape() as tape:
        value = loss(student(X))
    slopes = tape.gradient(value, student.trainable_variables)
    return float(value), np.concatenate([np.ravel(slope) for slope in slopes])


def mixed(teacher, student_logits, sample_weight=None):
    values = losses.mixed_loss(
        labels=LABELS,
        teacher_logits=teacher(X),
        student_logits=student_logits,
        temperature=4.0,
        soft_weight=0.7,
    )
    return losses.weighted_mean(values, sample_weight)


def keras_distiller(teacher, student, distillation_loss):
    distiller = keras.distillation.Distiller(
        teacher, student, distillation_losses=distillation_loss, student_loss_weight=0.3
    )
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss=hard)
    return distiller


def test_three_ways_give_the_same_number_and_gradient(teacher, student, packed):
    direct, direct_slope = value_and_gradient(student, lambda z: mixed(teacher, z))
    cached = CachedTeacherLoss(losses.mixed_loss, temperature=4.0, soft_weight=0.7)
    value, slope = value_and_gradient(student, lambda z: cached(packed, z))
    np.testing.assert_allclose(value, direct, rtol=1e-6)
    np.testing.assert_allclose(slope, direct_slope, rtol=1e-4, atol=1e-7)
    wrapped = KerasDistillationLoss(losses.soft_target_loss, temperature=4.0)
    distiller = keras_distiller(teacher, student, wrapped)
    value, slope = value_and_gradient(
        student, lambda z: distiller.compute_loss(x=X, y=LABELS, y_pred=z)
    )
    np.testing.assert_allclose(value, direct, rtol=1e-6)
    np.testing.assert_allclose(slope, direct_slope, rtol=1e-4, atol=1e-7)


def test_one_step_of_fit_is_the_same_in_both_trainers(teacher, packed):
    students = [network(4, seed=1), network(4, seed=1)]
    start = students[0].get_weights()
    cached = CachedTeacherLoss(losses.mixed_loss, temperature=4.0, soft_weight=0.7)
    students[0].compile("sgd", loss=cached, metrics=[PackedAccuracy()])
    students[0].fit(X, packed, batch_size=8, verbose=0)
    wrapped = KerasDistillationLoss(losses.soft_target_loss, temperature=4.0)
    keras_distiller(teacher, students[1], wrapped).fit(X, LABELS, batch_size=8, verbose=0)
    for first, a, b in zip(start, *(s.get_weights() for s in students), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        assert np.abs(a - first).max() > 1e-3


def test_keras_default_is_still_wrong(teacher, student):
    """Fails when Keras mends ``LogitsDistillation()``: then amend the book and docstrings."""
    v, z = teacher(X), student(X)
    ours = KerasDistillationLoss(losses.soft_target_loss, temperature=4.0).compute_loss(v, z)
    default = keras.distillation.LogitsDistillation(temperature=4.0).compute_loss(v, z)
    mended = keras.distillation.LogitsDistillation(
        temperature=4.0, loss=keras.losses.KLDivergence()
    ).compute_loss(v, z)
    np.testing.assert_allclose(mended, ours, rtol=1e-4)
    assert abs(float(default) - float(ours)) > 0.1 * float(ours)


def test_sample_weight_counts_in_fit(teacher, student, packed):
    expected = float(mixed(teacher, student(X), WEIGHTS))
    cached = CachedTeacherLoss(losses.mixed_loss, temperature=4.0, soft_weight=0.7)
    student.compile(keras.optimizers.SGD(0.1), loss=cached)
    start = student.get_weights()
    history = student.fit(X, packed, batch_size=8, sample_weight=WEIGHTS, verbose=0)
    np.testing.assert_allclose(history.history["loss"][0], expected, rtol=1e-5)
    assert abs(expected - float(mixed(teacher, student(X)))) > 0.01
    student.set_weights(start)
    student.fit(X, packed, batch_size=8, sample_weight=np.zeros(8), verbose=0)
    for before, after in zip(start, student.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_keras_mask_is_honoured():
    logits = GENERATOR.normal(size=(2, 2, 3, 4)).astype("float32")
    labels, mask = np.array([[0, 1, 2], [3, 0, 0]]), np.array([[1, 1, 1], [1, 0, 0]], bool)
    student_logits = tf.convert_to_tensor(logits[1])
    student_logits._keras_mask = tf.convert_to_tensor(mask)
    found = CachedTeacherLoss(losses.mixed_loss)(
        pack_targets(labels, logits[0]), student_logits
    )
    values = losses.mixed_loss(
        labels=labels, teacher_logits=logits[0], student_logits=logits[1]
    )
    np.testing.assert_allclose(found, np.asarray(values)[mask].mean(), rtol=1e-6)


def test_labels_alone_and_teacher_alone_on_the_same_targets(teacher, student, packed):
    v, z = teacher(X), student(X)
    hard = losses.hard_label_loss(labels=LABELS, student_logits=z)
    control = CachedTeacherLoss(losses.hard_label_loss)
    np.testing.assert_allclose(control(packed, z), np.mean(hard), rtol=1e-6)
    soft = losses.soft_target_loss(teacher_logits=v, student_logits=z, temperature=2.0)
    bare = CachedTeacherLoss(losses.soft_target_loss, temperature=2.0)
    np.testing.assert_allclose(bare(v, z), np.mean(soft), rtol=1e-6)
    from_packed = CachedTeacherLoss(losses.soft_target_loss, temperature=2.0, labelled=True)
    np.testing.assert_allclose(from_packed(packed, z), np.mean(soft), rtol=1e-6)
    with pytest.raises(ValueError, match="teacher_logits must have"):
        bare(packed, z)
    with pytest.raises(ValueError, match=r"y_true must be pack_targets.* got shape \(8, 3\)"):
        control(v, z)


def test_feature_and_relation_losses_are_served_too(student):
    hidden = student.get_layer("hidden")(X)
    cached = CachedTeacherLoss(losses.distance_relation_loss)(FEATURES, hidden)
    direct = losses.distance_relation_loss(teacher_features=FEATURES, student_features=hidden)
    np.testing.assert_allclose(cached, np.mean(direct), rtol=1e-6)
    wrapped = KerasDistillationLoss(losses.distance_relation_loss)
    np.testing.assert_allclose(wrapped.compute_loss(FEATURES, hidden), cached, rtol=1e-6)


def test_a_variable_temperature_can_be_annealed_in_a_compiled_model(teacher, student, packed):
    temperature = keras.Variable(1.0)
    student.compile(loss=CachedTeacherLoss(losses.mixed_loss, temperature=temperature))
    before = student.evaluate(X, packed, verbose=0)
    temperature.assign(8.0)
    expected = losses.mixed_loss(
        labels=LABELS, teacher_logits=teacher(X), student_logits=student(X), temperature=8.0
    )
    after = student.evaluate(X, packed, verbose=0)
    np.testing.assert_allclose(after, np.mean(expected), rtol=1e-5)
    assert abs(after - before) > 0.01


def test_packed_accuracy_by_hand(student, packed):
    metric = PackedAccuracy()
    targets = pack_targets([0, 1, 1], [[0, 9], [9, 0], [0, 9]])
    metric.update_state(targets, np.array([[2.0, 1.0], [0.0, 1.0], [5.0, 1.0]]))
    np.testing.assert_allclose(metric.result(), 2 / 3, rtol=1e-6)
    metric.reset_state()
    metric.update_state(targets, np.array([[2.0, 1.0], [0.0, 1.0], [5.0, 1.0]]), [1, 1, 2])
    np.testing.assert_allclose(metric.result(), 1 / 2, rtol=1e-6)
    student.compile(loss=CachedTeacherLoss(losses.mixed_loss), metrics=[PackedAccuracy()])
    found = student.evaluate(X, packed, verbose=0, return_dict=True)["accuracy"]
    np.testing.assert_allclose(found, np.mean(np.argmax(student(X), axis=1) == LABELS))
    with pytest.raises(ValueError, match="y_true must be pack_targets"):
        metric.update_state(LABELS[:, None], student(X))


def test_compiled_model_and_distillation_loss_survive_saving(student, packed, tmp_path):
    temperature = keras.Variable(3.0)
    loss = CachedTeacherLoss(losses.mixed_loss, temperature=temperature, soft_weight=0.9)
    student.compile("sgd", loss=loss, metrics=[PackedAccuracy()])
    before = student.evaluate(X, packed, verbose=0)
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(loaded.evaluate(X, packed, verbose=0), before, rtol=1e-6)
    wrapped = KerasDistillationLoss(losses.soft_target_loss, temperature=2.5)
    stored = keras.saving.serialize_keras_object(wrapped)
    again = keras.saving.deserialize_keras_object(stored)
    value = wrapped.compute_loss(packed[:, 1:], student(X))
    np.testing.assert_allclose(again.compute_loss(packed[:, 1:], student(X)), value)


def test_labels_stay_exact_under_half_precision():
    teacher_logits = np.zeros((1, 2060), "float16")
    packed, student_logits = pack_targets([2049], teacher_logits), teacher_logits.copy()
    student_logits[0, 2049] = 20
    keras.config.set_floatx("float16")
    try:
        loss = CachedTeacherLoss(losses.mixed_loss, soft_weight=0.0)(packed, student_logits)
    finally:
        keras.config.set_floatx("float32")
    assert float(loss) < 1e-3
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_pack_targets_layout_and_bad_input():
    found = pack_targets(np.array([1, 0]), np.array([[1, 2], [3, 4]], "float16"))
    np.testing.assert_array_equal(found, [[1, 1, 2], [0, 3, 4]])
    assert found.dtype == np.float32
    logits = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"leading shape \(2,\), got \(2, 1\)"):
        pack_targets([[0], [1]], logits)
    for labels in ([0, 3], [-1, 0], [0.5, 1]):
        with pytest.raises(ValueError, match="labels must be integers from 0 to 2, got"):
            pack_targets(labels, logits)
    with pytest.raises(ValueError, match="teacher_logits must be finite"):
        pack_targets([0, 1], np.array([[0, np.inf], [0, 1]]))


def test_functions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="function must not take labels"):
        KerasDistillationLoss(losses.mixed_loss)
    with pytest.raises(ValueError, match="labelled must not be False"):
        CachedTeacherLoss(losses.mixed_loss, labelled=False)
    for function in (keras.losses.mean_squared_error, losses.soft_targets):
        with pytest.raises(ValueError, match="function must take student_logits or"):
            CachedTeacherLoss(function)
    CachedTeacherLoss(functools.partial(losses.mixed_loss, temperature=2.0))
