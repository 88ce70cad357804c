"""Measures against values worked out by hand, and verdicts against their rule."""

import keras
import numpy as np
import pandas as pd
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


NAN, INF = np.nan, np.inf
MEASURES = [evaluate.accuracy, evaluate.macro_f1, evaluate.calibration_error]
# What is appended has weight 0, and must not count, whatever it holds.
NOT_COUNTED = [(7, [NAN, NAN, NAN]), (-100, [0, INF, 1]), (0.5, [9, 0, 0]), (1, [9, 0, 0])]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("label", "row"), NOT_COUNTED)
def test_a_case_of_weight_zero_does_not_count(measure, label, row):
    labels, logits = np.append(LABELS, label), np.vstack([LOGITS, [row]])
    for weights in ([1, 1, 1, 1, 0], np.array([True] * 4 + [False])):
        found = measure(labels, logits, sample_weight=weights)
        assert found == pytest.approx(measure(LABELS, LOGITS))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_weight_counts_as_often_as_it_says(measure):
    often = [0, 1, 2, 2, 2, 3, 3]
    found = measure(LABELS, LOGITS, sample_weight=[1, 1, 3, 2])
    assert found == pytest.approx(measure(LABELS[often], LOGITS[often]))


def test_agreement_and_rmse_take_weights():
    teacher = np.array([[3.0, 1], [0, 2], [NAN, 0], [1, 0]])
    student = np.array([[3.0, 1], [2, 0], [NAN, 0], [2, 0]])
    assert evaluate.agreement(teacher, student, sample_weight=[1, 2, 0, 1]) == 0.5
    found = evaluate.rmse([1, 2, NAN], [[2], [4], [0]], sample_weight=[2, 1, 0])
    assert found == pytest.approx(np.sqrt((2 * 1 + 4) / 3))


def test_every_token_is_a_case():
    labels, logits = LABELS.reshape(2, 2), LOGITS.reshape(2, 2, 3)
    for measure in MEASURES:
        assert measure(labels, logits) == measure(LABELS, LOGITS)
        # A weight for each sequence holds for its tokens.
        found = measure(labels, logits, sample_weight=[False, True])
        assert found == measure(LABELS[2:], LOGITS[2:])
    assert evaluate.agreement(logits, logits[:, ::-1]) == 0


def test_minus_infinity_beside_a_number_means_never():
    logits = np.array([[-INF, 1, 1.5], [2, -INF, -INF]])
    assert evaluate.accuracy([2, 0], logits) == 1
    # Confidences: 1 / (1 + exp(-1/2)) = 0.62246 and 1.
    assert evaluate.calibration_error([2, 0], logits) == pytest.approx(
        (1 - 0.62246) / 2, abs=1e-5
    )


@pytest.mark.parametrize("row", [[NAN, 1, 2], [1, INF, 0], [-INF, -INF, -INF]])
def test_logits_that_are_no_numbers_are_refused(row):
    logits = np.vstack([LOGITS[:3], [row]])
    for measure in MEASURES:
        with pytest.raises(ValueError, match=r"^logits must be finite.* in row \(3,\)"):
            measure(LABELS, logits)
    with pytest.raises(ValueError, match=r"teacher_logits must be finite.* in row \(3,\)"):
        evaluate.agreement(logits, LOGITS)
    with pytest.raises(ValueError, match="student_logits must be finite"):
        evaluate.agreement(LOGITS, logits)


@pytest.mark.parametrize("label", [3, -1, 0.5, NAN])
def test_labels_that_are_no_class_are_refused(label):
    labels = np.append(LABELS[:3], label)
    for measure in MEASURES:
        with pytest.raises(ValueError, match=f"whole numbers from 0 to 2, got {label}"):
            measure(labels, LOGITS)


def test_probabilities_have_no_calibration_error():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    for given in (p, p.astype("float32"), p.astype("float16")):
        with pytest.raises(ValueError, match="before a softmax, got probabilities"):
            evaluate.calibration_error(LABELS, given)
    logarithms = evaluate.calibration_error(LABELS, np.log(p))
    assert logarithms == pytest.approx(evaluate.calibration_error(LABELS, LOGITS))
    # A row that happens to sum to 1 is no sign.
    assert evaluate.calibration_error([0, 1], [[0.5, 0.5], [0.2, 3]]) > 0
    assert evaluate.calibration_error([0, 1], [[2, -1], [-2, 3]]) > 0


def test_one_output_or_several_labels_are_refused():
    """The largest of one number is always the first; of five labels at once several hold."""
    with pytest.raises(ValueError, match=r"two or more classes .* shape \(2, 1\)"):
        evaluate.accuracy([0, 0], [[0.3], [-2]])
    with pytest.raises(ValueError, match=r"one-hot labels give np\.argmax"):
        evaluate.accuracy(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match=r"same shape, got \(2, 3\) and \(2, 2\)"):
        evaluate.agreement(np.zeros((2, 3)), np.zeros((2, 2)))


@pytest.mark.parametrize("weights", [[0, 0, 0, 0], [1, -1, 1, 1], [1, NAN, 1, 1]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="finite, not negative, and let one case count"):
        evaluate.accuracy(LABELS, LOGITS, sample_weight=weights)


def test_no_case_at_all_is_refused():
    with pytest.raises(ValueError, match="let one case count"):
        evaluate.accuracy([], np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"the shape \(4,\) or leading axes of it, got \(3,\)"):
        evaluate.accuracy(LABELS, LOGITS, sample_weight=[1, 1, 1])


def test_errors_of_other_shapes_or_no_numbers_are_refused():
    for predictions in (np.zeros((3, 2)), np.zeros(2), np.zeros((1, 3))):
        with pytest.raises(ValueError, match=r"must be \(n,\) or \(n, 1\), got \(3,\) and"):
            evaluate.rmse([1, 2, 3], predictions)
    with pytest.raises(ValueError, match="must be finite, but not in row 2"):
        evaluate.rmse([1, 2, 3], [1, 2, NAN])


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


def test_predictions_keep_the_structure_of_inputs_and_outputs():
    one, two = keras.Input((2,), name="one"), keras.Input((3,), name="two")
    outputs = {"sum": one + two[:, :2], "twice": 2 * two}
    by_name, by_place = (
        keras.Model({"one": one, "two": two}, outputs),
        keras.Model([one, two], one),
    )
    rng = np.random.default_rng(0)
    x = {"one": rng.normal(size=(7, 2)), "two": rng.normal(size=(7, 3))}
    found = evaluate.predict_logits(by_name, x, batch_size=3)
    np.testing.assert_allclose(found["sum"], x["one"] + x["two"][:, :2], rtol=1e-6)
    np.testing.assert_allclose(found["twice"], 2 * x["two"], rtol=1e-6)
    places = evaluate.predict_logits(by_place, [x["one"], x["two"]], batch_size=3)
    np.testing.assert_allclose(places, x["one"], rtol=1e-6)


def test_predictions_of_no_example_are_none(model):
    assert evaluate.predict_logits(model, np.zeros((0, 8, 8, 3))).shape == (0, 5)


def test_predictions_refuse_what_are_no_arrays_of_examples(model):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(np.zeros((4, 8, 8, 3))).batch(2)
    with pytest.raises(
        ValueError, match=r"x must be arrays of n examples, got a _BatchDataset"
    ):
        evaluate.predict_logits(model, data)
    with pytest.raises(ValueError, match="x must be arrays of n examples, got a list"):
        evaluate.predict_logits(model, [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(
        ValueError, match=r"x must be arrays of n examples, got a dict of shapes"
    ):
        evaluate.predict_logits(model, {"a": np.zeros((3, 2)), "b": np.zeros((4, 2))})
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        evaluate.predict_logits(model, np.zeros((4, 8, 8, 3)), batch_size=0)


def test_latency_is_the_median_of_the_calls_after_the_warmup(monkeypatch):
    ticks = iter([0, 100, 100, 200, 200, 201, 201, 203, 203, 290])
    monkeypatch.setattr(evaluate.cost.time, "perf_counter", lambda: next(ticks))
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


def test_one_constant_difference_carries_no_interval():
    """Rounded numbers often differ by the same amount: that is no certainty."""
    for candidate, control in (
        ([2, 3], [1, 2]),
        ([0.80, 0.81], [0.79, 0.80]),
        ([0.7, 0.8, 0.9], [0.6, 0.7, 0.8]),  # equal up to rounding
        (np.float32([0.7, 0.8, 0.9]), np.float32([0.6, 0.7, 0.8])),
        (np.float32([0.7, 0.8, 0.9]).tolist(), np.float32([0.6, 0.7, 0.8]).tolist()),
    ):
        with pytest.raises(
            ValueError, match=rf"no interval, got .* each of {len(control)} pairs"
        ):
            evaluate.compare(candidate, control)


def test_differences_far_below_single_precision_are_still_differences():
    control = np.array([0.5, 0.6, 0.7])
    result = evaluate.compare(control + np.array([1.0, 1.1, 1.2]) * 1e-9, control)
    assert result.verdict == "better"
    assert result.difference == pytest.approx(1.1e-9, rel=1e-6)


def test_equal_pairs_cannot_tell():
    for candidate, control in (([0.5, 0.6], [0.5, 0.6]), ([0.1 + 0.2, 0.5], [0.3, 0.5])):
        same = evaluate.compare(candidate, control)
        assert same == evaluate.Comparison(0, 0, 0, "cannot tell", 2)
        assert str(same) == "+0.000 [0.000, 0.000] cannot tell (2 pairs)"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.0412, 0.0321, 0.0503), "+0.041 [0.032, 0.050]"),
        ((-12.609, -13.346, -11.872), "-12.609 [-13.346, -11.872]"),
        ((0.0001, -0.0021, 0.0023), "+0.0001 [-0.0021, 0.0023]"),
        ((-0.006, -0.0117, -0.0003), "-0.0060 [-0.0117, -0.0003]"),
        ((-0.00001, -0.00002, -0.000004), "-0.000010 [-0.000020, -0.000004]"),
        ((0.10001, 0.10000, 0.10002), "+0.10001 [0.10000, 0.10002]"),
        ((-1e-17, -0.02, 0.02), "+0.000 [-0.020, 0.020]"),  # what rounding leaves of zero
    ],
)
def test_a_comparison_prints_its_evidence(numbers, text):
    assert str(evaluate.Comparison(*numbers, "worse", 5)) == f"{text} worse (5 pairs)"


def test_series_are_paired_by_their_index():
    candidate = pd.Series([0.7, 0.8, 0.95], index=[0, 1, 2])
    control = pd.Series([0.9, 0.6, 0.71], index=[2, 0, 1])
    result = evaluate.compare(candidate, control)
    assert result == evaluate.compare([0.7, 0.8, 0.95], [0.6, 0.71, 0.9])
    # Beside a list, only the order is known.
    assert evaluate.compare(candidate, control.tolist()).difference == result.difference
    assert evaluate.compare(candidate, control.tolist()).verdict == "cannot tell"


@pytest.mark.parametrize("index", [[0, 1, 3], [0, 1, 1], [0, 1]])
def test_series_of_other_seeds_are_refused(index):
    candidate = pd.Series([0.7, 0.8, 0.95])
    control = pd.Series([0.6, 0.71, 0.9][: len(index)], index=index)
    with pytest.raises(ValueError, match=r"same index, each entry once, got \[0, 1, 2\] and"):
        evaluate.compare(candidate, control)
    with pytest.raises(ValueError, match="same index, each entry once"):
        evaluate.compare(control, candidate)


def test_a_seed_that_occurs_twice_is_refused():
    twice = pd.Series([0.7, 0.8, 0.95], index=[0, 1, 1])
    with pytest.raises(ValueError, match="each entry once"):
        evaluate.compare(twice, twice + 1)


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
