"""Measures of quality, likeness and cost, and the verdict on a comparison over seeds."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras.layers import Conv2D, Dense
from scipy import special, stats
from sklearn import metrics


def predict_logits(model, x, batch_size=500):
    """The model's outputs for all inputs, without dropout: an array ``(n, outputs)``.

    Called directly: ``predict`` would compile a graph for each of many small students.
    """
    starts = range(0, len(x), batch_size)
    batches = [model(x[start : start + batch_size], training=False) for start in starts]
    return np.concatenate([keras.ops.convert_to_numpy(batch) for batch in batches])


def accuracy(labels, logits):
    """The share of examples whose largest logit is that of the label, from 0 to 1.

    Args:
        labels: integers ``(n,)``.
        logits: ``(n, classes)``; probabilities will do as well.
    """
    return float(metrics.accuracy_score(*_labels_and_guesses(labels, logits)))


def macro_f1(labels, logits):
    """The mean over classes of F1, the harmonic mean of precision and recall; 0 to 1.

    Classes that never occur are left out; one that is never predicted counts 0.
    """
    pair = _labels_and_guesses(labels, logits)
    return float(metrics.f1_score(*pair, average="macro", zero_division=0))


def rmse(targets, predictions):
    """The root of the mean squared error, in the unit of the targets.

    Args:
        targets, predictions: as many numbers; ``(n,)`` and ``(n, 1)`` may be mixed.
    """
    targets, predictions = np.ravel(targets), np.ravel(predictions)
    return float(metrics.root_mean_squared_error(targets, predictions))


def agreement(teacher_logits, student_logits):
    """The share of examples, 0 to 1, for which both ``(n, classes)`` name the same class.

    Stanton et al. (2021), arXiv:2106.05945, call it fidelity: it may be low although both
    are accurate.
    """
    return accuracy(np.argmax(teacher_logits, axis=-1), student_logits)


def calibration_error(labels, logits, bins=15):
    """Expected calibration error (Guo et al., 2017, arXiv:1706.04599), from 0 to 1.

    The confidence (the largest softmax probability) is cut into bins of equal width, open on
    the left; each bin adds |accuracy - mean confidence|, weighted by its share of examples.

    Args:
        labels, logits: as for :func:`accuracy`, but probabilities will not do.
        bins: number of bins, at least 1.
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
    bare = keras.Model(model.inputs, model.outputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        bare.save(path)
        return path.stat().st_size


def operation_count(model):
    """Multiply-add operations of Dense and Conv2D layers for one example.

    Other layers (biases, activations, pooling, normalisation) are not counted; nested
    models are. A layer used twice is counted once.

    Raises:
        ValueError: a size is unknown until run time, as with ``Input((None, None, 3))``.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += operation_count(layer)
        elif isinstance(layer, (Dense, Conv2D)):
            total += _layer_operations(layer)
    return total


def _layer_operations(layer):
    shape = layer.output.shape[1:]
    if None in shape:
        raise ValueError(f"layer {layer.name!r} must have known sizes, got {tuple(shape)}")
    channels = -1 if keras.backend.image_data_format() == "channels_last" else 0
    positions = int(np.prod(shape)) // shape[channels if isinstance(layer, Conv2D) else -1]
    return positions * int(np.prod(layer.kernel.shape))


def latency(function, *, repeats=30, warmup=5):
    """The median seconds of one call of ``function()``, after ``warmup`` calls unmeasured.

    Compare two functions on one machine only, and one after the other.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    seconds = []
    for _ in range(warmup + repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[warmup:]))


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
    leaves out zero, else "cannot tell". Where all differences are equal the interval has
    no width, and only a difference of exactly zero "cannot tell".

    Args:
        candidate: one number for each seed, such as accuracies of distilled students.
        control: as many numbers, of the same seeds in the same order.
        higher_is_better: ``False`` for errors, seconds, bytes.
        confidence: coverage of the interval, between 0 and 1.

    Raises:
        ValueError: fewer than two pairs, other than one row of numbers each, different
            lengths, a number that is not finite, or a confidence out of range.
    """
    differences = _paired_differences(candidate, control)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    mean, error = differences.mean(), stats.sem(differences)
    half = error * stats.t.ppf((1 + confidence) / 2, df=len(differences) - 1)
    low, high = mean - half, mean + half
    verdict = "cannot tell"
    if low > 0 or high < 0:
        verdict = "better" if (low > 0) == higher_is_better else "worse"
    return Comparison(float(mean), float(low), float(high), verdict, len(differences))


def _paired_differences(candidate, control):
    candidate, control = np.asarray(candidate, float), np.asarray(control, float)
    shapes = f"got shapes {candidate.shape} and {control.shape}"
    if candidate.ndim != 1 or candidate.shape != control.shape or len(candidate) < 2:
        raise ValueError(f"candidate and control must be two or more pairs, {shapes}")
    if not np.isfinite([candidate, control]).all():
        raise ValueError(f"candidate and control must be finite, got {candidate}, {control}")
    return candidate - control


def _labels_and_guesses(labels, logits):
    labels, logits = np.asarray(labels), np.asarray(logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        shapes = f"{labels.shape} and {logits.shape}"
        raise ValueError(f"labels must be (n,) and logits (n, classes), got {shapes}")
    return labels, logits.argmax(axis=-1)
