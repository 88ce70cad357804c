"""Signals: every form gives the teacher's rows; sampling is unbiased, the top k are not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill_lib import signals
from distill_lib.losses import soft_target_loss, soft_targets
from distill_lib.models import build_student
from distill_lib.training import train_many

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(40, 6)).astype("float32")
ROWS = np.array([5, 0, 39, 5])


def probabilities(logits, temperature=1.0):
    return np.asarray(soft_targets(logits, temperature))


def test_an_array_is_a_signal():
    np.testing.assert_array_equal(signals.take(LOGITS, ROWS), LOGITS[ROWS])
    np.testing.assert_array_equal(signals.take(np.arange(40), ROWS), ROWS)


def test_half_precision_keeps_three_digits_and_refuses_what_it_cannot_hold():
    np.testing.assert_allclose(signals.dense(LOGITS), LOGITS, rtol=1e-3)
    assert signals.dense(LOGITS).dtype == np.float16
    for bad in (1e5, np.nan):
        with pytest.raises(ValueError, match="values must be finite in float16"):
            signals.dense([bad])


def test_the_top_k_are_kept_and_the_rest_is_spread_evenly():
    signal = signals.top_k(LOGITS, 2)
    p, found = probabilities(LOGITS), probabilities(signals.take(signal, np.arange(40)))
    for row in range(40):
        best = np.argsort(-p[row])[:2]
        others = np.setdiff1d(np.arange(6), best)
        np.testing.assert_allclose(found[row, best], p[row, best], atol=2e-3)
        np.testing.assert_allclose(found[row, others], p[row, others].mean(), atol=2e-3)
    np.testing.assert_array_equal(
        signals.take(signal, ROWS), signals.take(signal, [5, 0, 39, 5])
    )


def test_with_all_classes_nothing_is_lost():
    found = signals.take(signals.top_k(LOGITS, 6), np.arange(40))
    np.testing.assert_allclose(probabilities(found, 3.0), probabilities(LOGITS, 3.0), atol=1e-3)


def test_a_sure_teacher_gives_finite_rows():
    sure = np.array([[200.0, 0.0, -200.0]])
    for signal in (signals.top_k(sure, 1), signals.top_k(sure, 3), signals.sample(sure, 4)):
        rows = signals.take(signal, [0])
        with tf.GradientTape() as tape:
            z = tf.Variable([[1.0, 2.0, 3.0]])
            loss = soft_target_loss(teacher_logits=rows, student_logits=z)
        assert np.isfinite(loss).all()
        gradient = probabilities(z.numpy()) - [[1, 0, 0]]
        np.testing.assert_allclose(tape.gradient(loss, z), gradient, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_sampling_is_unbiased_and_the_top_k_are_not(temperature):
    """The gradient q - p of the soft target loss, in the mean over many draws."""
    p = probabilities(LOGITS, temperature)
    means = np.mean(
        [
            probabilities(
                signals.take(
                    signals.sample(LOGITS, 8, temperature=temperature, seed=seed), np.arange(40)
                ),
                temperature,
            )
            for seed in range(300)
        ],
        axis=0,
    )
    error = np.abs(means - p)
    assert error.max() < 5 * np.sqrt(0.25 / (8 * 300))
    top = probabilities(signals.take(signals.top_k(LOGITS, 1), np.arange(40)), temperature)
    assert np.abs(top - p).max() > 0.1


def test_samples_are_shares_of_the_draws():
    found = signals.take(signals.sample(LOGITS, 10, temperature=3.0, seed=1), np.arange(40))
    shares = probabilities(found, 3.0) * 10
    np.testing.assert_allclose(shares, np.round(shares), atol=1e-4)
    np.testing.assert_allclose(shares.sum(axis=1), 10, rtol=1e-5)
    np.testing.assert_array_equal(
        found, signals.take(signals.sample(LOGITS, 10, temperature=3.0, seed=1), np.arange(40))
    )


def test_class_numbers_take_the_smallest_type():
    assert signals.top_k(LOGITS, 2).arrays[0].dtype == np.uint8
    assert signals.sample(np.zeros((2, 300)), 2).arrays[0].dtype == np.uint16


def test_a_live_signal_asks_the_teacher_in_inference_mode():
    inputs = keras.Input((6,))
    teacher = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs))
    np.testing.assert_array_equal(
        signals.take(signals.live(teacher, LOGITS), ROWS), LOGITS[ROWS]
    )


@pytest.mark.parametrize("form", ["live", "top_k", "several"])
def test_train_many_takes_every_form(form):
    x = RNG.normal(size=(40, 4)).astype("float32")
    keras.utils.set_random_seed(0)
    teacher = build_student(8, (4,), 6)
    dense = np.asarray(teacher(x))
    forms = {"live": signals.live(teacher, x), "top_k": signals.top_k(dense, 6)}
    forms["several"] = [forms["top_k"], signals.top_k(-dense, 6)]
    options = {"loss": soft_target_loss, "seeds": [0, 1], "steps": 20, "batch_size": 8}

    def trained(signal):
        return train_many(
            lambda: build_student(5, (4,), 6), x, {"teacher_logits": signal}, **options
        )

    expected = trained([dense, -dense] if form == "several" else dense)
    for one, other in zip(trained(forms[form]), expected, strict=True):
        np.testing.assert_allclose(one.get_weights()[0], other.get_weights()[0], atol=2e-3)


def test_a_data_set_keeps_rows_together_in_a_new_order_each_epoch():
    x = np.arange(40)
    data = signals.as_dataset(
        x, {"labels": x * 2, "teacher_logits": LOGITS}, batch_size=16, seed=3
    )
    epochs = [[row for views, _ in data for row in views.numpy()] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(x)
    assert epochs[0] != epochs[1]
    for views, given in data:
        np.testing.assert_array_equal(given["labels"], 2 * views)
        np.testing.assert_array_equal(given["teacher_logits"], LOGITS[views.numpy()])
    plain = signals.as_dataset(x, {}, augment=lambda views: -views)
    np.testing.assert_array_equal(next(iter(plain))[0], -x)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (signals.top_k, (LOGITS, 0), "k must lie between 1 and 6, got 0"),
        (signals.top_k, (LOGITS, 7), "k must lie between 1 and 6, got 7"),
        (signals.sample, (LOGITS, 0), "draws must lie between 1 and .*, got 0"),
        (
            signals.top_k,
            (LOGITS[0], 1),
            r"logits must have the shape \(n, classes\), got \(6,\)",
        ),
    ],
)
def test_bad_input_is_refused_by_name(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
