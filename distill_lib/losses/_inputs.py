"""What comes in: signals of one precision and of shapes that fit, labels, and masks."""

from math import inf

import keras
from keras import ops

from distill_lib.losses._checks import check_shape, knob, known_values, require


def as_floats(*arrays):
    """Return tensors of one type, float32 or wider: in float16, 300 squared is infinite."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    dtype = keras.backend.result_type(*(tensor.dtype for tensor in tensors), "float32")
    return [ops.cast(tensor, dtype) for tensor in tensors]


def as_logits(name, array, least=2):
    """Return a tensor ``(..., classes)``: the softmax of one class is 1 and teaches nothing."""
    (array,) = as_floats(array)
    shape = tuple(array.shape)
    if not shape or (shape[-1] is not None and shape[-1] < least):
        raise ValueError(f"{name} must have {least} or more classes last, got shape {shape}")
    return array


def logit_pair(teacher_logits, student_logits, least=2):
    """Return the teacher's and the student's logits, of one type and one shape."""
    student_logits = as_logits("student_logits", student_logits, least)
    teacher, student = as_floats(teacher_logits, student_logits)
    check_shape("teacher_logits", teacher, student.shape, "the shape of student_logits")
    return teacher, student


def finite_teacher(teacher_logits):
    """Return the teacher's logits for a loss that has no use for "never", which is -inf."""
    never = ops.equal(teacher_logits, -inf)
    rule = "be finite for this loss, which compares distances or scales of logits"
    return require("teacher_logits", teacher_logits, ops.logical_not(never), rule)


def softened(teacher_logits, student_logits, temperature):
    """Return log p, log q, and the factor T^2 as a scalar of their type."""
    teacher, student = logit_pair(teacher_logits, student_logits)
    temperature = knob("temperature", temperature, teacher.dtype)
    log_p = ops.log_softmax(teacher / temperature, axis=-1)
    log_q = ops.log_softmax(student / temperature, axis=-1)
    return log_p, log_q, temperature**2


def one_hot(name, labels, logits):
    """Return booleans of the shape of the logits, true at the label of each example.

    Where its value is not known, a label that is no class has no true entry.
    """
    labels = ops.convert_to_tensor(labels)
    advice = ""
    if len(labels.shape) == len(logits.shape) and labels.shape[-1] == logits.shape[-1]:
        advice = f"; if they are one-hot, write keras.ops.argmax({name}, axis=-1)"
    check_shape(name, labels, logits.shape[:-1], "the shape of the examples", advice)
    classes = ops.shape(logits)[-1]
    is_label = ops.equal(labels[..., None], ops.arange(classes))
    is_class = ops.any(is_label, axis=-1)
    if known_values(is_class) is not None:
        known, rule = known_values(labels), f"be whole numbers from 0 to {classes - 1}"
        if known.size and known.min() == 1 and known.max() == classes:
            rule += f" (subtract 1 from labels that count from 1 to {classes})"
        require(name, labels, is_class, rule)
    return is_label


def picked(log_q, is_label):
    """Return log q[label] ``(...)``, and nan where no class is the label."""
    value = ops.sum(ops.where(is_label, log_q, 0.0), axis=-1)
    return ops.where(ops.any(is_label, axis=-1), value, float("nan"))


def feature_pair(teacher_features, student_features, least=1):
    """Return both features ``(batch, ...)``, of one type."""
    pair = as_floats(teacher_features, student_features)
    for name, array in zip(("teacher", "student"), pair, strict=True):
        shape = tuple(array.shape)
        if len(shape) < 2 or (shape[0] is not None and shape[0] < least):
            rule = f"hold {least} or more examples, each with a feature axis"
            raise ValueError(f"{name}_features must {rule}, got shape {shape}")
    return pair


def flat_features(teacher_features, student_features, mask, least=2):
    """Return both features as ``(batch, width)``, zeros where masked, and what is kept.

    ``kept`` is ``(batch,)``, 1 where the example counts, of the type of the features.
    """
    pair = feature_pair(teacher_features, student_features, least)
    teacher, student = (ops.reshape(x, (ops.shape(x)[0], -1)) for x in pair)
    check_shape("teacher_features", teacher[:, 0], student.shape[:1], "the batch size")
    kept = is_kept(mask, student[:, 0])
    teacher, student = without_masked(teacher, kept), without_masked(student, kept)
    return teacher, student, ops.cast(kept, student.dtype)


def is_kept(mask, examples):
    """Return booleans of the shape of the examples; without a mask all are kept."""
    return ops.not_equal(on_leading_axes("mask", mask, examples), 0)


def without_masked(array, kept):
    """Return the array ``(..., width)`` with zeros in the examples that are not kept.

    It is not multiplied by 0, and comes before all else: what is masked may be nan, and then
    so would be the product, and the slope of whatever is computed of it.
    """
    return ops.where(kept[..., None], array, 0.0)


def on_leading_axes(name, array, values):
    """Return weights or a mask, repeated to the shape of ``values``; ones for ``None``."""
    ones = ops.ones_like(values)
    if array is None:
        return ones
    array = ops.cast(ops.convert_to_tensor(array), ones.dtype)
    check_shape(name, array, values.shape[: len(array.shape)], "the leading axes of the losses")
    trailing = [1] * (len(values.shape) - len(array.shape))
    return ones * ops.reshape(array, (*ops.shape(array), *trailing))
