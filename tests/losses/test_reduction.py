"""The weighted mean against a loop and against Keras's own rule."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_checks import few

from distill_lib.losses import hard_label_loss, weighted_mean

VALUES = hnp.arrays("float64", (3, 2), elements=st.floats(-100, 100))
WEIGHTS = hnp.arrays("float64", (3,), elements=st.floats(0, 10))
MASKS = hnp.arrays("bool", (3, 2))


@few
@given(VALUES, WEIGHTS, MASKS)
def test_equals_a_loop(values, weights, mask):
    total, count = 0.0, 0
    for i, j in np.ndindex(values.shape):
        if mask[i, j]:
            total += weights[i] * values[i, j]
            count += 1
    expected = total / count if count else 0.0
    np.testing.assert_allclose(weighted_mean(values, weights, mask), expected, atol=1e-10)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_equals_keras(with_weights, with_mask):
    values = np.array([1.0, 2.0, 4.0], "float32")
    weights = np.array([2.0, 0.5, 3.0], "float32") if with_weights else None
    mask = np.array([True, False, True]) if with_mask else None
    predictions = keras.ops.convert_to_tensor(values[:, None])
    if with_mask:
        predictions._keras_mask = keras.ops.convert_to_tensor(mask)
    loss = keras.losses.MeanAbsoluteError()(np.zeros((3, 1)), predictions, weights)
    np.testing.assert_allclose(weighted_mean(values, weights, mask), loss, rtol=1e-6)


def test_doubled_weights_double_the_result():
    np.testing.assert_allclose(weighted_mean([1.0, 3.0], [2.0, 2.0]), 4.0)


def test_masked_nan_poisons_neither_value_nor_gradient(gradient):
    @tf.function  # where a label that is no class gives nan
    def loss(logits):
        values = hard_label_loss(labels=np.array([0, -1]), student_logits=logits)
        return weighted_mean(values, mask=np.array([1, 0]))

    logits = np.zeros((2, 4), "float32")
    np.testing.assert_allclose(loss(logits), np.log(4), rtol=1e-6)
    slope = gradient(loss, logits)
    np.testing.assert_allclose(slope[0], [-0.75, 0.25, 0.25, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(slope[1], 0.0)


def test_weight_zero_over_nan_counts_in_the_divisor_alone(gradient):
    found = weighted_mean([1.0, np.nan, np.inf], [2.0, 0.0, 0.0])
    np.testing.assert_allclose(found, 2 / 3, rtol=1e-6)
    assert np.isnan(weighted_mean([1.0, np.nan], [2.0, 1e-9]))
    slope = gradient(lambda x: weighted_mean(x, [2.0, 0.0]), np.array([1.0, np.nan]))
    np.testing.assert_array_equal(slope, [1.0, 0.0])
    slope = gradient(lambda w: weighted_mean([1.0, np.nan], w), np.array([2.0, 0.0]))
    assert np.isfinite(slope).all()


def test_half_precision_is_summed_in_float32():
    values = np.full(3000, 60.0, "float16")  # the sum is beyond float16
    np.testing.assert_allclose(weighted_mean(values), 60.0)


def test_nothing_counted_is_zero():
    np.testing.assert_array_equal(weighted_mean([1.0, 2.0], mask=[False, False]), 0.0)


def test_weights_align_with_examples_not_with_steps():
    values = np.array([[1.0, 1.0], [5.0, 5.0]])
    np.testing.assert_allclose(weighted_mean(values, [1.0, 0.0]), 0.5)


@pytest.mark.parametrize("name", ["sample_weight", "mask"])
def test_shapes_must_fit(name):
    rule = rf"^{name} must have the leading axes of the losses "
    for shape, wrong, message in (
        ((3, 2), (2,), r"\(3,\), got shape \(2,\)"),
        ((3, 2), (3, 1), r"\(3, 2\), got shape \(3, 1\)"),
        ((3,), (3, 2), r"\(3,\), got shape \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=rule + message):
            weighted_mean(np.ones(shape), **{name: np.ones(wrong)})
