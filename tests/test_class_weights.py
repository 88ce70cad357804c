"""Weights of classes: those of the labels, whatever their shape and wherever they are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_distiller import LABEL_LOSS, LABELS, X, compiled, cross_entropy, net

from distill_lib import losses
from distill_lib.distiller import Distiller
from distill_lib.distiller.class_weights import with_class_weights
from distill_lib.terms import DistillationTerm

BY_CLASS = {0: 3.0, 2: 0.5}
TABLE = np.array([3.0, 1.0, 0.5])
RNG = np.random.default_rng(5)
TOKENS, TAGS = RNG.integers(1, 9, (6, 4)), RNG.integers(0, 3, (6, 4))
SOFT = DistillationTerm(losses.soft_target_loss, temperature=3.0)


def weights_of(student, y):
    return with_class_weights(student, X[: len(y)], y, None, BY_CLASS)[2]


def tagger(seed=1):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(9, 4, name="embedding")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(embedded))


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS[:, None], LABELS.astype("float32"), np.eye(3)[LABELS]],
    ids=["numbers", "column", "floats", "one-hot"],
)
def test_each_label_has_the_weight_of_its_class(labels):
    for y in (labels, {"labels": labels, "teacher_logits": None}):
        np.testing.assert_array_equal(
            with_class_weights(net(), X, y, None, BY_CLASS)[2], TABLE[LABELS]
        )


def test_tokens_and_pixels_have_weights_of_their_own():
    np.testing.assert_array_equal(weights_of(tagger(), TAGS), TABLE[TAGS])
    one_hot = np.eye(3, dtype="float32")[TAGS]
    np.testing.assert_array_equal(weights_of(tagger(), one_hot), TABLE[TAGS])
    inputs = keras.Input((2, 2, 1))
    mapper = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    pixels = TAGS.reshape(6, 2, 2)
    np.testing.assert_array_equal(weights_of(mapper, pixels), TABLE[pixels])
    np.testing.assert_array_equal(weights_of(mapper, pixels[..., None]), TABLE[pixels])


def test_what_is_no_class_weighs_one():
    labels = np.array([0, 255, -100, 2])
    np.testing.assert_array_equal(weights_of(net(), labels), [3, 1, 1, 0.5])
    one_hot = np.array([[1, 0, 0], [0, 0, 0]], "float32")
    np.testing.assert_array_equal(weights_of(net(), one_hot), [3, 1])


@pytest.mark.parametrize("column", [False, True])
def test_a_model_with_one_logit_has_two_classes(column):
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    labels = np.array([0, 1, 1, 0])
    _, _, found = with_class_weights(
        student, X[:4], labels[:, None] if column else labels, None, {1: 5.0}
    )
    np.testing.assert_array_equal(found, [1, 5, 5, 1])


@pytest.mark.parametrize("in_dataset", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_tokens_count_with_their_weights_in_every_part(stored, in_dataset):
    """Keras takes the largest tag of a sequence for the class of the whole sequence."""
    teacher, student = tagger(0), tagger(1)
    v, z = teacher.predict(TOKENS, verbose=0), student.predict(TOKENS, verbose=0)
    hard = np.asarray(losses.hard_label_loss(labels=TAGS, student_logits=z))
    soft = np.asarray(
        losses.soft_target_loss(teacher_logits=v, student_logits=z, temperature=3.0)
    )
    layers = {"student_layer": "embedding", "teacher_layer": "embedding"}
    terms = [SOFT] if stored else [SOFT, DistillationTerm(losses.hint_loss, **layers)]
    distiller = Distiller(None if stored else teacher, student, terms)
    compiled(distiller, optimizer=keras.optimizers.SGD(0.0))
    y = {"labels": TAGS, "teacher_logits": v} if stored else TAGS
    options = {"verbose": 0, "class_weight": BY_CLASS}
    if in_dataset:
        data = tf.data.Dataset.from_tensor_slices((TOKENS, y)).batch(6)
        history = distiller.fit(data, **options).history
    else:
        history = distiller.fit(TOKENS, y, batch_size=6, **options).history
    weights = TABLE[TAGS]
    assert history["student_loss"][0] == pytest.approx((weights * hard).mean(), rel=1e-4)
    assert history["soft_target_loss"][0] == pytest.approx((weights * soft).mean(), rel=1e-4)
    if not stored:
        f = [one.get_layer("embedding").get_weights()[0][TOKENS] for one in (teacher, student)]
        hint = 0.5 * np.square(f[0] - f[1]).mean(axis=-1)
        assert history["hint_loss"][0] == pytest.approx((weights * hint).mean(), rel=1e-4)


def test_one_batch_at_a_time_too():
    student = net()
    expected = (TABLE[LABELS] * cross_entropy(student)).mean()
    distiller = compiled(Distiller(None, student, student_loss_weight=1.0))
    found = distiller.train_on_batch(X, LABELS, class_weight=BY_CLASS, return_dict=True)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_of_pixels_do_not_weigh_whole_images():
    """A term of feature maps has one value an image: refused, for which pixel should weigh?"""
    inputs = keras.Input((2, 2, 1))
    features = keras.layers.Conv2D(4, 1, name="map")(inputs)
    mapper = keras.Model(inputs, keras.layers.Conv2D(3, 1)(features))
    layers = {"student_layer": "map", "teacher_layer": "map"}
    term = DistillationTerm(losses.hint_loss, **layers)
    distiller = compiled(Distiller(mapper, mapper, term))
    pixels = TAGS.reshape(6, 2, 2)
    with pytest.raises(ValueError, match="sample_weight must have the leading axes"):
        distiller.fit(X[:6, :4].reshape(6, 2, 2, 1), pixels, class_weight=BY_CLASS, verbose=0)


def hidden():
    class Hidden(keras.Model):
        def call(self, x):
            return x

    return Hidden(name="hidden")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": hidden()}, "class_weight needs a functional student, got 'hidden'"),
        ({"sample_weight": np.ones(24)}, "class_weight needs labels and no sample_weight"),
        ({"by_class": {3: 1.0}}, r"class_weight must have classes from 0 to 2, got \[3\]"),
        ({"by_class": {-1: 1.0}}, r"class_weight must have classes from 0 to 2, got \[-1\]"),
        ({"y": {"teacher_logits": X}}, r"class_weight needs y\['labels'\]"),
        ({"y": {"labels": {"logits": LABELS}}}, r"class_weight needs y\['labels'\]"),
        ({"y": None}, "class_weight needs arrays or a tf.data.Dataset with labels"),
        ({"y": np.array([[1, 1, 0]])}, "labels of one class each, got rows that sum to more"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    options = {"student": net(), "y": LABELS, "sample_weight": None, "by_class": {0: 1.0}}
    options |= change
    with pytest.raises(ValueError, match=message):
        with_class_weights(x=X, **options)


def test_a_data_set_has_no_weights_of_its_own_and_one_class_a_label():
    data = tf.data.Dataset.from_tensor_slices((X, LABELS, np.ones(24))).batch(8)
    with pytest.raises(ValueError, match=r"class_weight needs batches of \(x, y\), got 3"):
        with_class_weights(net(), data, None, None, BY_CLASS)
    several = np.ones((24, 3), "float32")
    data = tf.data.Dataset.from_tensor_slices((X, several)).batch(8)
    data, _, _ = with_class_weights(net(), data, None, None, BY_CLASS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels of one class each"):
        next(iter(data))


def test_weights_of_nothing_change_nothing():
    student = net()
    distiller = compiled(Distiller(None, student, student_loss_weight=1.0), loss=LABEL_LOSS)
    expected = cross_entropy(student).mean()
    history = distiller.fit(X, LABELS, batch_size=24, class_weight={}, verbose=0).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
