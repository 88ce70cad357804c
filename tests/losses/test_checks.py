"""The knobs by one table: numbers, tensors and Variables, inside a program and outside."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill_lib import losses
from distill_lib.losses import check_knob
from distill_lib.losses._checks import KNOBS, knob, require

SIGNALS = {"labels", "tokens", "logits", "mask", "values", "sample_weight", "token_losses"}
GOOD = {"temperature": (1e-3, 100), "beta": (0.01, 0.99), "smoothing": (0, 1, 0.5)}
BAD = {
    "temperature": (0, -1.0, np.inf, np.nan, np.float32(-2)),
    "beta": (0, 1, -0.1, 1.5, np.nan),
    "smoothing": (-0.1, 1.1, np.inf, np.nan),
    "within_weight": (np.inf, -np.inf, np.nan),
}
RULES = {
    "temperature": "be a finite number above 0",
    "beta": "lie strictly between 0 and 1",
    "smoothing": r"lie in \[0, 1\]",
    "within_weight": "be finite",
}
PAIRS = [(name, value) for name, values in BAD.items() for value in values]


def test_the_table_has_every_knob_and_no_other():
    taken = set()
    for function in filter(inspect.isfunction, vars(losses).values()):
        if not function.__module__.endswith(("truncated", "_checks")):
            parameters = inspect.signature(function).parameters
            taken |= {
                name for name in parameters if not name.startswith(("teacher", "student"))
            }
    assert taken - SIGNALS - {"squared"} == KNOBS.keys() - {"teacher_temperature"}


@pytest.mark.parametrize(("name", "value"), PAIRS)
def test_a_number_out_of_range_is_refused(name, value):
    rule = f"^{name} must {RULES[name]}, got "
    variable = keras.Variable(float(value), dtype="float64")
    for given in (value, variable, tf.constant(float(value)), np.array(value)):
        with pytest.raises(ValueError, match=rule):
            check_knob(name, given)
        with pytest.raises(ValueError, match=rule):
            knob(name, given, "float32")

    @tf.function
    def program():
        return knob(name, variable, "float32"), knob(name, tf.constant(float(value)), "float64")

    assert np.isnan(program()).all()
    with pytest.raises(ValueError, match=rule[1:]):  # a number is known even there
        tf.function(lambda: knob(name, value, "float32"))()


def test_a_number_in_range_comes_back_as_it_is():
    for name, values in GOOD.items():
        for value in values:
            variable = keras.Variable(float(value), dtype="float64")
            for given in (value, variable, np.array(value), tf.constant(value, "float64")):
                assert check_knob(name, given) is None
                assert float(knob(name, given, "float64")) == value
            assert float(tf.function(knob)(name, variable, "float64")) == value
    assert knob("temperature", 2, "float32").dtype == "float32"
    assert float(knob("temperature", 0.1, "float64")) == 0.1


def test_a_variable_is_read_again_in_each_step():
    temperature = keras.Variable(1.0)
    program = tf.function(lambda: knob("temperature", temperature, "float32"))
    for value in (1.0, 4.0, -1.0, 2.0):
        temperature.assign(value)
        np.testing.assert_array_equal(program(), value if value > 0 else np.nan)


def test_a_variable_that_is_trained_keeps_its_gradient():
    temperature = tf.Variable(2.0)
    for run in (knob, tf.function(knob)):
        with tf.GradientTape() as tape:
            squared = run("temperature", temperature, "float32") ** 2
        assert tape.gradient(squared, temperature) == 4.0


def test_a_bool_and_a_string_are_no_numbers():
    for value in (True, False, "hot"):
        for function in (check_knob, lambda name, x: knob(name, x, "float32")):
            with pytest.raises(ValueError, match=f"^temperature must .*, got {value}$"):
                function("temperature", value)


def test_unknown_knobs_must_only_be_finite_if_they_are_numbers():
    for value in (-3, 0.0, True, "mean", None, [np.inf], np.array([np.nan]), object()):
        check_knob("margin", value)
    for value in (np.nan, np.inf, np.float32(-np.inf)):
        with pytest.raises(ValueError, match=f"^margin must be finite, got {value}$"):
            check_knob("margin", value)


def test_a_knob_of_many_numbers_is_checked_one_by_one():
    check_knob("positive_weight", None)
    check_knob("positive_weight", [1.0, 2.0])
    rule = r"^positive_weight must be a finite number above 0, got -2.0 at index \(1,\)$"
    with pytest.raises(ValueError, match=rule):
        check_knob("positive_weight", np.array([1.0, -2.0, -3.0]))


def test_require_names_the_first_wrong_value_or_makes_it_nan():
    tensor = tf.constant([[1.0, 2.0], [-3.0, -4.0]])
    with pytest.raises(ValueError, match=r"^it must be small, got -3.0 at index \(1, 0\)$"):
        require("it", tensor, tensor > 0, "be small")
    assert require("it", tensor, tensor < 3, "be small") is tensor
    found = tf.function(lambda x: require("it", x, x > 0, "be small"))(tensor)
    np.testing.assert_array_equal(found, [[1.0, 2.0], [np.nan, np.nan]])
    symbolic = keras.KerasTensor((2,))  # a Keras model that is being described
    assert require("it", symbolic, symbolic > 0, "be small").shape == (2,)
