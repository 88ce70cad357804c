"""Descriptions of functions and teachers: the same in every process."""

import os
import subprocess
import sys
from functools import partial

import keras

from distill_lib import signals
from distill_lib.teacher.fingerprint import function_description, teacher_checksum


def stored(logits, k=2):
    return signals.top_k(logits, k)


class Layer(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x


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


def test_arguments_belong_to_the_description():
    def describe(function):
        return function_description("store", function)

    assert describe(partial(stored, k=2)) == describe(partial(stored, k=2))
    assert describe(partial(stored, k=2)) != describe(partial(stored, k=3))
    assert describe(partial(stored, None)) != describe(partial(stored))
    assert describe(partial(partial(stored, k=2), k=3)) == describe(partial(stored, k=3))
