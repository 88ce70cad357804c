"""A task that the book does not show: a MobileNet of ``keras.applications`` as the teacher.

It ends in a softmax, has batch normalisation and dropout, and sees every picture in a new view.
The pictures are Fashion-MNIST, padded to 32 x 32 in three channels. All values are compared
with NumPy.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from distill_lib import DistillationTerm, Distiller, losses, without_last_activation
from distill_lib.data import load_fashion_mnist

BATCH, TEMPERATURE = 64, 3.0
LABEL_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PARTS = load_fashion_mnist()


def pictures(x, count):
    return np.pad(x[:count], [(0, 0), (2, 2), (2, 2), (0, 0)]).repeat(3, axis=-1)


X, LABELS = pictures(PARTS.x_train, 1024), PARTS.y_train[:1024]
X_NEW, LABELS_NEW = pictures(PARTS.x_validation, 512), PARTS.y_validation[:512]


def mobile_net():
    keras.utils.set_random_seed(0)
    options = {"input_shape": (32, 32, 3), "weights": None, "classes": 10}
    model = keras.applications.MobileNet(alpha=0.25, dropout=0.1, **options)
    for layer in model.layers:  # a few steps: the moving averages must follow quickly
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8
    return model


@pytest.fixture(scope="module")
def application():
    """MobileNet as it comes, with a softmax, trained for a few steps."""
    model = mobile_net()
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(X, LABELS, batch_size=BATCH, epochs=5, verbose=0)
    return model


def student_net(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def view(number, picture, label):
    """A view that the number of the picture decides, the same in each pass."""
    seed = tf.stack([tf.constant(1, "int64"), number])
    picture = tf.image.stateless_random_flip_left_right(picture, seed)
    padded = tf.pad(picture, [[3, 3], [3, 3], [0, 0]])
    return tf.image.stateless_random_crop(padded, (32, 32, 3), seed), label


def fixed_views():
    rows = tf.data.Dataset.from_tensor_slices((X, LABELS))
    return rows.enumerate().map(lambda number, row: view(number, *row)).batch(BATCH)


def new_views():
    """Views that are drawn anew in each pass."""
    rows = tf.data.Dataset.from_tensor_slices((X, LABELS)).shuffle(len(X), seed=0)
    numbers = tf.data.Dataset.random(seed=0, rerandomize_each_iteration=True)
    pairs = tf.data.Dataset.zip(numbers, rows)
    return pairs.map(lambda number, row: view(number, *row)).batch(BATCH)


def distiller_of(teacher, student, optimizer="adam"):
    term = DistillationTerm(losses.soft_target_loss, temperature=TEMPERATURE, name="soft")
    distiller = Distiller(teacher, student, term, student_loss_weight=0.3)
    distiller.compile(optimizer, LABEL_LOSS, metrics=["accuracy"])
    return distiller


def numbers_of(application, student, x, labels):
    """Cross-entropy and T^2 KL of each picture; the teacher's logits are log-probabilities."""
    z = student.predict(x, verbose=0).astype("float64")
    log_v = np.log(application.predict(x, verbose=0).astype("float64"))
    log_p, log_q = log_softmax(log_v / TEMPERATURE, -1), log_softmax(z / TEMPERATURE, -1)
    soft = TEMPERATURE**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
    return -log_softmax(z, -1)[np.arange(len(x)), labels], soft


def test_probabilities_are_refused_and_the_message_names_the_way_out(application):
    with pytest.raises(
        ValueError, match=r"teacher must return logits.*without_last_activation"
    ):
        distiller_of(application, student_net())


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2"])
def test_the_logits_are_those_of_the_softmax(name):
    options = {"input_shape": (32, 32, 3), "weights": None, "classes": 7}
    model = getattr(keras.applications, name)(**options)
    logits = without_last_activation(model)(X[:3])
    np.testing.assert_allclose(softmax(logits, -1), model(X[:3]), atol=1e-6)


def test_the_live_teacher_sees_the_view_that_the_student_sees(application):
    distiller = distiller_of(without_last_activation(application), student_net())
    views = np.concatenate([x for x, _ in fixed_views()])
    assert np.abs(views - X).mean() > 0.02
    found = distiller.evaluate(fixed_views(), verbose=0, return_dict=True)
    hard, soft = numbers_of(application, distiller.student, views, LABELS)
    assert found["student_loss"] == pytest.approx(hard.mean(), rel=1e-4)
    assert found["soft"] == pytest.approx(soft.mean(), rel=1e-3)
    assert found["loss"] == pytest.approx(0.3 * hard.mean() + 0.7 * soft.mean(), rel=1e-3)


def test_random_views_too_are_shared(application):
    """A student that is the teacher differs from it by nothing, whatever view is drawn."""
    teacher = without_last_activation(application)
    passes = [next(iter(views))[0].numpy() for views in [new_views()] * 2]
    assert np.abs(passes[0] - passes[1]).mean() > 0.02
    found = distiller_of(teacher, teacher).evaluate(new_views(), verbose=0, return_dict=True)
    assert abs(found["soft"]) < 1e-5


def test_class_weights_weigh_label_loss_and_term(application):
    by_class = {0: 3.0, 5: 0.5, 6: 0.0}
    teacher = without_last_activation(application)
    distiller = distiller_of(teacher, student_net(), keras.optimizers.SGD(0.0))
    history = distiller.fit(fixed_views(), class_weight=by_class, verbose=0).history
    views = np.concatenate([x for x, _ in fixed_views()])
    hard, soft = numbers_of(application, distiller.student, views, LABELS)
    weights = np.array([by_class.get(label, 1.0) for label in LABELS])
    assert history["student_loss"] == pytest.approx([(weights * hard).mean()], rel=1e-4)
    assert history["soft"] == pytest.approx([(weights * soft).mean()], rel=1e-3)


def test_from_the_first_epoch_to_the_exported_student(application, tmp_path):
    teacher = without_last_activation(application)
    before = [weights.copy() for weights in teacher.get_weights()]
    distiller = distiller_of(teacher, student_net(), keras.optimizers.Adam(0.003))
    soft_before = numbers_of(application, distiller.student, X_NEW, LABELS_NEW)[1].mean()
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=2, restore_best_weights=True)
    options = {"class_weight": {0: 1.5}, "validation_data": (X_NEW, LABELS_NEW)}
    history = distiller.fit(
        new_views(), epochs=6, callbacks=[stop], verbose=0, **options
    ).history
    logits = distiller.predict(X_NEW, verbose=0)
    accuracy = (logits.argmax(-1) == LABELS_NEW).mean()
    assert accuracy == pytest.approx(max(history["val_accuracy"]), abs=1e-6)  # the best epoch's
    assert accuracy > 0.5
    soft_after = numbers_of(application, distiller.student, X_NEW, LABELS_NEW)[1].mean()
    assert soft_after < 0.5 * soft_before
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    distiller.export(tmp_path / "student", verbose=False)
    distiller.student.save(tmp_path / "student.keras")
    exported = tf.saved_model.load(str(tmp_path / "student"))
    np.testing.assert_allclose(exported.serve(X_NEW), logits, atol=1e-5)
    loaded = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(loaded.predict(X_NEW, verbose=0), logits, atol=1e-5)


def test_early_stopping_stops_and_restores_the_weights_of_the_best_epoch(application):
    """With "min" the first epoch is the best, because the accuracy rises in the second."""
    teacher = without_last_activation(application)
    distiller = distiller_of(teacher, student_net(), keras.optimizers.Adam(0.003))
    options = {"mode": "min", "patience": 0, "restore_best_weights": True}
    stop = keras.callbacks.EarlyStopping("val_accuracy", **options)
    validation = (X_NEW, LABELS_NEW)
    history = distiller.fit(
        fixed_views(), epochs=5, validation_data=validation, callbacks=[stop], verbose=0
    ).history["val_accuracy"]
    assert len(history) == 2
    assert history[1] > history[0]
    accuracy = (distiller.predict(X_NEW, verbose=0).argmax(-1) == LABELS_NEW).mean()
    assert accuracy == pytest.approx(history[0], abs=1e-6)
