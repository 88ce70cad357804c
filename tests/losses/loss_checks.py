"""What the tests of the losses share: what every one of them must keep."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import settings

from distill_lib.losses import correlation_loss, weighted_mean

few = settings(deadline=None, max_examples=8, derandomize=True)


def call(loss, teacher, student, **knobs):
    """The loss of two arrays, logits or features, whichever it takes."""
    takes = inspect.signature(loss).parameters
    kind = "logits" if "student_logits" in takes else "features"
    signals = {f"teacher_{kind}": teacher, f"student_{kind}": student}
    return loss(**{name: signals[name] for name in signals if name in takes}, **knobs)


def of_rows(rows, knobs):
    """The knobs, with the labels of some examples alone."""
    return {name: np.asarray(x)[rows] if name == "labels" else x for name, x in knobs.items()}


def gradient_of(function, x):
    """d sum(function(x)) / dx, as an array of x's type."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tf.convert_to_tensor(tape.gradient(total, x)).numpy()


def finite_differences(function, x, step=1e-6):
    function, numeric = tf.function(function), np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += step
        behind[index] -= step
        change = function(tf.constant(ahead)) - function(tf.constant(behind))
        numeric[index] = np.sum(change) / (2 * step)
    return numeric


def check_gradients(loss, teacher, student, **knobs):
    """Both gradients in float64; weights are no part of the loss, but scale its rows."""
    weights = np.linspace(0.5, 2, len(student))
    sides = [(lambda s: weights * call(loss, teacher, s, **knobs), student)]
    if inspect.signature(loss).parameters.keys() & {"teacher_logits", "teacher_features"}:
        sides.append((lambda t: weights * call(loss, t, student, **knobs), teacher))
    for function, x in sides:
        slope = gradient_of(function, x)
        assert np.abs(slope).max() > 1e-3
        np.testing.assert_allclose(slope, finite_differences(function, x), atol=1e-7)


def check_equality(loss, both, **knobs):
    """No loss and no gradient where the student equals the teacher."""
    np.testing.assert_allclose(call(loss, both, both, **knobs), 0.0, atol=1e-15)
    slope = gradient_of(lambda s: call(loss, both, s, **knobs), both)
    np.testing.assert_allclose(slope, 0.0, atol=1e-14)


def check_order(loss, teacher, student, **knobs):
    """The examples keep their losses when the batch is shuffled."""
    order = np.random.default_rng(1).permutation(len(student))
    shuffled = call(loss, teacher[order], student[order], **of_rows(order, knobs))
    expected = np.asarray(call(loss, teacher, student, **knobs))[order]
    np.testing.assert_allclose(shuffled, expected, rtol=1e-12)


def check_alone(loss, teacher, student, **knobs):
    """An example depends on itself alone; weights and masks of the mean equal a loop."""
    together = call(loss, teacher, student, **knobs)
    alone = []
    for i in range(len(student)):
        row = slice(i, i + 1)
        alone.append(call(loss, teacher[row], student[row], **of_rows(row, knobs))[0])
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    student = student.copy()
    student[1] = np.nan
    mask, weights = np.arange(len(student)) != 1, np.linspace(1, 3, len(student))
    found = weighted_mean(call(loss, teacher, student, **knobs), weights, mask)
    terms = [w * x for w, x, kept in zip(weights, alone, mask, strict=True) if kept]
    np.testing.assert_allclose(found, sum(terms) / len(terms), rtol=1e-12)


def check_programs(loss, teacher, student, **knobs):
    """The same in a traced function of any batch size, and for a stack of students."""
    arrays = (teacher, student, np.asarray(knobs.pop("labels", np.zeros(len(student), int))))
    specification = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in arrays]
    has_labels = "labels" in inspect.signature(loss).parameters

    def run(teacher, student, labels):
        labels = {"labels": labels} if has_labels else {}
        return call(loss, teacher, student, **labels, **knobs)

    traced = tf.function(run, input_signature=specification)
    np.testing.assert_allclose(traced(*arrays), run(*arrays), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(traced(*(x[:0] for x in arrays)).shape, (0,))

    def value_and_slope(student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = run(arrays[0], student, arrays[2])
        return values, tape.gradient(values, student)

    students = tf.constant(np.stack([student, student[::-1], 2 * student + 1]))
    found = tf.vectorized_map(value_and_slope, students, fallback_to_while_loop=False)
    for index, one in enumerate(students):
        for stacked, alone in zip(found, value_and_slope(one), strict=True):
            np.testing.assert_allclose(stacked[index], alone, rtol=1e-9, atol=1e-12)


def check_mask(loss, teacher, student, **knobs):
    """Masked rows count as if they were not in the batch, whatever they hold."""
    mask = np.ones(len(student), bool)
    mask[[0, 3]] = False
    broken = [
        np.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, np.nan) for x in (teacher, student)
    ]
    expected = call(loss, teacher[mask], student[mask], **knobs)
    slope = gradient_of(lambda s: call(loss, teacher[mask], s, **knobs), student[mask])
    for t, s in ((teacher, student), broken):
        for given in (mask, 2 * mask, tf.constant(mask)):
            found = np.asarray(call(loss, t, s, mask=given, **knobs))
            np.testing.assert_allclose(found[mask], expected, rtol=1e-12)
            np.testing.assert_array_equal(found[~mask], 0.0)
        found = gradient_of(lambda s, t=t: call(loss, t, s, mask=mask, **knobs), s)
        np.testing.assert_allclose(found[mask], slope, rtol=1e-9, atol=1e-14)
        np.testing.assert_array_equal(found[~mask], 0.0)
    for wrong in (mask[1:], mask[:, None]):
        with pytest.raises(ValueError, match=r"^mask must have the leading axes of the losses"):
            call(loss, teacher, student, mask=wrong, **knobs)
    check_mask_of_few(loss, teacher, student, **knobs)


def check_mask_of_few(loss, teacher, student, **knobs):
    """One row left, or none, has no partner: no loss by it, no gradient, no nan."""
    own = np.zeros(1)  # what an example costs without a partner
    if loss is correlation_loss:
        own = call(loss, teacher[:1], student[:1], **knobs | {"within_weight": 0.0})
    for count in (0, 1):
        mask = np.arange(len(student)) < count
        found = np.asarray(call(loss, teacher, student, mask=mask, **knobs))
        np.testing.assert_array_equal(found[count:], 0.0)
        np.testing.assert_allclose(found[:count], own[:count], atol=1e-15)
        slope = gradient_of(lambda s, m=mask: call(loss, teacher, s, mask=m, **knobs), student)
        rest = slope[count:] if loss is correlation_loss else slope
        np.testing.assert_allclose(rest, 0.0, atol=1e-15)
    full = call(loss, teacher, student, mask=np.ones(len(student), bool), **knobs)
    np.testing.assert_array_equal(full, call(loss, teacher, student, **knobs))


def check_precision(loss, teacher, student, **knobs):
    """Half precision is cast up; ten thousand is not too much, nor are equal or zero rows."""
    for dtype, result in (("float16", "float32"), ("float32", "float32"), ("float64",) * 2):
        cast = [x.astype(dtype) for x in (teacher, student)]
        found = call(loss, *cast, **knobs)
        assert keras.backend.standardize_dtype(found.dtype) == result
        expected = call(loss, *(x.astype("float64") for x in cast), **knobs)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    pairs = []
    for scale in (1e4, 1.0):
        student_32, teacher_32 = (scale * x.astype("float32") for x in (student, teacher))
        equal, zero = student_32.copy(), student_32.copy()
        equal[1], zero[1], zero[2] = equal[0], 0, 0
        constant = np.full_like(student_32, scale)
        pairs += [(teacher_32, s) for s in (student_32, equal, zero, constant, 0 * zero)]
        pairs += [(np.zeros_like(teacher_32), student_32)]
    for t, s in pairs:
        assert np.isfinite(call(loss, t, s, **knobs)).all()
        assert np.isfinite(gradient_of(lambda s, t=t: call(loss, t, s, **knobs), s)).all()


def check_knob(loss, teacher, student, name, good, bad, rule, **knobs):
    """Numbers, tensors and Variables do the same; one out of range is refused, or makes nan."""
    variable = keras.Variable(1.0 if good != 1 else 0.5, dtype="float64")
    variable.assign(good)
    found = call(loss, teacher, student, **{name: variable}, **knobs)
    expected = call(loss, teacher, student, **{name: good}, **knobs)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(expected - call(loss, teacher, student, **knobs)).max() > 1e-3
    for value in bad:
        with pytest.raises(ValueError, match=f"^{name} must {rule}, got {value}$"):
            call(loss, teacher, student, **{name: value}, **knobs)
        wrong = keras.Variable(value, dtype="float64")
        for given in (wrong, tf.constant(value, "float64"), np.array(value, "float64")):
            with pytest.raises(ValueError, match=f"^{name} must {rule}, got {float(value)}$"):
                call(loss, teacher, student, **{name: given}, **knobs)
        run = tf.function(lambda: call(loss, teacher, student, **{name: wrong}, **knobs))  # noqa: B023
        assert np.isnan(run()).all()
        wrong.assign(good)  # the same program, for a callback may change the Variable
        np.testing.assert_allclose(run(), expected, rtol=1e-12)
    with pytest.raises(ValueError, match=rf"^{name} must have the scalar shape \(\), got"):
        call(loss, teacher, student, **{name: np.array([good])}, **knobs)


def check_logits(loss, teacher, student, **knobs):
    """A single class, or another number of classes or rows, is refused by name."""
    rule = r"^student_logits must have 2 or more classes last, got shape \(\d, 1\)"
    with pytest.raises(ValueError, match=rule):
        call(loss, teacher[:, :1], student[:, :1], **knobs)
    if "teacher_logits" in inspect.signature(loss).parameters:
        for wrong in (teacher[:, 1:], teacher[:1]):
            rule = "^teacher_logits must have the shape of student_logits"
            with pytest.raises(ValueError, match=rule):
                call(loss, wrong, student, **knobs)


def check_constant(loss, teacher, student, **knobs):
    """A constant added to all logits of an example changes nothing."""
    expected = call(loss, teacher, student, **knobs)
    shifts = np.arange(1.0, len(student) + 1)[:, None]
    found = call(loss, teacher + 7, student - shifts, **knobs)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def check_axes(loss, teacher, student, **knobs):
    """Every leading axis is an example."""
    knobs = of_rows(slice(0, 4), knobs)
    expected = call(loss, teacher[:4], student[:4], **knobs)
    by_two = {name: x.reshape(2, 2) if name == "labels" else x for name, x in knobs.items()}
    pair = (x[:4].reshape(2, 2, -1) for x in (teacher, student))
    found = call(loss, *pair, **by_two)
    np.testing.assert_allclose(found, np.reshape(expected, (2, 2)), rtol=1e-12)
    alone = call(loss, teacher[0], student[0], **of_rows(0, knobs))
    np.testing.assert_allclose(alone, expected[0], rtol=1e-12)


def check_label(loss, teacher, student, **knobs):
    """A label that is no class is refused; in a program it gives nan, but no nan gradient."""
    if "labels" in knobs:
        last = teacher.shape[1] - 1
        labels = np.append([-1, last + 1], np.zeros(len(student) - 2, int))
        for wrong, value in ((labels, -1), (np.where(labels < 0, last + 1, labels), last + 1)):
            rule = (
                rf"^labels must be whole numbers from 0 to {last}, got {value} at index \(0,\)"
            )
            with pytest.raises(ValueError, match=rule):
                call(loss, teacher, student, **{**knobs, "labels": wrong})
        run = tf.function(lambda s: call(loss, teacher, s, **{**knobs, "labels": labels}))
        np.testing.assert_array_equal(np.isnan(run(student)), np.arange(len(student)) < 2)
        assert np.isfinite(gradient_of(run, student)).all()


EACH = [check_gradients, check_order, check_programs, check_precision]  # of any loss
IN_BATCH = [*EACH, check_mask]  # of one that compares the examples of a batch
RESPONSE = [*EACH, check_alone, check_axes, check_logits, check_constant, check_label]


def check_rows(loss, teacher, student, least=2):
    """Too few examples, unequal batches and a missing feature axis are refused by name."""
    assert call(loss, teacher[:least], student[:least]).shape == (least,)
    assert np.isfinite(call(loss, teacher[:, :1], student[:, :1])).all()
    for t, s, name in ((least - 1, None, "teacher"), (None, 0, "student")):
        rule = rf"^{name}_features must hold {least} or more .* got shape \({t or s}, "
        with pytest.raises(ValueError, match=rule):
            call(loss, teacher[:t], student[:s])
    with pytest.raises(ValueError, match=r"^teacher_features .* size \(6,\), got shape \(5,\)"):
        call(loss, teacher[:5], student)
    rule = r"_features must .* examples, each with a feature axis, got shape \(6,\)"
    with pytest.raises(ValueError, match="^student" + rule):
        call(loss, teacher, student[:, 0])
    with pytest.raises(ValueError, match="^teacher" + rule):
        call(loss, teacher[:, 0], student)
