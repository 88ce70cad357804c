"""Signals: a live teacher, many students and data sets take every form; rows stay together."""

import keras
import numpy as np
import pytest

from distill_lib import signals
from distill_lib.losses import soft_target_loss
from distill_lib.models import build_student
from distill_lib.training import train_many

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(40, 6)).astype("float32")
ROWS = np.array([5, 0, 39, 5])


def two_inputs(outputs=lambda logits: logits):
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    logits = keras.layers.Subtract()([a, b])
    return keras.Model({"a": a, "b": b}, outputs(logits))


def test_a_live_signal_asks_the_teacher_in_inference_mode():
    inputs = keras.Input((6,))
    teacher = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs))
    signal = signals.live(teacher, LOGITS)
    assert signal.shape == (40, 6)
    np.testing.assert_array_equal(signals.take(signal, ROWS), LOGITS[ROWS])


def test_a_live_signal_of_several_inputs_and_of_a_dict_of_answers():
    x = {"b": LOGITS, "a": 3 * LOGITS}
    for outputs in (lambda v: v, lambda v: {"logits": v, "other": -v}):
        signal = signals.live(two_inputs(outputs), x)
        assert len(signal) == 40
        np.testing.assert_allclose(signals.take(signal, ROWS), 2 * LOGITS[ROWS], rtol=1e-6)
        np.testing.assert_allclose(signals.take(signal[:9], [8]), 2 * LOGITS[[8]], rtol=1e-6)


def test_what_no_live_teacher_can_answer_is_refused():
    inputs = keras.Input((6,))
    teacher = keras.Model(inputs, keras.layers.Dense(6)(inputs))
    for x in ({"a": LOGITS, "b": LOGITS}, LOGITS[:, :3]):
        with pytest.raises(ValueError, match="x must fit the inputs of the teacher"):
            signals.live(teacher, x)
    with pytest.raises(ValueError, match="x must hold arrays with as many rows"):
        signals.live(two_inputs(), {"a": LOGITS, "b": LOGITS[:3]})
    with pytest.raises(ValueError, match=r"entry 'logits', got only .'boxes'"):
        signals.live(two_inputs(lambda v: {"boxes": v}), {"a": LOGITS, "b": LOGITS})
    sure = keras.Model(inputs, keras.layers.Softmax()(inputs))
    with pytest.raises(ValueError, match="teacher_logits must be logits, got probabilities"):
        signals.live(sure, LOGITS)


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
    given = {"labels": x * 2, "teacher_logits": LOGITS}
    data = signals.as_dataset(x, given, batch_size=16, seed=3)
    epochs = [[row for views, _ in data for row in views.numpy()] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(x)
    assert epochs[0] != epochs[1]
    for views, given in data:
        np.testing.assert_array_equal(given["labels"], 2 * views)
        np.testing.assert_array_equal(given["teacher_logits"], LOGITS[views.numpy()])
    plain = signals.as_dataset(x, {}, augment=lambda views: -views)
    np.testing.assert_array_equal(next(iter(plain))[0], -x)


def test_a_data_set_of_several_inputs_and_of_arrays_as_they_are_stored():
    signal = signals.top_k(LOGITS, 2)
    x = {"a": np.arange(40), "b": -np.arange(40)}
    data = signals.as_dataset(x, signal.arrays_by_name(), batch_size=7, seed=0)
    for views, given in data:
        rows = views["a"].numpy()
        np.testing.assert_array_equal(views["b"], -rows)
        np.testing.assert_array_equal(given["teacher_classes"], signal.arrays[0][rows])
        log_p = given["teacher_log_probabilities"]
        np.testing.assert_array_equal(log_p, signal.arrays[1][rows])


def test_a_data_set_of_features_by_layer():
    features = {"a": LOGITS, "deep": {"b": -LOGITS}}
    given = {"labels": list(range(40)), "teacher_features": features}
    for views, found in signals.as_dataset(LOGITS, given, batch_size=9, seed=1):
        np.testing.assert_array_equal(LOGITS[found["labels"]], views)
        np.testing.assert_array_equal(found["teacher_features"]["a"], views)
        np.testing.assert_array_equal(found["teacher_features"]["deep"]["b"], -views)
    with pytest.raises(ValueError, match="f/a must have 40 rows as x has, got 3"):
        signals.as_dataset(LOGITS, {"f": {"a": LOGITS[:3]}})


def test_signals_of_another_length_are_refused():
    for count in (39, 41):
        with pytest.raises(ValueError, match=f"labels must have 40 rows as x .*, got {count}"):
            signals.as_dataset(LOGITS, {"labels": np.zeros(count)})
