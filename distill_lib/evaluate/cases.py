"""The cases of a measure that count, and what is checked in them."""

import numpy as np


def labelled_cases(labels, logits, sample_weight):
    """Return labels (m,), logits (m, classes) and weights (m,) of the cases that count."""
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.shape != logits.shape[:-1] or labels.ndim == 0:
        rule = "labels must be (n,) and logits (n, classes)"
        hint = "of one-hot labels give np.argmax(labels, axis=-1)"
        raise ValueError(f"{rule}, got {labels.shape} and {logits.shape}; {hint}")
    counts, weights = counting(sample_weight, labels.shape)
    logits, labels = logits_that_count(logits, counts, "logits"), labels[counts]
    classes = logits.shape[-1]
    is_class = np.isin(labels, np.arange(classes))
    if not is_class.all():
        wrong = labels[~is_class][0]
        raise ValueError(f"labels must be whole numbers from 0 to {classes - 1}, got {wrong}")
    return labels.astype(int), logits, weights


def counting(sample_weight, shape):
    """Return which cases count (an array of ``shape``) and the weights (m,) of those."""
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


def logits_that_count(logits, counts, name):
    """Return the logits (m, classes) of the cases that count, all of them numbers."""
    if logits.shape[-1] < 2:
        rule = "must have two or more classes in their last axis"
        raise ValueError(f"{name} {rule}, got the shape {logits.shape}")
    is_number = np.isfinite(logits) | (logits == -np.inf)
    is_good = is_number.all(axis=-1) & np.isfinite(logits).any(axis=-1)
    if not is_good[counts].all():
        row = tuple(np.argwhere(counts & ~is_good)[0].tolist())
        rule = "must be finite, or -inf beside a finite one"
        raise ValueError(f"{name} {rule}, got {logits[row]} in row {row}")
    return logits[counts]
