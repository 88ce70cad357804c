"""Stored forms give the teacher's rows, of one answer or one for every step."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, logsumexp

from distill_lib import signals
from distill_lib.losses import soft_target_loss, soft_targets
from distill_lib.signals import forms

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(40, 6)).astype("float32")
TOKENS = LOGITS.reshape(8, 5, 6)


def probabilities(logits, temperature=1.0):
    return np.asarray(soft_targets(logits, temperature))


def decoded(signal):
    return np.asarray(signals.take(signal, np.arange(len(signal))))


def test_half_precision_keeps_three_digits_and_refuses_what_it_cannot_hold():
    np.testing.assert_allclose(signals.dense(LOGITS), LOGITS, rtol=1e-3)
    assert signals.dense(LOGITS).dtype == np.float16
    for bad in (1e5, -1e5, np.nan, np.inf):
        values = LOGITS.copy()
        values[3, 2] = bad
        with pytest.raises(ValueError, match=r"values must be finite in float16.* in row 3$"):
            signals.dense(values)
    with pytest.raises(ValueError, match="got nan in row 0"):
        signals.dense(np.nan)
    values[3, 2] = -np.inf
    np.testing.assert_array_equal(np.isneginf(signals.dense(values)), np.isneginf(values))


def test_whole_numbers_are_not_rounded():
    for values in (np.array([30521, 70000]), np.array([True, False])):
        assert signals.dense(values).dtype == values.dtype
        np.testing.assert_array_equal(signals.dense(values), values)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_top_k_are_kept_and_the_tail_is_spread_evenly(temperature):
    signal = signals.top_k(LOGITS, 2, temperature=temperature)
    p, found = (probabilities(v, temperature) for v in (LOGITS, decoded(signal)))
    for row in range(40):
        best = np.argsort(-p[row])[:2]
        others = np.setdiff1d(np.arange(6), best)
        np.testing.assert_allclose(found[row, best], p[row, best], atol=2e-3)
        np.testing.assert_allclose(found[row, others], p[row, others].mean(), atol=2e-3)


def test_the_stored_arrays_are_classes_and_log_probabilities_with_the_tail_last():
    log_p = log_softmax(LOGITS / 2.0, axis=1)
    classes, stored = signals.top_k(LOGITS, 2, temperature=2.0).arrays
    order = np.argsort(-log_p, axis=1)
    np.testing.assert_array_equal(classes, order[:, :2])
    sorted_log_p = np.take_along_axis(log_p, order, axis=1)
    np.testing.assert_allclose(stored[:, :2], sorted_log_p[:, :2], rtol=1e-3, atol=1e-7)
    tail = logsumexp(sorted_log_p[:, 2:], axis=1)
    np.testing.assert_allclose(stored[:, 2], tail, rtol=1e-3)


def test_an_even_tail_moves_probability_of_a_student_equal_to_the_teacher():
    """As the docstring says: .15 and .05 become .1 each, so one twentieth moves."""
    p = np.array([[0.5, 0.3, 0.15, 0.05]])
    found = probabilities(decoded(signals.top_k(np.log(p), 2)))
    np.testing.assert_allclose(np.abs(found - p).sum() / 2, 0.05, atol=1e-3)
    rows = decoded(signals.top_k(np.log(p), 2))
    assert soft_target_loss(teacher_logits=rows, student_logits=np.log(p))[0] > 0.01


def test_of_equal_classes_the_first_are_kept():
    assert signals.top_k([[1.0, 3.0, 3.0, 3.0]], 2).arrays[0].tolist() == [[1, 2]]


def test_with_all_classes_nothing_is_lost():
    found = decoded(signals.top_k(LOGITS, 6))
    np.testing.assert_allclose(probabilities(found, 3.0), probabilities(LOGITS, 3.0), atol=1e-3)


def test_every_step_is_an_answer():
    for store in (
        lambda v: signals.top_k(v, 2, temperature=2.0),
        lambda v: signals.sample(v, 3, seed=1),
    ):
        flat, tokens = store(LOGITS), store(TOKENS)
        assert tokens.shape == (8, 5, 6)
        for one, other in zip(flat.arrays, tokens.arrays, strict=True):
            np.testing.assert_array_equal(one, other.reshape(one.shape))
        np.testing.assert_array_equal(decoded(flat), decoded(tokens).reshape(40, 6))


@pytest.mark.parametrize("block_size", [1, 30, 61])
def test_blocks_change_nothing(monkeypatch, block_size):
    whole = [signals.top_k(TOKENS, 2), signals.sample(TOKENS, 3, seed=1)]
    monkeypatch.setattr(forms, "BLOCK_SIZE", block_size)
    parts = [signals.top_k(TOKENS, 2), signals.sample(TOKENS, 3, seed=1)]
    for one, other in zip(whole, parts, strict=True):
        for array, again in zip(one.arrays, other.arrays, strict=True):
            np.testing.assert_array_equal(array, again)


def test_decoding_needs_no_memory_of_k_times_the_classes():
    """No tensor of the decoding program is larger than the dense rows."""
    logits = RNG.normal(size=(4, 3, 50))
    for signal in (signals.top_k(logits, 20), signals.sample(logits, 20)):
        tensors = [tf.constant(array) for array in signal.arrays]
        graph = tf.function(signal.decode).get_concrete_function(*tensors).graph
        outputs = [output for one in graph.get_operations() for output in one.outputs]
        sizes = [output.shape.num_elements() or 0 for output in outputs]
        assert max(sizes) == logits.size


def test_decoding_is_the_same_inside_a_stack_of_students():
    for store in (lambda v: signals.top_k(v, 2), lambda v: signals.sample(v, 3)):
        signal = signals.joined([store(TOKENS), store(-TOKENS)])

        def rows_of(rows, signal=signal):
            return signals.take(signal, rows)

        rows = tf.constant([[0, 7], [8, 3]])
        found = tf.vectorized_map(rows_of, rows, fallback_to_while_loop=False)
        for one, own in zip(found, rows, strict=True):
            np.testing.assert_allclose(one, rows_of(own), rtol=1e-6)


def test_a_sure_teacher_gives_finite_rows():
    sure = np.array([[200.0, 0.0, -200.0]])
    for signal in (signals.top_k(sure, 1), signals.top_k(sure, 3), signals.sample(sure, 4)):
        rows = decoded(signal)
        with tf.GradientTape() as tape:
            z = tf.Variable([[1.0, 2.0, 3.0]])
            loss = soft_target_loss(teacher_logits=rows, student_logits=z)
        assert np.isfinite(loss).all()
        gradient = probabilities(z.numpy()) - [[1, 0, 0]]
        np.testing.assert_allclose(tape.gradient(loss, z), gradient, atol=1e-5)
    surer = signals.top_k([[0.0, -1e6, -2e6]], 1)
    assert np.isfinite(surer.arrays[1]).all()


def test_never_stays_never():
    """Of two possible classes one, two or all are kept; the rest of the tail is impossible."""
    never = np.array([[1.0, -np.inf, 0.0, -np.inf]])
    p = probabilities(never[:, [0, 2]])
    for k in (2, 3, 4):
        rows = decoded(signals.top_k(never, k))
        np.testing.assert_allclose(np.exp(rows[:, [0, 2]]), p, rtol=1e-3)
        assert np.isneginf(rows[:, [1, 3]]).all()
    counts = np.exp(decoded(signals.sample(never, 50)))
    assert (counts[:, [1, 3]] == 0).all()
    assert counts.sum() == pytest.approx(1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_sampling_is_unbiased_and_the_top_k_are_not(temperature):
    """The gradient q - p of the soft target loss, in the mean over many draws."""
    p = probabilities(LOGITS, temperature)
    options = {"temperature": temperature}
    drawn = [signals.sample(LOGITS, 8, seed=seed, **options) for seed in range(300)]
    means = np.mean([probabilities(decoded(one), temperature) for one in drawn], axis=0)
    error = np.abs(means - p)
    assert error.max() < 5 * np.sqrt(0.25 / (8 * 300))
    top = probabilities(decoded(signals.top_k(LOGITS, 1, **options)), temperature)
    assert np.abs(top - p).max() > 0.1


def test_samples_are_fractions_of_the_draws():
    signal = signals.sample(LOGITS, 10, temperature=3.0, seed=1)
    fractions = probabilities(decoded(signal), 3.0) * 10
    np.testing.assert_allclose(fractions, np.round(fractions), atol=1e-4)
    np.testing.assert_allclose(fractions.sum(axis=1), 10, rtol=1e-5)
    again = signals.sample(LOGITS, 10, temperature=3.0, seed=1)
    np.testing.assert_array_equal(decoded(signal), decoded(again))


def test_class_numbers_take_the_smallest_type():
    assert signals.top_k(LOGITS, 2).arrays[0].dtype == np.uint8
    assert signals.sample(np.zeros((2, 300)), 2).arrays[0].dtype == np.uint16


def with_row(value):
    broken = TOKENS.copy()
    broken[3, 1] = value
    return broken


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (signals.top_k, (LOGITS, 0), "k must lie between 1 and 6, got 0"),
        (signals.top_k, (LOGITS, 7), "k must lie between 1 and 6, got 7"),
        (signals.top_k, (LOGITS, 2.5), "k must lie between 1 and 6, got 2.5"),
        (signals.sample, (LOGITS, 0), "draws must be an integer from 1, got 0"),
        (signals.top_k, (LOGITS[0], 1), r"logits must have the shape \(n, ..., classes\)"),
        (signals.top_k, (LOGITS[:, :1], 1), r"two or more classes, got \(40, 1\)"),
        (signals.top_k, (with_row(np.nan), 1), "logits must .* got nan in row 3"),
        (signals.sample, (with_row(np.inf), 1), "logits must .* got inf in row 3"),
        (signals.sample, (with_row(-np.inf), 1), "logits must .* got -inf in row 3"),
    ],
)
def test_bad_input_is_refused_by_name(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_a_temperature_lies_above_zero(temperature):
    for function in (signals.top_k, signals.sample):
        with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
            function(LOGITS, 2, temperature=temperature)
