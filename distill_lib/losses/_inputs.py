"""What the losses share: precision, shapes, numbers, and operations that never give nan."""

from numbers import Real

import keras
from keras import ops


def as_floats(*arrays):
    """The arrays as tensors of one type, float32 or wider: 300 squared is inf in float16."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    dtype = keras.backend.result_type(*(tensor.dtype for tensor in tensors), "float32")
    return [ops.cast(tensor, dtype) for tensor in tensors]


def check_shape(name, array, expected, rule):
    """Raise ``ValueError`` unless the shape equals ``expected``; ``None`` fits any size.

    ``(n, 1)`` against ``(n,)`` would broadcast to an ``(n, n)`` table of losses in silence.
    """
    shape = tuple(array.shape)
    fits = len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have {rule} {tuple(expected)}, got shape {shape}")


def logits(name, array, least=2):
    """One tensor ``(..., classes)``; with one class softmax would be 1 and teach nothing."""
    (array,) = as_floats(array)
    shape = tuple(array.shape)
    if len(shape) == 0 or (shape[-1] or least) < least:
        rule = f"{('one class', 'two classes')[least - 1]} or more on its last axis"
        raise ValueError(f"{name} must have {rule}, got shape {shape}")
    return array


def logit_pair(teacher_logits, student_logits, least=2):
    """Teacher's and student's logits, of one type and one shape."""
    student_logits = logits("student_logits", student_logits, least)
    teacher, student = as_floats(teacher_logits, student_logits)
    check_shape("teacher_logits", teacher, student.shape, "the shape of student_logits")
    return teacher, student


def softened(teacher_logits, student_logits, temperature):
    """log p, log q and the temperature as a scalar of their type."""
    pair = logit_pair(teacher_logits, student_logits)
    temperature = positive("temperature", temperature, pair[0].dtype)
    return *(ops.log_softmax(x / temperature, axis=-1) for x in pair), temperature


def divergence(log_p, log_q):
    """KL(p || q) over the last axis."""
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def at_label(labels, logits):
    """Booleans ``(..., classes)``, true at the label; all false if there is no such class."""
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    check_shape("labels", labels, logits.shape[:-1], "the shape of the examples")
    return ops.equal(labels[..., None], ops.arange(logits.shape[-1], dtype="int32"))


def or_nan(is_label, values):
    """The values, but nan where no class is the label."""
    return ops.where(ops.any(is_label, axis=-1), values, float("nan"))


def kept_rows(mask, array):
    """The mask ``(batch,)`` as booleans; all true for ``None``."""
    if mask is None:
        return ops.ones_like(array[:, 0], dtype="bool")
    mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    check_shape("mask", mask, array.shape[:1], "the shape (batch,)")
    return mask


def features(name, array, axes=None):
    """One tensor ``(batch, ...)`` with a feature axis or more, with ``axes`` axes if given."""
    (array,) = as_floats(array)
    if len(array.shape) < 2 or (axes is not None and len(array.shape) != axes):
        expected = "a batch axis and a feature axis" if axes is None else f"{axes} axes"
        raise ValueError(f"{name} must have {expected}, got shape {tuple(array.shape)}")
    return array


def rows(teacher_features, student_features, mask, least=2):
    """Both features as ``(batch, width)`` with zeros where masked, and ones where kept."""
    signals = {"teacher_features": teacher_features, "student_features": student_features}
    pair = [features(name, array) for name, array in signals.items()]
    for name, array in zip(signals, pair, strict=True):
        if array.shape[0] is not None and array.shape[0] < least:
            raise ValueError(
                f"{name} must hold {least} examples or more, got shape {tuple(array.shape)}"
            )
    pair = as_floats(*(ops.reshape(array, (ops.shape(array)[0], -1)) for array in pair))
    check_shape("teacher_features", pair[0][:, 0], pair[1].shape[:1], "the batch size")
    mask = kept_rows(mask, pair[1])
    # Not times 0: a masked row may hold nan.
    pair = [ops.where(mask[:, None], array, 0.0) for array in pair]
    return *pair, ops.cast(mask, pair[1].dtype)


def partners(kept):
    """``(batch, batch)``: 1 for two different kept examples; and their number for each."""
    pairs = kept[:, None] * kept[None, :] * (1 - ops.eye(ops.shape(kept)[0], dtype=kept.dtype))
    return pairs, ops.maximum(ops.sum(kept) - 1, 1)


def root(squared):
    """Square root with the slope 0 at 0, where it is infinite and times 0 would be nan."""
    is_positive = squared > 0
    return ops.where(is_positive, ops.sqrt(ops.where(is_positive, squared, 1.0)), 0.0)


def unit(vectors, axis=-1):
    """Vectors of length 1; those of length 0 stay 0, with a gradient of 0."""
    length = root(ops.sum(ops.square(vectors), axis=axis, keepdims=True))
    return vectors / ops.where(length > 0, length, float("inf"))


def huber(difference):
    """x^2 / 2 for |x| <= 1, |x| - 1/2 beyond."""
    size = ops.abs(difference)
    return ops.where(size <= 1, 0.5 * ops.square(difference), size - 0.5)


def positive(name, value, dtype):
    """A knob above 0."""
    if isinstance(value, Real) and not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return scalar(name, value, dtype)


def share(name, value, dtype, *, ends=True):
    """A knob in [0, 1], or strictly between 0 and 1."""
    if isinstance(value, Real) and not (0 < value < 1 or (ends and value in (0, 1))):
        rule = "lie in [0, 1]" if ends else "lie strictly between 0 and 1"
        raise ValueError(f"{name} must {rule}, got {value}")
    return scalar(name, value, dtype)


def scalar(name, value, dtype):
    """Read a number, tensor or Variable (which may change between steps) as a scalar."""
    if isinstance(value, Real):  # directly in `dtype`: float32(0.1) is not float64(0.1)
        return ops.convert_to_tensor(float(value), dtype=dtype)
    tensor = ops.cast(ops.convert_to_tensor(value), dtype)
    check_shape(name, tensor, (), "the scalar shape")
    return tensor
