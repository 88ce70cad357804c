"""Stored signals: shapes, slices, bytes, names; joining refuses what is decoded differently."""

import keras
import numpy as np
import pytest

from distill_lib import signals
from distill_lib.signals.stored import as_stored, row_count

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(40, 6)).astype("float32")
TOKENS = RNG.normal(size=(8, 5, 6))
ROWS = np.array([5, 0, 39, 5])


def test_an_array_is_a_signal():
    np.testing.assert_array_equal(signals.take(LOGITS, ROWS), LOGITS[ROWS])
    np.testing.assert_array_equal(signals.take(np.arange(40), ROWS), ROWS)
    assert as_stored(LOGITS).shape == (40, 6)


@pytest.mark.parametrize("logits", [LOGITS, TOKENS], ids=["rows", "steps"])
@pytest.mark.parametrize("form", ["top_k", "sample", "live"])
def test_a_slice_is_a_signal_of_these_rows(logits, form):
    inputs = keras.Input(logits.shape[1:])
    signal = {
        "top_k": lambda: signals.top_k(logits, 2),
        "sample": lambda: signals.sample(logits, 3),
        "live": lambda: signals.live(keras.Model(inputs, inputs), logits),
    }[form]()
    assert signal.shape == logits.shape
    assert len(signal) == len(logits)
    every = np.asarray(signals.take(signal, np.arange(len(logits))))
    assert every.shape == logits.shape
    for rows in (slice(2, 5), slice(None, None, -1), np.array([3, 0, 3]), [1]):
        part = signal[rows]
        assert isinstance(part, signals.StoredSignal)
        assert part.shape == every[rows].shape
        found = signals.take(part, np.arange(len(part)))
        np.testing.assert_allclose(found, every[rows], rtol=1e-6)
    for wrong in (3, np.array([True, False]), np.array([[1]]), np.array([0.5])):
        with pytest.raises(ValueError, match="rows must be a slice or a one-dimensional array"):
            signal[wrong]


def test_it_shows_form_shape_and_arrays():
    text = repr(signals.top_k(TOKENS, 2))
    arrays = "[uint8(8, 5, 2), float16(8, 5, 3)]"
    assert text == f"StoredSignal(top_k, shape=(8, 5, 6), arrays={arrays})"
    assert "plain" in repr(as_stored(LOGITS))
    assert "float16(16, 5, 3)" in repr(signals.joined([signals.top_k(TOKENS, 2)] * 2))


def test_the_arrays_have_names_where_a_loss_takes_them():
    signal = signals.top_k(TOKENS, 2, temperature=3.0)
    named = signal[:3].arrays_by_name()
    assert len(named) == 3
    np.testing.assert_array_equal(named["teacher_temperature"], [3.0, 3.0, 3.0])
    np.testing.assert_array_equal(named["teacher_classes"], signal.arrays[0][:3])
    np.testing.assert_array_equal(named["teacher_log_probabilities"], signal.arrays[1][:3])
    with pytest.raises(ValueError, match="arrays_by_name needs a signal made by top_k"):
        signals.sample(TOKENS, 2).arrays_by_name()


def test_joined_signals_follow_each_other():
    first, second = signals.top_k(LOGITS, 2), signals.top_k(-LOGITS, 2)
    both = signals.joined([first, second])
    assert both.shape == (80, 6)
    rows = signals.take(both, ROWS + 40)
    np.testing.assert_array_equal(rows, signals.take(second, ROWS))
    np.testing.assert_array_equal(signals.take(signals.joined([LOGITS]), ROWS), LOGITS[ROWS])
    inputs = keras.Input((6,))
    teacher = keras.Model(inputs, 2 * inputs)
    both = signals.joined([signals.live(teacher, LOGITS), signals.live(teacher, -LOGITS)])
    np.testing.assert_array_equal(signals.take(both, ROWS + 40), -2 * LOGITS[ROWS])


def test_what_is_decoded_differently_is_not_joined():
    inputs = keras.Input((6,))
    teachers = [keras.Model(inputs, keras.layers.Dense(6)(inputs)) for _ in range(2)]
    pairs = [
        (signals.sample(LOGITS, 2), signals.sample(LOGITS, 2, temperature=2.0)),
        (signals.top_k(LOGITS, 2), signals.top_k(LOGITS[:, :5], 2)),
        (signals.top_k(LOGITS, 2), LOGITS),
        (LOGITS, LOGITS[:, :5]),
        tuple(signals.live(teacher, LOGITS) for teacher in teachers),
    ]
    for pair in pairs:
        with pytest.raises(ValueError, match="signals must be of one form"):
            signals.joined(pair)


def test_rows_are_counted_in_every_structure():
    assert row_count("x", LOGITS) == 40
    assert row_count("x", {"a": LOGITS, "b": [LOGITS, np.arange(40)]}) == 40
    for wrong in ({}, 3.0, [LOGITS, TOKENS], {"a": LOGITS, "b": 1.0}):
        with pytest.raises(ValueError, match="x must hold arrays with as many rows"):
            row_count("x", wrong)
