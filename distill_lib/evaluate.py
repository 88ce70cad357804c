"""Measures of quality, likeness and cost, and the verdict on a comparison over seeds.

``labels`` are integers ``(n,)``, ``logits`` numbers ``(n, classes)``; where only the largest
counts, probabilities will do. Shares run from 0 to 1. Other shapes raise ``ValueError``.
"""

import tempfile
import time
import timeit
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from scipy import special, stats
from sklearn import metrics

from distill_lib.pruning import kernel_layers


def predict_logits(model, x, batch_size=500):
    """The outputs ``(n, outputs)`` of a model without dropout; no graph is compiled for it."""
    starts = range(0, len(x), batch_size)
    batches = [model(x[start : start + batch_size], training=False) for start in starts]
    return np.concatenate([keras.ops.convert_to_numpy(batch) for batch in batches])


def accuracy(labels, logits):
    """The share of examples whose largest logit is that of the label."""
    return float(metrics.accuracy_score(*_labels_and_guesses(labels, logits)))


def macro_f1(labels, logits):
    """The mean over the classes that occur of F1; one that is never predicted counts 0."""
    pair = _labels_and_guesses(labels, logits)
    return float(metrics.f1_score(*pair, average="macro", zero_division=0))


def rmse(targets, predictions):
    """The root of the mean squared error of ``(n,)`` or ``(n, 1)``, in the targets' unit."""
    return float(metrics.root_mean_squared_error(np.ravel(targets), np.ravel(predictions)))


def agreement(teacher_logits, student_logits):
    """The share of examples for which both name one class (Stanton et al., 2021: fidelity)."""
    return accuracy(np.argmax(teacher_logits, axis=-1), student_logits)


def calibration_error(labels, logits, bins=15):
    """The expected calibration error (Guo et al., 2017, equation 3); not for probabilities.

    The confidence (the largest softmax probability) is cut into bins of equal width, open on
    the left; each bin adds |accuracy - mean confidence|, weighted by its share of examples.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    labels, guesses = _labels_and_guesses(labels, logits)
    confidence = special.softmax(np.asarray(logits, "float64"), axis=-1).max(axis=-1)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # |accuracy - confidence| times the count of a bin is |sum of (correct - confidence)|.
    gaps = np.bincount(bin_of, weights=(guesses == labels) - confidence)
    return float(np.abs(gaps).sum() / len(labels))


def parameter_count(model):
    """The number of weights of a model, trainable or not."""
    return int(model.count_params())


def file_size(model):
    """The bytes of the model as a ``.keras`` file, without any optimiser state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        keras.Model(model.inputs, model.outputs).save(path)
        return path.stat().st_size


def operation_count(model):
    """Multiply-adds of all Dense and Conv2D layers, each counted once, for one example.

    ``ValueError`` for sizes unknown until run time, as with ``Input((None, None, 3))``.
    """
    total = 0
    for layer in kernel_layers(model):
        if None in (shape := layer.output.shape[1:]):
            raise ValueError(f"layer {layer.name!r} must have known sizes, got {shape}")
        total += int(np.prod(shape) * np.prod(layer.kernel.shape[:-1]))
    return total


def latency(function, *, repeats=30, warmup=5):
    """The median seconds of one ``function()``, after ``warmup`` calls; of one machine only."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    clock = {"timer": time.perf_counter, "number": 1}
    return float(np.median(timeit.repeat(function, repeat=warmup + repeats, **clock)[warmup:]))


@dataclass(frozen=True)
class Comparison:
    """A mean paired difference, candidate minus control, with its interval and verdict."""

    difference: float
    low: float
    high: float
    verdict: str
    pairs: int

    def __str__(self):
        interval = f"[{self.low:.3f}, {self.high:.3f}]"
        return f"{self.difference:+.3f} {interval} {self.verdict} ({self.pairs} pairs)"


def compare(candidate, control, *, higher_is_better=True, confidence=0.95):
    """Compare two ways of training over paired seeds.

    The interval is Student's t for the mean of the differences, so it takes them as
    independent and roughly normal. The verdict is "better" or "worse" if the interval
    leaves out zero, else "cannot tell". Equal differences have an interval without width.

    Args:
        candidate: one number for each of two or more seeds, such as accuracies.
        control: as many numbers, of the same seeds in the same order.
        higher_is_better: ``False`` for errors, seconds, bytes.
        confidence: coverage of the interval, between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    one, two = np.asarray(candidate, float), np.asarray(control, float)
    if one.ndim != 1 or one.shape != two.shape or len(one) < 2:
        rule = "candidate and control must be two or more pairs"
        raise ValueError(f"{rule}, got shapes {one.shape} and {two.shape}")
    if not np.isfinite([one, two]).all():
        raise ValueError(f"candidate and control must be finite, got {one}, {two}")
    mean, error = np.mean(one - two), stats.sem(one - two)
    half = error * stats.t.ppf((1 + confidence) / 2, df=len(one) - 1)
    low, high = float(mean - half), float(mean + half)
    verdict = "better" if (low > 0) == higher_is_better else "worse"
    verdict = verdict if low > 0 or high < 0 else "cannot tell"
    return Comparison(float(mean), low, high, verdict, len(one))


def _labels_and_guesses(labels, logits):
    labels, logits = np.asarray(labels), np.asarray(logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        shapes = f"{labels.shape} and {logits.shape}"
        raise ValueError(f"labels must be (n,) and logits (n, classes), got {shapes}")
    return labels, logits.argmax(axis=-1)
