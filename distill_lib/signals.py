"""What a teacher says about a data set, as a value: live, or stored in one of three forms.

A signal is a plain array ``(n, ...)`` or a :class:`Signal`; row i belongs to row i of the
inputs. :func:`take` finds rows by their number, so that no shuffling can part them, and
decodes them: every loss takes every form. :mod:`distill_lib.teacher` makes and keeps them.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.special
import tensorflow as tf

EMPTY = -1e30  # the logarithm of nothing, but finite: minus infinity would give nan gradients


@dataclass(frozen=True)
class Signal:
    """``arrays`` with n rows each, and ``decode``, which makes dense rows of rows of them."""

    arrays: tuple
    decode: partial

    def __len__(self):
        return len(self.arrays[0])


def live(teacher, x):
    """The logits of a teacher that runs, in inference mode, whenever rows are taken."""
    return Signal((np.asarray(x),), partial(teacher, training=False))


def dense(values):
    """The values in float16: about three digits, up to 65,504; ``ValueError`` beyond."""
    with np.errstate(over="ignore"):  # named below
        stored = np.asarray(values).astype("float16")
    if not np.isfinite(stored).all():
        raise ValueError("values must be finite in float16, got inf or nan")
    return stored


def top_k(logits, k):
    """The k most probable classes of ``(n, classes)``; the others share the rest evenly.

    Biased: what the teacher thinks of the others is lost, however long one trains.
    """
    log_p, classes = (
        _log_softmax(logits),
        np.argsort(-np.asarray(logits), axis=1, kind="stable"),
    )
    classes = classes[:, : _count("k", k, most=log_p.shape[1])]
    chosen = np.take_along_axis(log_p, classes, axis=1)
    rest = np.log(np.maximum(1 - np.exp(chosen).sum(axis=1, keepdims=True), 1e-7))
    decode = partial(top_k_rows, class_count=log_p.shape[1])
    return Signal((_integers(classes, log_p), dense(chosen), dense(rest)), decode)


def sample(logits, draws, *, temperature=1.0, seed=0):
    """``draws`` classes of each row, drawn from softmax(logits / T): unbiased.

    Decoded to T log(share of the draws): at the same T the soft target loss has the right
    gradient in expectation. At another T, or in a loss with KL(q || p), it means nothing: what
    was not drawn counts as impossible. Source: Anshumann et al. (2025), section 3.
    """
    log_p = _log_softmax(np.asarray(logits, "float64") / temperature)
    counts = np.random.default_rng(seed).multinomial(_count("draws", draws), np.exp(log_p))
    every = np.tile(np.arange(log_p.shape[1]), len(log_p))
    classes = np.repeat(every, counts.ravel()).reshape(len(log_p), draws)
    options = {"class_count": log_p.shape[1], "temperature": temperature}
    return Signal((_integers(classes, log_p),), partial(sampled_rows, **options))


def take(signal, rows):
    """Dense rows ``(batch, ...)`` of a signal or an array, by their numbers ``(batch,)``."""
    arrays, decode = parts(signal)
    return decode(*(tf.gather(array, rows) for array in arrays))


def joined(signals):
    """Signals of one form, one after the other, as tensors."""
    arrays, decodes = zip(*map(parts, signals), strict=True)
    columns = [tf.constant(np.concatenate(column)) for column in zip(*arrays, strict=True)]
    return Signal(tuple(columns), decodes[0])


def as_dataset(x, signals, *, batch_size=128, seed=None, augment=None):
    """A ``tf.data.Dataset`` of ``(x, {name: dense rows})`` for ``fit``.

    ``seed`` is that of the order, a new one each epoch; ``None`` keeps the order. ``augment``
    is a function of a batch of inputs; stored signals do not see what it does.
    """
    signals = {name: joined([signal]) for name, signal in signals.items()}
    inputs, numbers = tf.constant(x), tf.data.Dataset.range(len(x))
    if seed is not None:
        numbers = numbers.shuffle(len(x), seed=seed)

    def batch(rows):
        views = tf.gather(inputs, rows)
        given = {name: take(signal, rows) for name, signal in signals.items()}
        return views if augment is None else augment(views), given

    # One batch after the other: an augmentation draws its random numbers in order.
    return numbers.batch(batch_size).map(batch).prefetch(tf.data.AUTOTUNE)


def parts(signal):
    """The arrays of a signal and the function that decodes their rows."""
    if isinstance(signal, Signal):
        return signal.arrays, signal.decode
    return (signal,), partial(dense_rows)


def dense_rows(values):
    """Rows as they are stored."""
    return values


def top_k_rows(classes, log_p, rest, class_count):
    """Log-probabilities ``(batch, classes)`` out of what :func:`top_k` stores."""
    is_chosen = tf.one_hot(classes, class_count)
    chosen = tf.reduce_sum(is_chosen * tf.cast(log_p, "float32")[:, :, None], axis=1)
    others = 1 - tf.reduce_sum(is_chosen, axis=1)
    share = tf.cast(rest, "float32") - np.log(max(class_count - classes.shape[1], 1))
    return chosen + others * share


def sampled_rows(classes, class_count, temperature):
    """Logits ``(batch, classes)`` out of what :func:`sample` stores."""
    share = tf.reduce_mean(tf.one_hot(classes, class_count), axis=1)
    is_drawn = share > 0
    return temperature * tf.where(is_drawn, tf.math.log(tf.where(is_drawn, share, 1.0)), EMPTY)


def _log_softmax(logits):
    logits = np.asarray(logits)
    if logits.ndim != 2:
        raise ValueError(f"logits must have the shape (n, classes), got {logits.shape}")
    return scipy.special.log_softmax(logits.astype("float64"), axis=1)


def _integers(classes, log_p):
    return classes.astype(np.min_scalar_type(log_p.shape[1] - 1))


def _count(name, value, most=None):
    if value < 1 or (most is not None and value > most):
        raise ValueError(f"{name} must lie between 1 and {most}, got {value}")
    return value
