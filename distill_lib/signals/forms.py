"""Three forms in which answers are stored: all of them in float16, the top k, or samples."""

from functools import partial

import numpy as np
import scipy.special
import tensorflow as tf

from distill_lib.signals.checks import check_values, refuse_first
from distill_lib.signals.stored import StoredSignal

NOTHING = -1e30  # the logarithm of nothing, but finite: 0 times minus infinity would be nan
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
    refuse_first(wrong, values, "values must be finite in float16 (or -inf)")
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
    logits, temperature = _checked(logits, temperature)
    class_count = logits.shape[-1]
    if not _is_count(k) or k > class_count:
        raise ValueError(f"k must lie between 1 and {class_count}, got {k}")
    classes = np.empty((*logits.shape[:-1], k), np.min_scalar_type(class_count - 1))
    log_p = np.empty((*logits.shape[:-1], k + 1), "float16")
    for rows in _blocks(logits):
        classes[rows], log_p[rows] = _largest(_log_softmax(logits[rows], temperature), k)
    decode = partial(_decode_top_k, class_count=class_count, temperature=temperature)
    names = ("teacher_classes", "teacher_log_probabilities")
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
    logits, temperature = _checked(logits, temperature)
    class_count = logits.shape[-1]
    if not _is_count(draws):
        raise ValueError(f"draws must be an integer from 1, got {draws}")
    drawn = np.empty((*logits.shape[:-1], draws), np.min_scalar_type(class_count - 1))
    random = np.random.default_rng(seed)
    for rows in _blocks(logits):
        counts = random.multinomial(draws, np.exp(_log_softmax(logits[rows], temperature)))
        places = np.nonzero(counts)  # in the order of rows and classes
        drawn[rows] = np.repeat(places[-1], counts[places]).reshape(drawn[rows].shape)
    decode = partial(_decode_sample, class_count=class_count, temperature=temperature)
    return StoredSignal((drawn,), decode, logits.shape[1:])


def _checked(logits, temperature):
    logits = np.asarray(logits)
    if logits.ndim < 2 or logits.shape[-1] < 2:
        rule = "have the shape (n, ..., classes), with two or more classes"
        raise ValueError(f"logits must {rule}, got {logits.shape}")
    check_values("logits", logits, allow_minus_infinity=True)
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
    return logits, float(temperature)


def _is_count(value):
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_integer and value >= 1


def _blocks(logits):
    """Slices of rows that hold some :data:`BLOCK_SIZE` numbers each."""
    step = max(1, BLOCK_SIZE * len(logits) // max(logits.size, 1))
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _log_softmax(logits, temperature):
    return scipy.special.log_softmax(logits.astype("float64") / temperature, axis=-1)


def _largest(log_p, k):
    """The k most probable classes; their log-probabilities and, last, that of the others."""
    values, classes = (np.asarray(one) for one in tf.math.top_k(log_p, k))
    others = log_p.copy()
    np.put_along_axis(others, classes, -np.inf, axis=-1)
    tail = scipy.special.logsumexp(others, axis=-1, keepdims=True)
    found = np.concatenate([values, tail], axis=-1)
    # Beyond float16 e to this power is 0, but only minus infinity means "never".
    least = np.finfo("float16").min
    return classes, np.where(np.isneginf(found), found, np.maximum(found, least))


def _decode_top_k(classes, log_p, class_count, temperature):
    """T times log-probabilities ``(..., classes)``, the tail spread evenly."""
    log_p = tf.maximum(tf.cast(log_p, "float32"), NOTHING)
    other_count = max(class_count - classes.shape[-1], 1)
    others = log_p[..., -1:] - np.float32(np.log(other_count))
    kept = log_p[..., :-1]
    is_kept = _sums_by_class(tf.ones_like(kept), classes, class_count) > 0
    logs = tf.where(is_kept, _sums_by_class(kept, classes, class_count), others)
    return temperature * tf.where(logs > NOTHING, logs, -np.inf)


def _decode_sample(classes, class_count, temperature):
    """T times the logarithms of fractions of the draws ``(..., classes)``."""
    counts = _sums_by_class(tf.ones_like(classes, "float32"), classes, class_count)
    logs = tf.math.log(tf.maximum(counts, 1.0) / classes.shape[-1])
    return temperature * tf.where(counts > 0, logs, NOTHING)


def _sums_by_class(values, classes, class_count):
    """Values ``(..., k)`` added up in the places of their classes ``(..., class_count)``."""
    # A sum by segments, because one-hot rows would take k times the memory of the answer.
    classes = tf.cast(classes, "int64")
    flat = tf.reshape(classes, (-1, classes.shape[-1]))
    count = tf.shape(flat, out_type="int64")[0]
    places = tf.reshape(flat + class_count * tf.range(count)[:, None], (-1,))
    sums = tf.math.unsorted_segment_sum(tf.reshape(values, (-1,)), places, count * class_count)
    return tf.reshape(sums, tf.concat([tf.shape(classes)[:-1], [class_count]], axis=0))
