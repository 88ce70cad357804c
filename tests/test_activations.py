"""Probabilities are seen wherever a model ends in them, and can be taken off."""

import keras
import numpy as np
import pytest
from test_distiller import LABEL_LOSS, LABELS, X, compiled, hint, net, soft, teacher_net

from distill_lib import losses
from distill_lib.activations import last_activation, without_last_activation
from distill_lib.distiller import Distiller
from distill_lib.features import with_outputs
from distill_lib.terms import DistillationTerm


def ending(*layers, shape=(6,)):
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="ending")


def dense(activation=None, **options):
    return keras.layers.Dense(3, activation=activation, **options)


def nested():
    return ending(ending(dense("softmax")))


def dictionary():
    base = ending(dense(), keras.layers.Softmax())
    return keras.Model(base.input, {"logits": base.output, "other": base.input})


SOFTMAX = {
    "activation": lambda: ending(dense("softmax")),
    "Softmax": lambda: ending(dense(), keras.layers.Softmax()),
    "Activation": lambda: ending(dense(), keras.layers.Activation("softmax")),
    "sequential": lambda: keras.Sequential([keras.Input((6,)), dense("softmax")]),
    "operation": lambda: ending(dense(), keras.ops.softmax),
    "cast": lambda: ending(
        dense("softmax"), keras.layers.Activation("linear", dtype="float32")
    ),
    "reshaped": lambda: ending(dense("softmax"), keras.layers.Reshape((3,))),
    "dropped": lambda: ending(dense("softmax"), keras.layers.Dropout(0.1)),
    "nested": nested,
    "dictionary": dictionary,
    "each step": lambda: ending(keras.layers.TimeDistributed(dense("softmax")), shape=(2, 6)),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_softmax_is_found_and_refused(name):
    model = SOFTMAX[name]()
    assert last_activation(model) == "softmax"
    for pair in ((model, net()), (teacher_net(), model)):
        with pytest.raises(
            ValueError, match=r"must return logits, but .*ends in softmax; take"
        ):
            Distiller(*pair, soft())


def test_other_ends_are_told_apart():
    assert last_activation(ending(dense())) == "linear"
    assert last_activation(ending(dense("sigmoid"))) == "sigmoid"
    assert last_activation(ending(dense("relu"))) == "relu"
    assert last_activation(ending(keras.layers.Reshape((6,)))) == "linear"
    assert last_activation(ending(dense("softmax"), dense())) == "linear"
    assert last_activation(ending(keras.layers.Lambda(keras.ops.softmax))) is None
    inputs = keras.Input((6,))
    assert last_activation(keras.Model(inputs, {"a": inputs, "b": inputs})) is None
    assert last_activation(hidden()) is None


def hidden():
    class Hidden(keras.Model):
        def call(self, x):
            return keras.ops.softmax(x)

    return Hidden()


@pytest.mark.parametrize("name", ["activation", "Softmax", "Activation", "operation"])
def test_without_it_the_softmax_of_the_answer_is_the_old_answer(name):
    model = SOFTMAX[name]()
    before = model.get_weights()
    logits = without_last_activation(model)
    assert last_activation(logits) == "linear"
    assert logits.name == "ending_logits"
    np.testing.assert_allclose(keras.ops.softmax(logits(X)), model(X), rtol=1e-5)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    Distiller(logits, net(), soft())


def test_a_copy_of_the_last_layer_keeps_what_can_be_trained():
    model = ending(dense(), dense("sigmoid", trainable=False, name="last"))
    logits = without_last_activation(model)
    assert logits.layers[1] is model.layers[1]
    assert not logits.layers[2].trainable
    np.testing.assert_allclose(keras.ops.sigmoid(logits(X)), model(X), rtol=1e-5)


def test_other_outputs_stay_and_layers_may_have_been_called_twice():
    model = ending(dense(), dense("softmax"))
    extended = with_outputs(model, {"inner": model.layers[1].name})
    found = without_last_activation(extended)(X)
    assert found.keys() == {"logits", "inner"}
    np.testing.assert_allclose(keras.ops.softmax(found["logits"]), model(X), rtol=1e-5)
    np.testing.assert_allclose(found["inner"], model.layers[1](X), rtol=1e-5)
    again = without_last_activation(model)(X)
    np.testing.assert_allclose(again, found["logits"], rtol=1e-5)


def test_logits_stay_what_they_are():
    model = net()
    assert without_last_activation(model) is model


@pytest.mark.parametrize("name", ["nested", "cast", "each step", "relu", "hidden"])
def test_what_cannot_be_taken_off_is_refused(name):
    others = {"relu": lambda: ending(dense("relu")), "hidden": hidden}
    model = {**SOFTMAX, **others}[name]()
    with pytest.raises(ValueError, match="model must end in a layer with a softmax or sigmoid"):
        without_last_activation(model)


# --- losses of labels -------------------------------------------------------------------

PROBABILITY_LOSSES = [
    "sparse_categorical_crossentropy",
    "SparseCategoricalCrossentropy",
    "categorical_focal_crossentropy",
    "crossentropy",
    "kld",
    "poisson",
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.kl_divergence,
    keras.losses.KLDivergence(),
    keras.losses.SparseCategoricalCrossentropy(),
    [keras.losses.SparseCategoricalCrossentropy()],
    {"logits": "sparse_categorical_crossentropy"},
]


@pytest.mark.parametrize("loss", PROBABILITY_LOSSES)
def test_a_loss_of_probabilities_is_refused_for_logits(loss):
    distiller = compiled(Distiller(teacher_net(), net(), soft()), loss=loss)
    with pytest.raises(ValueError, match="loss must take logits: give a loss object with from"):
        distiller.fit(X, LABELS, verbose=0)


def test_a_loss_of_logits_is_refused_for_probabilities():
    student = ending(keras.layers.Dense(5, name="hidden"), dense("softmax"))
    distiller = compiled(Distiller(teacher_net(), student, hint()))
    with pytest.raises(ValueError, match=r"loss must take probabilities \(from_logits=False\)"):
        distiller.fit(X, LABELS, verbose=0)
    right = compiled(distiller, loss="sparse_categorical_crossentropy")
    history = right.fit(X, LABELS, batch_size=24, verbose=0).history
    assert np.isfinite(history["student_loss"][0])


@pytest.mark.parametrize("loss", [LABEL_LOSS, [LABEL_LOSS], "mse", keras.losses.Huber()])
def test_other_losses_are_taken(loss):
    labels = LABELS if loss in (LABEL_LOSS, [LABEL_LOSS]) else np.eye(3)[LABELS]
    distiller = compiled(Distiller(teacher_net(), net(), soft()), loss=loss)
    history = distiller.fit(X, labels, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_other_outputs_may_be_probabilities():
    base = net()
    other = keras.layers.Dense(1, activation="sigmoid", name="other")(base.input)
    student = keras.Model(base.input, {"logits": base.output, "other": other})
    loss = {"logits": LABEL_LOSS, "other": "binary_crossentropy"}
    distiller = compiled(Distiller(teacher_net(), student, soft()), loss=loss)
    y = {"logits": LABELS, "other": (LABELS[:, None] > 0).astype("float32")}
    assert np.isfinite(distiller.fit(X, y, verbose=0).history["loss"][0])


def several(metrics=None, loss=None, term=losses.soft_target_loss):
    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    distiller = Distiller(teacher, student, DistillationTerm(term))
    loss = loss or keras.losses.BinaryCrossentropy(from_logits=True)
    distiller.compile("sgd", loss, metrics=metrics)
    return distiller.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)


def test_several_labels_at_once_have_losses_and_metrics_of_their_own():
    bernoulli = losses.bernoulli_soft_target_loss
    with pytest.raises(ValueError, match="must be bernoulli_soft_target_loss or the like"):
        several()
    for metric in ("accuracy", "acc", keras.metrics.BinaryAccuracy()):
        with pytest.raises(ValueError, match=r"write keras.metrics.BinaryAccuracy\(threshold="):
            several([metric], term=bernoulli)
    right = [keras.metrics.BinaryAccuracy(threshold=0.0)]
    assert np.isfinite(several(right, term=bernoulli).history["loss"][0])
    focal = keras.losses.BinaryFocalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match="a softmax loss"):
        several(loss=focal)
