"""Three forms in which answers are stored: all of them in float16, the top k, or samples."""

from functools import partial

import numpy as np
import scipy.special
import tensorflow as tf

from distill_lib.signals.checks import check_values
from distill_lib.signals.stored import StoredSignal

NOTHING = -1e30  # the logarithm of nothing, but finite: 0 times minus infinity would be nan
FLOAT16_LEAST = -65504.0
BLOCK_SIZE = 2**22  # numbers worked on at once: copies in float64 of all would fill the memory


def dense(values):
    """The values in float16: about three digits, numbers up to 65,504.

    Minus infinity stays what it is, and so do integers and booleans, with their type.
    ``ValueError`` for nan, plus infinity, and a number that float16 cannot hold.
    """
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.inexact):
        return values
    with np.errstate(over="ignore"):  # refused below
        stored = values.astype("float16")
    wrong = ~(np.isfinite(stored) | np.isneginf(values))
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        rule = "values must be finite in float16 (or -inf)"
        raise ValueError(f"{rule}, got {values[place]} in row {(*place, 0)[0]}")
    return stored


def top_k(logits, k, *, temperature=1.0):
    """The k most probable classes at T, and the probability of all others together.

    Its arrays are ``teacher_classes`` ``(n, ..., k)`` and ``teacher_log_probabilities``
    ``(n, ..., k + 1)`` in float16, the last that of all other classes.
    :func:`~distill_lib.losses.top_k_soft_target_loss` takes them as they are.

    For any other loss the dense rows, T times log-probabilities, spread the tail evenly over
    the other classes. That is biased: a student equal to the teacher does not get 0, because
    probability has moved within the tail (of 0.15 and 0.05, which become 0.1 each, one
    twentieth), however long one trains.

    Args:
        logits: array ``(n, ..., classes)``; the answers of every step are ``(n, steps,
            vocabulary)``. Minus infinity means "never".
        k: from 1 to the number of classes. Of equal classes the lower number is kept.
        temperature: T above 0, the one at which the loss will be used.
    """
    logits = _checked_logits(logits)
    k = _count("k", k, most=logits.shape[-1])
    classes = np.empty((*logits.shape[:-1], k), _smallest_type(logits))
    log_p = np.empty((*logits.shape[:-1], k + 1), "float16")
    for rows in _blocks(logits):
        classes[rows], log_p[rows] = _largest(_log_softmax(logits[rows], temperature), k)
    options = {"class_count": logits.shape[-1], "temperature": float(temperature)}
    names = ("teacher_classes", "teacher_log_probabilities")
    decode = partial(_decode_top_k, **options)
    return StoredSignal((classes, log_p), decode, logits.shape[1:], names)


def sample(logits, draws, *, temperature=1.0, seed=0):
    """``draws`` classes of each row, drawn from softmax(logits / T): unbiased.

    Decoded to T log(fraction of the draws): at the same T the soft target loss has the right
    gradient in expectation. At another T, or in a loss with KL(q || p), the rows mean nothing:
    what was not drawn counts as impossible. Source: Anshumann et al. (2025), section 3.

    Args:
        logits: array ``(n, ..., classes)``, as in :func:`top_k`.
        draws: how many, 1 or more; ``seed`` is that of the draws.
        temperature: T above 0.
    """
    logits = _checked_logits(logits)
    shape = (*logits.shape[:-1], _count("draws", draws))
    drawn, random = np.empty(shape, _smallest_type(logits)), np.random.default_rng(seed)
    for rows in _blocks(logits):
        p = np.exp(_log_softmax(logits[rows], temperature))
        counts = random.multinomial(draws, p)
        places = np.nonzero(counts)  # in the order of rows and classes
        drawn[rows] = np.repeat(places[-1], counts[places]).reshape(drawn[rows].shape)
    options = {"class_count": logits.shape[-1], "temperature": float(temperature)}
    return StoredSignal((drawn,), partial(_decode_sample, **options), logits.shape[1:])


def _decode_top_k(classes, log_p, class_count, temperature):
    """T times log-probabilities ``(..., classes)``, the tail spread evenly."""
    log_p = tf.cast(log_p, "float32")
    other_count = max(class_count - classes.shape[-1], 1)
    kept = tf.maximum(log_p[..., :-1], NOTHING)
    count = _sums_by_class(tf.ones_like(kept), classes, class_count)
    kept = _sums_by_class(kept, classes, class_count)
    others = tf.maximum(log_p[..., -1:], NOTHING) - np.float32(np.log(other_count))
    logs = tf.where(count > 0, kept, others)
    return temperature * tf.where(logs > NOTHING, logs, -np.inf)


def _decode_sample(classes, class_count, temperature):
    """T times the logarithms of fractions of the draws ``(..., classes)``."""
    ones = tf.ones_like(classes, "float32")
    fraction = _sums_by_class(ones, classes, class_count) / classes.shape[-1]
    is_drawn = fraction > 0
    logs = tf.math.log(tf.where(is_drawn, fraction, 1.0))
    return temperature * tf.where(is_drawn, logs, NOTHING)


def _sums_by_class(values, classes, class_count):
    """Values ``(..., k)`` added up in the places of their classes ``(..., class_count)``."""
    # A sum by segments, because one-hot rows would take k times the memory of the answer.
    classes = tf.cast(classes, "int64")
    flat = tf.reshape(classes, (-1, classes.shape[-1]))
    count = tf.shape(flat, out_type="int64")[0]
    places = tf.reshape(flat + class_count * tf.range(count)[:, None], (-1,))
    sums = tf.math.unsorted_segment_sum(tf.reshape(values, (-1,)), places, count * class_count)
    return tf.reshape(sums, tf.concat([tf.shape(classes)[:-1], [class_count]], axis=0))


def _checked_logits(logits):
    logits = np.asarray(logits)
    if logits.ndim < 2 or logits.shape[-1] < 2:
        rule = "have the shape (n, ..., classes), with two or more classes"
        raise ValueError(f"logits must {rule}, got {logits.shape}")
    check_values("logits", logits, allow_minus_infinity=True)
    return logits


def _blocks(logits):
    """Slices of rows that hold some :data:`BLOCK_SIZE` numbers each."""
    step = max(1, BLOCK_SIZE * len(logits) // max(logits.size, 1))
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _log_softmax(logits, temperature):
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
    return scipy.special.log_softmax(logits.astype("float64") / temperature, axis=-1)


def _largest(log_p, k):
    """The k most probable classes; their log-probabilities and, last, that of the others."""
    values, classes = (np.asarray(one) for one in tf.math.top_k(log_p, k))
    others = log_p.copy()
    np.put_along_axis(others, classes, -np.inf, axis=-1)
    tail = scipy.special.logsumexp(others, axis=-1, keepdims=True)
    found = np.concatenate([values, tail], axis=-1)
    # Float16 ends here; e to this power is 0, but only minus infinity means "never".
    return classes, np.where(found > -np.inf, np.maximum(found, FLOAT16_LEAST), found)


def _smallest_type(logits):
    """The smallest type of integers that holds the numbers of the classes."""
    return np.min_scalar_type(logits.shape[-1] - 1)


def _count(name, value, most=None):
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or value < 1 or (most is not None and value > most):
        rule = "be an integer from 1" if most is None else f"lie between 1 and {most}"
        raise ValueError(f"{name} must {rule}, got {value}")
    return int(value)
