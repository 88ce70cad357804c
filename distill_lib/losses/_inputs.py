"""What comes in: one precision, shapes that fit, masks, and knobs."""

from math import inf, isfinite
from numbers import Real

import keras
from keras import ops


def as_floats(*arrays):
    """The arrays as tensors of one type, float32 or wider: 300 squared is inf in float16."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    dtype = keras.backend.result_type(*(tensor.dtype for tensor in tensors), "float32")
    return [ops.cast(tensor, dtype) for tensor in tensors]


def check_shape(name, array, expected, rule):
    """Raise unless the shape is ``expected``, ``None`` any size: nothing shall broadcast."""
    shape = tuple(array.shape)
    sizes = zip(shape, expected, strict=False)
    if len(shape) != len(expected) or any(None not in (a, b) and a != b for a, b in sizes):
        raise ValueError(f"{name} must have {rule} {tuple(expected)}, got shape {shape}")


def as_logits(name, array, least=2):
    """One tensor ``(..., classes)``; with one class softmax would be 1 and teach nothing."""
    (array,) = as_floats(array)
    shape = tuple(array.shape)
    if not shape or (shape[-1] is not None and shape[-1] < least):
        raise ValueError(f"{name} must have {least} or more classes last, got shape {shape}")
    return array


def logit_pair(teacher_logits, student_logits, least=2):
    """Teacher's and student's logits, of one type and one shape."""
    student_logits = as_logits("student_logits", student_logits, least)
    teacher, student = as_floats(teacher_logits, student_logits)
    check_shape("teacher_logits", teacher, student.shape, "the shape of student_logits")
    return teacher, student


def soften(teacher_logits, student_logits, temperature):
    """log p, log q, and the factor T^2 as a scalar of their type."""
    pair = logit_pair(teacher_logits, student_logits)
    temperature = positive("temperature", temperature, pair[0].dtype)
    return *(ops.log_softmax(x / temperature, axis=-1) for x in pair), temperature**2


def at_label(labels, log_q):
    """log q[label], nan where there is no such class; and booleans, true at the label."""
    labels = ops.convert_to_tensor(labels)
    check_shape("labels", labels, log_q.shape[:-1], "the shape of the examples")
    is_label = ops.equal(labels[..., None], ops.arange(log_q.shape[-1]))
    picked = ops.sum(ops.where(is_label, log_q, 0.0), axis=-1)
    return ops.where(ops.any(is_label, axis=-1), picked, float("nan")), is_label


def feature_pair(teacher_features, student_features, least=1):
    """Both features ``(batch, ...)``, of one type."""
    pair = as_floats(teacher_features, student_features)
    for name, array in zip(("teacher", "student"), pair, strict=True):
        shape = tuple(array.shape)
        if len(shape) < 2 or (shape[0] is not None and shape[0] < least):
            rule = f"hold {least} or more examples, each with a feature axis"
            raise ValueError(f"{name}_features must {rule}, got shape {shape}")
    return pair


def rows(teacher, student, mask, least=2):
    """Both features as ``(batch, width)`` with zeros where masked, and ones where kept."""
    pair = feature_pair(teacher, student, least)
    pair = [ops.reshape(x, (ops.shape(x)[0], -1)) for x in pair]
    check_shape("teacher_features", pair[0][:, 0], pair[1].shape[:1], "the batch size")
    return without_masked(mask, *pair)


def without_masked(mask, *arrays):
    """The arrays ``(..., width)`` with zeros where masked, and ones ``(...)`` where kept."""
    kept = along("mask", mask, arrays[0][..., 0]) != 0
    # Not times 0, and before all else: what is masked may be nan, and so would be its slope.
    arrays = [ops.where(kept[..., None], x, 0.0) for x in arrays]
    return *arrays, ops.cast(kept, arrays[0].dtype)


def along(name, array, values):
    """Weights or a mask on leading axes, brought to the shape of ``values``; 1 for ``None``."""
    ones = ops.ones_like(values)
    if array is None:
        return ones
    array = ops.cast(ops.convert_to_tensor(array), ones.dtype)
    check_shape(name, array, values.shape[: len(array.shape)], "the leading axes of the losses")
    trailing = [1] * (len(values.shape) - len(array.shape))
    return ones * ops.reshape(array, (*ops.shape(array), *trailing))


def positive(name, value, dtype):
    """A knob above 0."""
    return scalar(name, value, dtype, "be a finite number above 0", lambda x: 0 < x < inf)


def share(name, value, dtype, *, ends=True):
    """A knob in [0, 1], or strictly between 0 and 1."""
    rule = "lie in [0, 1]" if ends else "lie strictly between 0 and 1"
    return scalar(name, value, dtype, rule, lambda x: 0 < x < 1 or (ends and x in (0, 1)))


def scalar(name, value, dtype, rule="be finite", fits=isfinite):
    """Read a number, tensor or Variable (which may change between steps) as a scalar."""
    if isinstance(value, Real):  # directly in `dtype`: float32(0.1) is not float64(0.1)
        if not fits(value):
            raise ValueError(f"{name} must {rule}, got {value}")
        return ops.convert_to_tensor(float(value), dtype=dtype)
    tensor = ops.cast(ops.convert_to_tensor(value), dtype)
    check_shape(name, tensor, (), "the scalar shape")
    return tensor
