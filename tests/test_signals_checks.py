"""What no teacher may answer is named, with its row; classes are found by their names."""

import numpy as np
import pytest

from distill_lib.signals.checks import (
    check_class_names,
    check_not_probabilities,
    check_values,
    reorder_classes,
)

LOGITS = np.random.default_rng(0).normal(size=(6, 4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_none_are_named_with_their_row(bad):
    values = LOGITS.reshape(3, 2, 4).copy()
    values[2, 1, 3] = bad
    with pytest.raises(ValueError, match=rf"^hints must .*finite.*, got {bad} in row 2$"):
        check_values("hints", values)


def test_minus_infinity_is_a_logit_but_no_answer_alone():
    values = LOGITS.copy()
    values[1, :3] = -np.inf
    check_values("logits", values, allow_minus_infinity=True)
    values[1] = -np.inf
    with pytest.raises(ValueError, match="got -inf in row 1"):
        check_values("logits", values, allow_minus_infinity=True)


def test_what_is_a_number_is_allowed():
    for values in (LOGITS, np.arange(4), np.array([True]), np.zeros((0, 3)), np.float16(1)):
        check_values("labels", values)


def softmax(v):
    return np.exp(v) / np.exp(v).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_probabilities_are_no_logits(dtype):
    for shape in ((6, 4), (3, 2, 4), (12, 2)):
        p = softmax(LOGITS.reshape(shape)).astype(dtype)
        with pytest.raises(ValueError, match=r"^v must be logits, got prob.*without_last_act"):
            check_not_probabilities("v", p)
    one_hot = np.eye(4)
    with pytest.raises(ValueError, match="probabilities"):
        check_not_probabilities("v", one_hot)


def test_what_only_looks_like_probabilities_is_allowed():
    p = softmax(LOGITS)
    almost = p.copy()
    almost[5] *= 1.01
    shifted = p - 0.3
    shifted[:, 0] += 1.2  # sums to 1, but not from 0
    for values in (LOGITS, np.log(p), almost, shifted, np.ones((5, 1)), np.zeros((0, 3))):
        check_not_probabilities("v", values)


def test_classes_come_into_the_wanted_order():
    given, wanted = ["cat", "dog", "eel", "fox"], ["fox", "cat", "eel", "dog"]
    found = reorder_classes(LOGITS, given, wanted)
    for number, name in enumerate(wanted):
        np.testing.assert_array_equal(found[:, number], LOGITS[:, given.index(name)])
    tokens = LOGITS.reshape(3, 2, 4)
    np.testing.assert_array_equal(
        reorder_classes(tokens, given, wanted), found.reshape(3, 2, 4)
    )


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ("abca", "abcd", r"given must .*different.*\['a'\] twice"),
        ("abcd", "abcc", r"wanted must .*different.*\['c'\] twice"),
        ("abcd", "abce", r"must be the same names, got only once: \['d', 'e'\]"),
        ("abcd", "abc", r"must be the same names, got only once: \['d'\]"),
        ("abc", "abc", "given must name 4 classes, got 3"),
    ],
)
def test_other_names_are_refused(given, wanted, message):
    with pytest.raises(ValueError, match=message):
        reorder_classes(LOGITS, given, wanted)


def test_only_arrays_can_be_reordered():
    with pytest.raises(ValueError, match="logits must be an array of numbers"):
        reorder_classes(object(), "abcd", "abcd")


def test_names_become_strings():
    assert check_class_names("class_names", np.array(["a", "b"]), 2) == ["a", "b"]
    assert check_class_names("class_names", [3, 4]) == ["3", "4"]
