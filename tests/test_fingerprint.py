"""Descriptions of functions and teachers: the same in every process, other for other code."""

import os
import subprocess
import sys
from functools import partial

import keras
import numpy as np

from distill_lib import signals
from distill_lib.teacher.fingerprint import _code_of, function_description, teacher_checksum


def stored(logits, words=frozenset({"a", "b", "c"}), k=2):
    return logits if {"x", "y", "z"} & words else signals.top_k(logits, k)


class Layer(keras.layers.Layer):
    @property
    def factor(self):
        return 2.0

    @staticmethod
    def helper(x):
        return x

    def call(self, x):
        return self.factor * self.helper(x)


def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,), name="i")
    outputs = Layer(name="l")(keras.layers.Dense(2, name="d")(inputs))
    outputs = keras.layers.Lambda(lambda x: x if {"p", "q"} else -x, name="f")(outputs)
    return keras.Model(inputs, outputs, name="m")


def digests():
    return f"{function_description('store', stored)} {teacher_checksum(model())}"


def test_they_are_the_same_in_every_process():
    """Python shuffles sets of strings anew in every process, and addresses differ."""
    code = "import test_fingerprint; print(test_fingerprint.digests())"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.stdout.strip().endswith(digests().replace("__main__", ""))


def test_another_member_of_a_layer_is_another_teacher(monkeypatch):
    before = teacher_checksum(model())
    assert teacher_checksum(model()) == before
    for name, value in (
        ("factor", property(lambda self: 3.0)),
        ("helper", staticmethod(lambda x: 2 * x)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Layer, name, value)
            assert teacher_checksum(model()) != before


def test_code_is_what_a_function_does():
    def make(factor):
        return lambda x: factor * x

    def nested(k):
        return lambda x: [x * n for n in range(k)]

    assert _code_of(make(2)) == _code_of(make(2))
    assert _code_of(make(2)) != _code_of(make(3))
    assert _code_of(make(make(2))) != _code_of(make(make(3)))
    assert _code_of(lambda x: x + 1) != _code_of(lambda x: x + 2)
    assert _code_of(lambda x: np.exp(x)) != _code_of(lambda x: np.log(x))
    assert _code_of(lambda x, k=1: x) != _code_of(lambda x, k=2: x)
    assert _code_of(lambda: lambda: 1) != _code_of(lambda: lambda: 2)
    assert _code_of(nested(2)) == _code_of(partial(nested(2)))
    for known in (np.exp, keras.ops.exp, 3, None):
        assert _code_of(known) is None


def test_arguments_belong_to_the_description():
    def describe(function):
        return function_description("store", function)

    assert describe(partial(stored, k=2)) == describe(partial(stored, k=2))
    assert describe(partial(stored, k=2)) != describe(partial(stored, k=3))
    assert describe(partial(stored, None)) != describe(partial(stored))
    assert describe(partial(partial(stored, k=2), k=3)) == describe(partial(stored, k=3))
