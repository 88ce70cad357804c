"""Measures against values worked out by hand, and verdicts against their rule."""

import keras
import numpy as np
import pytest
from keras import layers

from distill_lib import evaluate

# Guesses 0, 1, 1, 2 for the labels 0, 1, 2, 2.
LABELS = np.array([0, 1, 2, 2])
LOGITS = np.array([[3.0, 1, 1], [0, 2, 1], [0, 5, 1], [-3, -2, -1]])


def test_accuracy_and_agreement_count_equal_classes():
    assert evaluate.accuracy(LABELS, LOGITS) == 0.75
    other = np.array([[3.0, 1, 1], [2, 0, 1], [5, 0, 1], [-3, -2, -1]])
    assert evaluate.agreement(LOGITS, other) == 0.5
    assert evaluate.agreement(LOGITS, 10 * LOGITS - 7) == 1


def test_macro_f1_is_the_mean_of_the_classes():
    # F1: class 0: 1; class 1: precision 1/2, recall 1; class 2: precision 1, recall 1/2.
    assert evaluate.macro_f1(LABELS, LOGITS) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_macro_f1_counts_a_class_never_predicted_as_zero_without_a_warning():
    assert evaluate.macro_f1([0, 1], [[1, 0], [1, 0]]) == pytest.approx((2 / 3 + 0) / 2)


def test_rmse_by_hand_and_without_broadcasting_a_column_over_a_row():
    assert evaluate.rmse([1, 2, 3], [[1], [2], [6]]) == pytest.approx(np.sqrt(9 / 3))


def test_calibration_error_by_hand():
    # Confidences 0.6 (right), 0.6 (wrong), 0.9 (right), 0.9 (right), in 5 bins:
    # |1/2 - 0.6| * 2/4 + |1 - 0.9| * 2/4 = 0.1.
    p = np.array([0.6, 0.6, 0.9, 0.9])
    logits = np.log(np.stack([p, 1 - p], axis=1))
    assert evaluate.calibration_error([0, 1, 0, 0], logits, bins=5) == pytest.approx(0.1)
    # In one bin: |3/4 - 3/4| = 0.
    assert evaluate.calibration_error([0, 1, 0, 0], logits, bins=1) == pytest.approx(0)


def test_calibration_error_of_sure_guesses_is_the_error_rate():
    assert evaluate.calibration_error(LABELS, LOGITS * 1000) == pytest.approx(0.25)


def test_a_confidence_on_the_edge_belongs_to_the_lower_bin():
    # Bins (0.25, 0.5] and (0.5, 0.75]: apart 0.5 * 0.5 + 0.5 * 0.3; together they cancel.
    logits = np.log([[0.5, 0.25, 0.25], [0.7, 0.2, 0.1]])
    assert evaluate.calibration_error([1, 0], logits, bins=4) == pytest.approx(0.4)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"labels must be \(n,\) .*\(3,\) and \(4, 3\)"):
        evaluate.accuracy(LABELS[:3], LOGITS)
    with pytest.raises(ValueError, match="labels must be"):
        evaluate.accuracy(LABELS[:, None], LOGITS)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        evaluate.calibration_error(LABELS, LOGITS, bins=0)


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, (1, 3), groups=2, name="grouped")(x)
    x = layers.Dense(7, name="everywhere")(x)
    x = layers.Dropout(0.9)(layers.Flatten()(x))
    return keras.Model(inputs, keras.Sequential([layers.Dense(5)], name="nested")(x))


def test_operations_by_hand(model):
    conv = 4 * 4 * 4 * (3 * 3 * 3)
    grouped = 4 * 2 * 6 * (1 * 3 * 2)
    dense = 4 * 2 * 6 * 7 + (4 * 2 * 7) * 5
    assert evaluate.operation_count(model) == conv + grouped + dense


def test_operations_of_an_unknown_size_are_refused():
    inputs = keras.Input((None, None, 3))
    with pytest.raises(
        ValueError, match=r"layer 'open' must have known sizes, got \(None, None"
    ):
        evaluate.operation_count(keras.Model(inputs, layers.Conv2D(4, 3, name="open")(inputs)))


def test_parameters_by_hand(model):
    conv, norm, grouped = 3 * 3 * 3 * 4 + 4, 4 * 4, 3 * 2 * 6 + 6
    assert evaluate.parameter_count(model) == conv + norm + grouped + 6 * 7 + 7 + 56 * 5 + 5


def test_the_file_holds_the_weights_and_no_optimiser():
    big = keras.Sequential([keras.Input((500,)), layers.Dense(500)])
    size = evaluate.file_size(big)
    assert 4 * 250_500 < size < 4 * 250_500 + 30_000
    big.compile("adam", "mse")
    big.fit(np.zeros((4, 500)), np.zeros((4, 500)), verbose=0)
    assert evaluate.file_size(big) == pytest.approx(size, rel=0.01)


def test_predictions_are_without_dropout_and_complete(model):
    x = np.random.default_rng(0).normal(size=(7, 8, 8, 3)).astype("float32")
    logits = evaluate.predict_logits(model, x, batch_size=3)
    np.testing.assert_allclose(logits, model(x, training=False), rtol=1e-4, atol=1e-5)


def test_latency_is_the_median_of_the_calls_after_the_warmup(monkeypatch):
    ticks = iter([0, 100, 100, 200, 200, 201, 201, 203, 203, 290])
    monkeypatch.setattr(evaluate.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert evaluate.latency(lambda: calls.append(1), repeats=3, warmup=2) == 2
    assert len(calls) == 5
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        evaluate.latency(lambda: None, repeats=0)


def test_the_interval_is_students():
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975; 2) = 4.30265.
    result = evaluate.compare([2, 4, 6], [1, 2, 3])
    assert result.difference == 2
    assert result.high - 2 == pytest.approx(4.30265 / np.sqrt(3), rel=1e-5)
    assert 2 - result.low == pytest.approx(result.high - 2)
    assert (result.verdict, result.pairs) == ("cannot tell", 3)
    # t(0.9; 2) = 1.88562
    assert evaluate.compare([2, 4, 6], [1, 2, 3], confidence=0.8).verdict == "better"


@pytest.mark.parametrize(
    ("shift", "higher", "verdict"),
    [
        (0.1, True, "better"),
        (-0.1, True, "worse"),
        (0.1, False, "worse"),
        (-0.1, False, "better"),
        (0.0, True, "cannot tell"),
        (0.0, False, "cannot tell"),
    ],
)
def test_the_verdict_follows_the_interval_and_the_direction(shift, higher, verdict):
    control = np.array([0.81, 0.80, 0.83, 0.79, 0.82])
    noise = np.array([0.01, -0.01, 0.005, 0.0, -0.005])
    result = evaluate.compare(control + shift + noise, control, higher_is_better=higher)
    assert result.verdict == verdict


def test_pairing_matters():
    """The seeds differ much, the pairs little: unpaired, this could not be told."""
    control = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    gain = np.array([0.010, 0.011, 0.009, 0.010, 0.010])
    assert evaluate.compare(control + gain, control).verdict == "better"


def test_equal_differences_have_an_interval_without_width():
    assert evaluate.compare([2.0, 3.0], [1.0, 2.0]).verdict == "better"
    same = evaluate.compare([0.5, 0.5], [0.5, 0.5])
    assert (same.low, same.high, same.verdict) == (0, 0, "cannot tell")


def test_a_comparison_prints_its_evidence():
    result = evaluate.Comparison(0.0412, 0.0321, 0.0503, "better", 5)
    assert str(result) == "+0.041 [0.032, 0.050] better (5 pairs)"


@pytest.mark.parametrize(
    ("candidate", "control", "message"),
    [
        ([1], [2], r"two or more pairs, got shapes \(1,\)"),
        ([1, 2, 3], [1, 2], r"two or more pairs, got shapes \(3,\) and \(2,\)"),
        ([[1, 2]], [[1, 2]], "two or more pairs"),
        ([1, np.nan], [1, 2], "must be finite"),
        ([1, 2], [np.inf, 2], "must be finite"),
    ],
)
def test_numbers_that_cannot_be_compared_are_refused(candidate, control, message):
    with pytest.raises(ValueError, match=message):
        evaluate.compare(candidate, control)


def test_a_confidence_in_per_cent_is_refused():
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 95"):
        evaluate.compare([1, 2], [1, 3], confidence=95)
