"""What counts: masks and weights on the axes of what they speak of."""

import keras
import numpy as np
import pytest

from distill_lib import counting

OF_EXAMPLES = np.array([True, False, True])
OF_STEPS = np.array([[True, True], [True, False], [False, False]])


def test_both_masks_meet_on_the_leading_axes():
    assert counting.both(None, None) is None
    assert counting.both(OF_STEPS, None) is OF_STEPS
    assert counting.both(None, OF_STEPS) is OF_STEPS
    for pair in ((OF_EXAMPLES, OF_STEPS), (OF_STEPS, OF_EXAMPLES)):
        expected = [[True, True], [False, False], [False, False]]
        np.testing.assert_array_equal(counting.both(*pair), expected)


def test_what_has_any_part_that_counts_counts_itself():
    np.testing.assert_array_equal(counting.with_axes(OF_STEPS, 1), [True, True, False])
    assert counting.with_axes(OF_STEPS, 2) is OF_STEPS
    assert counting.with_axes(OF_EXAMPLES, 2) is OF_EXAMPLES
    assert counting.with_axes(None, 1) is None


def test_all_axes_are_those_of_the_values():
    values = np.zeros((3, 2, 5))
    found = counting.with_all_axes(OF_EXAMPLES, values, 2)
    np.testing.assert_array_equal(found, [[True, True], [False, False], [True, True]])
    np.testing.assert_array_equal(counting.with_all_axes(OF_STEPS, values, 2), OF_STEPS)
    np.testing.assert_array_equal(
        counting.with_all_axes(OF_STEPS, np.zeros((3, 5)), 1), [True, True, False]
    )
    assert counting.with_all_axes(None, values, 2) is None


def test_weights_get_axes_of_size_one_and_lose_them():
    weights = np.array([1.0, 2.0, 3.0])
    assert counting.weight_with_axes(None, 1) is None
    assert counting.weight_with_axes(weights, 3).shape == (3, 1, 1)
    assert counting.weight_with_axes(weights[:, None], 1).shape == (3,)
    with pytest.raises(ValueError, match=r"sample_weight must have at most 1 axes .* \(3, 2\)"):
        counting.weight_with_axes(np.ones((3, 2)), 1)


def test_a_weight_of_nan_counts_so_that_it_is_noticed():
    found = counting.has_weight(np.array([0.0, 2.0, np.nan, -1.0]))
    np.testing.assert_array_equal(found, [False, True, True, True])
    assert counting.has_weight(None) is None


def test_what_does_not_count_becomes_zero_and_so_does_its_slope(gradient):
    values = np.array([[1.0, 2.0], [np.nan, np.inf], [3.0, 4.0]])
    found = counting.without_uncounted(values, OF_EXAMPLES, 1)
    np.testing.assert_array_equal(found, [[1, 2], [0, 0], [3, 4]])

    def squares(x):
        return counting.without_uncounted(x, OF_EXAMPLES, 1) ** 2

    np.testing.assert_array_equal(gradient(squares, values), [[2, 4], [0, 0], [6, 8]])
    assert counting.without_uncounted(values, None, 1).shape == (3, 2)


def test_a_mask_does_not_speak_of_the_axis_of_the_classes():
    """Two steps and two classes: the mask of steps leaves out the third row, no column."""
    found = counting.without_uncounted(np.ones((3, 2)), OF_STEPS, 1)
    np.testing.assert_array_equal(found, [[1, 1], [1, 1], [0, 0]])
    labels = counting.without_uncounted(np.ones((3, 2)), OF_STEPS, 2)
    np.testing.assert_array_equal(labels, OF_STEPS)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"leading axes .* \(3, 4, 5\), got shape \(3, 2\)"):
        counting.without_uncounted(np.ones((3, 4, 5)), OF_STEPS, 2)
    with pytest.raises(ValueError, match=r"leading axes .* \(4, 2\), got shape \(3,\)"):
        counting.with_all_axes(OF_EXAMPLES, np.ones((4, 2)), 1)
    assert counting.without_uncounted(np.ones((3, 4)), OF_EXAMPLES[:, None], 2).shape == (3, 4)


def masked(mask=OF_STEPS, width=4):
    return counting.with_mask(np.ones((*mask.shape, width), "float32"), mask)


def test_a_tensor_carries_the_mask_it_was_given():
    tensor = masked()
    np.testing.assert_array_equal(counting.mask_of(tensor), OF_STEPS)
    assert counting.mask_of(keras.ops.ones(3)) is None
    plain = keras.ops.ones(3)
    assert counting.with_mask(plain, None) is plain


class Halves(keras.layers.Layer):
    """Takes every second step, and tells the mask of those."""

    def call(self, x):
        return x[:, ::2]

    def compute_mask(self, x, previous_mask=None):
        return None if previous_mask is None else previous_mask[:, ::2]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (None, OF_STEPS),
        (keras.layers.Dense(3), OF_STEPS),
        (keras.layers.Conv1D(3, 1), OF_STEPS),
        (keras.Sequential([keras.layers.Dense(3)]), OF_STEPS),
        (keras.layers.GlobalAveragePooling1D(), [True, True, False]),
        (Halves(), OF_STEPS[:, ::2]),
    ],
    ids=["none", "hands on", "loses", "nested", "pools", "computes its own"],
)
def test_a_layer_keeps_the_mask(layer, expected):
    found = counting.applied(layer, masked())
    np.testing.assert_array_equal(counting.mask_of(found), expected)


def test_a_layer_that_changes_the_steps_must_tell_their_mask():
    with pytest.raises(ValueError, match=r"adapter must keep the steps .* \(3, 2\) .* \(3, 1,"):
        counting.applied(keras.layers.Conv1D(3, 2), masked())
    found = counting.applied(keras.layers.Conv1D(3, 2), np.ones((3, 2, 4), "float32"))
    assert counting.mask_of(found) is None
