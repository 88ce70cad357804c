"""Measures of quality and likeness.

``labels`` are class numbers of any shape, ``(n,)`` or ``(batch, steps)``, and ``logits`` have
one axis more, the classes: ``(n, classes)`` or ``(batch, steps, classes)``. Where only the
largest logit counts, probabilities will do. One position (example or token) is one case.

``sample_weight`` has the shape of the labels. A weight of 0 (or ``False`` of a boolean mask)
means that the case does not count, whatever its label and logits hold; the measure is
sum(w v) / sum(w). For ignored labels give ``labels != -100`` or the like.

``ValueError`` for other shapes, weights that are negative or let nothing count, and where a
case counts: for a logit that is nan or infinite (-inf, "never", is allowed beside a finite one)
and a label that is no class number. All shares run from 0 to 1.
"""

import keras
import numpy as np
from scipy import special
from sklearn import metrics

from distill_lib.training.students import Students


def predict_logits(model, x, batch_size=500):
    """Return the outputs of a model without dropout; no graph is compiled for it.

    Args:
        model: a model that can be called, or the
            :class:`~distill_lib.training.students.Students` of ``train_many``, which answer as
            one program.
        x: an array of n examples, or a dictionary or tuple of arrays as the model takes them.
            ``ValueError`` for anything else, such as a ``tf.data.Dataset``.
        batch_size: how many examples go through the model at a time.

    Returns:
        An array ``(n, outputs)``, or arrays in the structure of the model's outputs; of
        students ``(students, n, outputs)``.
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
    batches = []
    for start in range(0, max(shapes[0][0], 1), batch_size):
        rows = slice(start, start + batch_size)
        batch = keras.tree.map_structure(lambda part, rows=rows: part[rows], x)
        batches.append(model(batch, training=False))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def accuracy(labels, logits, sample_weight=None):
    """Return the share of cases whose largest logit is that of the label."""
    labels, logits, weights = _labelled_cases(labels, logits, sample_weight)
    return float(np.average(logits.argmax(axis=-1) == labels, weights=weights))


def macro_f1(labels, logits, sample_weight=None):
    """Return the mean of F1 over the classes that occur among labels and guesses.

    A class that is never predicted, or never right, counts 0.
    """
    labels, logits, weights = _labelled_cases(labels, logits, sample_weight)
    options = {"average": "macro", "zero_division": 0, "sample_weight": weights}
    return float(metrics.f1_score(labels, logits.argmax(axis=-1), **options))


def rmse(targets, predictions, sample_weight=None):
    """Return the root of the mean squared error of ``(n,)`` or ``(n, 1)``, in their unit."""
    one, two = np.asarray(targets), np.asarray(predictions)
    if {one.shape, two.shape} - {(one.size,), (one.size, 1)}:
        rule = "targets and predictions must be (n,) or (n, 1)"
        raise ValueError(f"{rule}, got {one.shape} and {two.shape}")
    mask, weights = _mask_and_weights(sample_weight, one.shape[:1])
    errors = (one.ravel() - two.ravel().astype("float64"))[mask]
    if not np.isfinite(errors).all():
        row = np.flatnonzero(mask)[~np.isfinite(errors)][0]
        raise ValueError(f"targets and predictions must be finite, but not in row {row}")
    return float(np.sqrt(np.average(errors**2, weights=weights)))


def agreement(teacher_logits, student_logits, sample_weight=None):
    """Return the share of cases for which both name one class (Stanton et al., 2021)."""
    teacher, student = np.asarray(teacher_logits), np.asarray(student_logits)
    if teacher.shape != student.shape:
        rule = "teacher_logits and student_logits must have the same shape"
        raise ValueError(f"{rule}, got {teacher.shape} and {student.shape}")
    mask, weights = _mask_and_weights(sample_weight, teacher.shape[:-1])
    teacher = _logits_that_count(teacher, mask, "teacher_logits")
    student = _logits_that_count(student, mask, "student_logits")
    is_same = teacher.argmax(axis=-1) == student.argmax(axis=-1)
    return float(np.average(is_same, weights=weights))


def calibration_error(labels, logits, bins=15, sample_weight=None):
    """Return the expected calibration error (Guo et al., 2017, equation 3).

    The confidence of a case, its largest softmax probability, is cut into bins of equal width,
    open on the left. Each bin adds |accuracy - mean confidence|, weighted by its share of the
    cases. Probabilities in the place of logits are refused, for a second softmax would change
    them; give their logarithms.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    labels, logits, weights = _labelled_cases(labels, logits, sample_weight)
    logits = logits.astype("float64")
    if np.all(logits >= 0) and np.allclose(logits.sum(axis=-1), 1, atol=1e-3):
        raise ValueError("logits must be numbers before a softmax, got probabilities")
    confidence = special.softmax(logits, axis=-1).max(axis=-1)
    is_right = logits.argmax(axis=-1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # |accuracy - confidence| times the weight of a bin is |sum of w (right - confidence)|.
    gaps = np.bincount(bin_of, weights=weights * (is_right - confidence))
    return float(np.abs(gaps).sum() / weights.sum())


def _labelled_cases(labels, logits, sample_weight):
    """Return labels (m,), logits (m, classes) and weights (m,) of the cases that count."""
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.shape != logits.shape[:-1] or labels.ndim == 0:
        rule = "labels must be (n,) and logits (n, classes)"
        hint = "of one-hot labels give np.argmax(labels, axis=-1)"
        raise ValueError(f"{rule}, got {labels.shape} and {logits.shape}; {hint}")
    mask, weights = _mask_and_weights(sample_weight, labels.shape)
    logits, labels = _logits_that_count(logits, mask, "logits"), labels[mask]
    classes = logits.shape[-1]
    is_class = np.isin(labels, np.arange(classes))
    if not is_class.all():
        wrong = labels[~is_class][0]
        raise ValueError(f"labels must be whole numbers from 0 to {classes - 1}, got {wrong}")
    return labels.astype(int), logits, weights


def _mask_and_weights(sample_weight, shape):
    """Return the mask of the cases that count, of this shape, and the weights (m,) of those."""
    weights = np.ones(shape) if sample_weight is None else np.asarray(sample_weight, "float64")
    if weights.shape != shape[: weights.ndim]:
        rule = f"sample_weight must have the shape {shape} or leading axes of it"
        raise ValueError(f"{rule}, got {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        rule = "sample_weight must be finite, not negative, and let one case count"
        raise ValueError(f"{rule}, got {weights}")
    weights = weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim))
    weights = np.broadcast_to(weights, shape)
    return weights > 0, weights[weights > 0]


def _logits_that_count(logits, mask, name):
    """Return the logits (m, classes) of the cases that count, all of them numbers."""
    if logits.shape[-1] < 2:
        rule = "must have two or more classes in their last axis"
        raise ValueError(f"{name} {rule}, got the shape {logits.shape}")
    is_never = logits == -np.inf
    is_good = (np.isfinite(logits) | is_never).all(axis=-1) & ~is_never.all(axis=-1)
    if not is_good[mask].all():
        row = tuple(np.argwhere(mask & ~is_good)[0].tolist())
        rule = "must be finite, or -inf beside a finite one"
        raise ValueError(f"{name} {rule}, got {logits[row]} in row {row}")
    return logits[mask]
