"""Measures of cost: parameters, bytes and seconds."""

import tempfile
import time
import timeit
from pathlib import Path

import keras
import numpy as np


def parameter_count(model):
    """Return the number of weights of a model, trainable or not."""
    return int(model.count_params())


def file_size(model):
    """Return the bytes of the model as a ``.keras`` file, without any optimiser state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.Model(model.inputs, model.outputs).save(path)
        return path.stat().st_size


def latency(function, *, repeats=30, warmup=5):
    """Return the median seconds of one ``function()``, after ``warmup`` calls.

    It is the time of this machine only, and of a ``function`` that waits for its result.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    clock = {"timer": time.perf_counter, "number": 1}
    seconds = timeit.repeat(function, repeat=warmup + repeats, **clock)
    return float(np.median(seconds[warmup:]))
