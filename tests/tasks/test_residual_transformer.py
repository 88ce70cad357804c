"""A task that the book does not show: a residual transformer that labels the tokens of a text.

The sequences are padded with 0. ``Embedding(mask_zero=True)`` makes a mask of that and Keras's
attention uses it, but the sum of a residual block loses it: neither the label loss nor a term
could know which tokens are real. So the mask comes with y. What the library computes is
compared with NumPy, over the real tokens alone.
"""

from functools import partial

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from distill_lib import (
    DistillationTerm,
    Distiller,
    compute_signals,
    losses,
    projector,
)
from distill_lib.signals import top_k

STEPS, TOKENS, CLASSES, TEMPERATURE = 8, 9, 4, 2.0
LABEL_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def texts(count, seed):
    """Tokens from 1, padded with 0; their labels; and which of them are real.

    The label of a token tells whether it is even, and whether its text holds the token 1. The
    second is known to the attention alone.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(3, STEPS + 1, count)
    is_real = np.arange(STEPS) < lengths[:, None]
    tokens = np.where(is_real, random.integers(1, TOKENS, (count, STEPS)), 0)
    has_one = (tokens == 1).any(axis=1, keepdims=True)
    return tokens, np.where(is_real, tokens % 2 + 2 * has_one, 0), is_real


def transformer(width, seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(TOKENS, width, mask_zero=True)(inputs)
    heard = keras.layers.MultiHeadAttention(2, width // 2)(x, x)
    x = keras.layers.Add(name="after_attention")([x, heard])
    thought = keras.layers.Dense(2 * width, activation="relu")(
        keras.layers.LayerNormalization()(x)
    )
    x = keras.layers.Add(name="hidden")([x, keras.layers.Dense(width)(thought)])
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x))


X, LABELS, IS_REAL = texts(512, seed=0)
X_NEW, LABELS_NEW, IS_REAL_NEW = texts(256, seed=1)


@pytest.fixture(scope="module")
def teacher():
    model = transformer(24, seed=1)
    model.compile(keras.optimizers.Adam(0.01), LABEL_LOSS)
    model.fit(X, LABELS, sample_weight=IS_REAL.astype("float32"), epochs=15, verbose=0)
    right = model.predict(X_NEW, verbose=0).argmax(-1) == LABELS_NEW
    assert right[IS_REAL_NEW].mean() > 0.9  # there is something to learn from it
    return model


def hint():
    layers = {"student_layer": "hidden", "teacher_layer": "hidden"}
    return DistillationTerm(losses.hint_loss, adapter=projector((None, None, 10), 24), **layers)


def soft():
    return DistillationTerm(losses.soft_target_loss, temperature=TEMPERATURE, name="soft")


def soft_top_k():
    """The temperature comes with the stored answers."""
    return DistillationTerm(losses.top_k_soft_target_loss, name="soft")


def distiller_of(teacher, soft_term=None):
    terms = [soft_term or soft(), hint()]
    weights = {"distillation_loss_weights": [1.0, 0.3], "student_loss_weight": 0.4}
    distiller = Distiller(teacher, transformer(10, seed=2), terms, **weights)
    distiller.compile(keras.optimizers.Adam(0.01), LABEL_LOSS, metrics=["accuracy"])
    return distiller


def measured(distiller, x, y):
    return distiller.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True)


def outputs(model, x):
    """Logits and hidden features, by Keras alone."""
    both = keras.Model(model.input, [model.output, model.get_layer("hidden").output])
    return [np.asarray(one, "float64") for one in both(x)]


def by_hand(distiller, teacher, x, labels, is_real):
    """What ``evaluate`` must say, by NumPy, over the real tokens alone."""
    student_logits, student_features = outputs(distiller.student, x)
    teacher_logits, teacher_features = outputs(teacher, x)
    kernel, bias = (np.asarray(one, "float64") for one in distiller.adapters[1].get_weights())
    log_q1 = log_softmax(student_logits, -1)
    cross_entropy = -np.take_along_axis(log_q1, labels[..., None], -1)[..., 0]
    log_p = log_softmax(teacher_logits / TEMPERATURE, -1)
    log_q = log_softmax(student_logits / TEMPERATURE, -1)
    divergence = TEMPERATURE**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
    distance = 0.5 * ((student_features @ kernel + bias - teacher_features) ** 2).mean(-1)
    parts = {"student_loss": cross_entropy, "soft": divergence, "hint_loss": distance}
    found = {name: values[is_real].mean() for name, values in parts.items()}
    found["distillation_loss"] = found["soft"] + 0.3 * found["hint_loss"]
    found["loss"] = 0.4 * found["student_loss"] + 0.6 * found["distillation_loss"]
    found["accuracy"] = (student_logits.argmax(-1) == labels)[is_real].mean()
    return found


def stored_dense(teacher, x):
    answers = compute_signals(teacher, x, layers="hidden", store=lambda logits: logits)
    return {"teacher_logits": answers.logits, "teacher_features": answers.features}


def stored_top_k(teacher, x, k):
    store = partial(top_k, k=k, temperature=TEMPERATURE)
    answers = compute_signals(teacher, x, layers="hidden", store=store)
    return {**answers.logits.arrays_by_name(), "teacher_features": answers.features}


def test_keras_loses_the_mask_so_that_it_must_be_given(teacher):
    embedding = teacher.layers[1](X[:4])
    assert embedding._keras_mask is not None
    assert getattr(teacher(X[:4]), "_keras_mask", None) is None
    distiller = distiller_of(teacher)
    without = measured(distiller, X, LABELS)["loss"]
    wanted = by_hand(distiller, teacher, X, LABELS, IS_REAL)["loss"]
    assert abs(without - wanted) > 0.05


def test_a_live_teacher_gives_the_value_over_real_tokens(teacher):
    distiller = distiller_of(teacher)
    found = measured(distiller, X, {"labels": LABELS, "mask": IS_REAL})
    wanted = by_hand(distiller, teacher, X, LABELS, IS_REAL)
    assert found == pytest.approx(wanted, rel=1e-4)


def test_stored_answers_give_the_value_of_the_live_teacher(teacher):
    distiller = distiller_of(None)
    signals = stored_dense(teacher, X)
    found = measured(distiller, X, {"labels": LABELS, "mask": IS_REAL, **signals})
    wanted = by_hand(distiller, teacher, X, LABELS, IS_REAL)
    assert found == pytest.approx(wanted, rel=2e-3)  # features are stored in float16


@pytest.mark.parametrize("k", [1, 2])
def test_top_k_answers_compare_k_classes_and_all_others_as_one(teacher, k):
    distiller = distiller_of(None, soft_top_k())
    signals = stored_top_k(teacher, X, k)
    found = measured(distiller, X, {"labels": LABELS, "mask": IS_REAL, **signals})
    p, q = (
        np.exp(log_softmax(outputs(m, X)[0] / TEMPERATURE, -1))
        for m in (teacher, distiller.student)
    )
    kept = np.argsort(-p, axis=-1)[..., :k]
    p, q = (np.take_along_axis(one, kept, -1) for one in (p, q))
    p, q = (np.concatenate([one, 1 - one.sum(-1, keepdims=True)], -1) for one in (p, q))
    divergence = TEMPERATURE**2 * (p * np.log(p / q)).sum(-1)
    assert found["soft"] == pytest.approx(divergence[IS_REAL].mean(), rel=5e-3)
    full = by_hand(distiller, teacher, X, LABELS, IS_REAL)
    assert 0 < found["soft"] < full["soft"]  # merging classes lowers a divergence
    assert found["hint_loss"] == pytest.approx(full["hint_loss"], rel=2e-3)


@pytest.mark.parametrize("form", ["live", "dense", "top_k"])
def test_padding_changes_nothing(teacher, form):
    """More padding, and whatever stands there in y, gives the same losses and metrics."""
    if form == "top_k":
        distiller, signals = (
            distiller_of(None, soft_top_k()),
            stored_top_k(teacher, X, 2),
        )
    elif form == "dense":
        distiller, signals = distiller_of(None), stored_dense(teacher, X)
    else:
        distiller, signals = distiller_of(teacher), {}
    y = {"labels": LABELS, "mask": IS_REAL, **signals}
    before = measured(distiller, X, y)
    rubbish = {"mask": False, "labels": -7, "teacher_classes": 200}
    wider = {}
    for name, array in y.items():
        if np.ndim(array) == 1:  # the temperature at which a row was stored
            wider[name] = array
            continue
        fill = rubbish.get(name, np.nan)
        array = np.array(array)
        array[~IS_REAL] = fill
        more = np.full((len(X), 3, *array.shape[2:]), fill).astype(array.dtype)
        wider[name] = np.concatenate([array, more], axis=1)
    after = measured(distiller, np.pad(X, [(0, 0), (0, 3)]), wider)
    assert after == pytest.approx(before, rel=1e-4)
    if (
        form == "top_k"
    ):  # its gradient too: classes that are none, and nan, stand in the padding
        distiller.fit(np.pad(X, [(0, 0), (0, 3)]), wider, verbose=0)
        assert all(np.isfinite(weights).all() for weights in distiller.student.get_weights())


@pytest.mark.parametrize("form", ["live", "top_k"])
def test_the_student_approaches_the_teacher_on_new_texts(teacher, form):
    if form == "live":
        distiller, signals = distiller_of(teacher), {}
    else:
        distiller, signals = (
            distiller_of(None, soft_top_k()),
            stored_top_k(teacher, X, 2),
        )
    before = by_hand(distiller, teacher, X_NEW, LABELS_NEW, IS_REAL_NEW)
    distiller.fit(X, {"labels": LABELS, "mask": IS_REAL, **signals}, epochs=12, verbose=0)
    after = by_hand(distiller, teacher, X_NEW, LABELS_NEW, IS_REAL_NEW)
    assert after["soft"] < 0.2 * before["soft"]
    assert after["hint_loss"] < 0.5 * before["hint_loss"]
    assert after["accuracy"] > before["accuracy"] + 0.3
