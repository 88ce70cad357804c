"""Measures of quality and likeness.

``labels`` are class numbers of any shape, ``(n,)`` or ``(batch, steps)``, and ``logits`` have
one axis more, the classes: ``(n, classes)`` or ``(batch, steps, classes)``. Where only the
largest logit counts, probabilities will do. One position (example or token) is one case.

``sample_weight`` has the shape of the labels. A weight of 0 (or ``False`` of a boolean mask)
means that the case does not count, whatever its label and logits hold; the measure is
sum(w v) / sum(w). For ignored labels give ``labels != -100`` or the like.

``ValueError`` for other shapes, and where a case counts: for a logit that is nan or infinite
(-inf, "never", is allowed beside a finite one) and a label that is no class number. All shares
run from 0 to 1.
"""

import keras
import numpy as np
from scipy import special
from sklearn import metrics

from distill_lib.evaluate.cases import counting, labelled_cases, logits_that_count
from distill_lib.training.students import Students


def predict_logits(model, x, batch_size=500):
    """Return the outputs of a model without dropout; no graph is compiled for it.

    Args:
        model: a model that can be called, or the
            :class:`~distill_lib.training.students.Students` of ``train_many``, which answer as
            one program.
        x: an array of n examples, or a dictionary or tuple of arrays as the model takes them.
        batch_size: how many examples go through the model at a time.

    Returns:
        An array ``(n, outputs)``, or arrays in the structure of the model's outputs; of
        students ``(students, n, outputs)``.

    Raises:
        ValueError: if x is no array of examples, as a ``tf.data.Dataset``, or holds arrays of
            different lengths.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(model, Students):
        return model.predict(x, batch_size)
    shapes = [tuple(getattr(part, "shape", ())) for part in keras.tree.flatten(x)]
    lengths = {shape[:1] for shape in shapes}  # () is the shape of what is no array
    if len(lengths) != 1 or lengths == {()}:
        kind = type(x).__name__
        raise ValueError(f"x must be arrays of n examples, got a {kind} of shapes {shapes}")
    (count,) = lengths.pop()
    batches = []
    for start in range(0, max(count, 1), batch_size):
        answer = model(_rows(x, start, start + batch_size), training=False)
        batches.append(keras.tree.map_structure(keras.ops.convert_to_numpy, answer))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def _rows(x, start, stop):
    return keras.tree.map_structure(lambda part: part[start:stop], x)


def accuracy(labels, logits, sample_weight=None):
    """Return the share of cases whose largest logit is that of the label."""
    labels, logits, weights = labelled_cases(labels, logits, sample_weight)
    return float(np.average(logits.argmax(axis=-1) == labels, weights=weights))


def macro_f1(labels, logits, sample_weight=None):
    """Return the mean of F1 over the classes that occur among labels and guesses.

    A class that is never predicted, or never right, counts 0.
    """
    labels, logits, weights = labelled_cases(labels, logits, sample_weight)
    options = {"average": "macro", "zero_division": 0, "sample_weight": weights}
    return float(metrics.f1_score(labels, logits.argmax(axis=-1), **options))


def rmse(targets, predictions, sample_weight=None):
    """Return the root of the mean squared error of ``(n,)`` or ``(n, 1)``, in their unit."""
    one, two = np.asarray(targets), np.asarray(predictions)
    if {one.shape, two.shape} - {(one.size,), (one.size, 1)}:
        rule = "targets and predictions must be (n,) or (n, 1)"
        raise ValueError(f"{rule}, got {one.shape} and {two.shape}")
    counts, weights = counting(sample_weight, one.shape[:1])
    errors = (one.ravel() - two.ravel().astype("float64"))[counts]
    if not np.isfinite(errors).all():
        row = np.flatnonzero(counts)[~np.isfinite(errors)][0]
        raise ValueError(f"targets and predictions must be finite, but not in row {row}")
    return float(np.sqrt(np.average(errors**2, weights=weights)))


def agreement(teacher_logits, student_logits, sample_weight=None):
    """Return the share of cases for which both name one class (Stanton et al., 2021)."""
    teacher, student = np.asarray(teacher_logits), np.asarray(student_logits)
    if teacher.shape != student.shape:
        rule = "teacher_logits and student_logits must have the same shape"
        raise ValueError(f"{rule}, got {teacher.shape} and {student.shape}")
    counts, weights = counting(sample_weight, teacher.shape[:-1])
    guess = logits_that_count(teacher, counts, "teacher_logits").argmax(axis=-1)
    other = logits_that_count(student, counts, "student_logits").argmax(axis=-1)
    return float(np.average(guess == other, weights=weights))


def calibration_error(labels, logits, bins=15, sample_weight=None):
    """Return the expected calibration error (Guo et al., 2017, equation 3).

    The confidence of a case, its largest softmax probability, is cut into bins of equal width,
    open on the left. Each bin adds |accuracy - mean confidence|, weighted by its share of the
    cases.

    Args:
        labels: class numbers.
        logits: the numbers before a softmax. Probabilities are refused, for a second softmax
            would change them; give their logarithms.
        bins: the number of bins, at least 1.
        sample_weight: see the top of this module.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    labels, logits, weights = labelled_cases(labels, logits, sample_weight)
    logits = logits.astype("float64")
    if np.all(logits >= 0) and np.allclose(logits.sum(axis=-1), 1, atol=1e-3):
        raise ValueError("logits must be numbers before a softmax, got probabilities")
    confidence = special.softmax(logits, axis=-1).max(axis=-1)
    is_right = logits.argmax(axis=-1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # |accuracy - confidence| times the weight of a bin is |sum of w (right - confidence)|.
    gaps = np.bincount(bin_of, weights=weights * (is_right - confidence))
    return float(np.abs(gaps).sum() / weights.sum())
