"""What the tests of feature and relation losses share: what each of these losses must keep."""

import keras
import numpy as np
import tensorflow as tf


def call(loss, teacher, student, **knobs):
    return loss(teacher_features=teacher, student_features=student, **knobs)


def gradient_of(function, x):
    """d sum(function(x)) / dx, as an array of x's type."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tf.convert_to_tensor(tape.gradient(total, x)).numpy()


def finite_differences(function, x, step=1e-6):
    numeric = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += step
        behind[index] -= step
        numeric[index] = np.sum(function(ahead) - function(behind)) / (2 * step)
    return numeric


def check_gradients(loss, teacher, student, **knobs):
    """Both gradients in float64; weights are no part of the loss, but scale its rows."""
    weights = np.linspace(0.5, 2, len(student))
    for function, x in (
        (lambda s: weights * call(loss, teacher, s, **knobs), student),
        (lambda t: weights * call(loss, t, student, **knobs), teacher),
    ):
        slope = gradient_of(function, x)
        assert np.abs(slope).max() > 1e-3
        np.testing.assert_allclose(slope, finite_differences(function, x), atol=1e-7)


def check_equality(loss, features, **knobs):
    """No loss and no gradient where the student equals the teacher."""
    np.testing.assert_allclose(call(loss, features, features, **knobs), 0.0, atol=1e-15)
    slope = gradient_of(lambda s: call(loss, features, s, **knobs), features)
    np.testing.assert_allclose(slope, 0.0, atol=1e-15)


def check_order(loss, teacher, student, **knobs):
    """The examples keep their losses when the batch is shuffled."""
    order = np.random.default_rng(1).permutation(len(student))
    shuffled = call(loss, teacher[order], student[order], **knobs)
    expected = np.asarray(call(loss, teacher, student, **knobs))[order]
    np.testing.assert_allclose(shuffled, expected, rtol=1e-12)


def check_programs(loss, teacher, student, **knobs):
    """The same in a traced function of any batch size, and for a stack of students."""
    arrays = (teacher, student)
    specification = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in arrays]
    traced = tf.function(lambda t, s: call(loss, t, s, **knobs), input_signature=specification)
    np.testing.assert_allclose(traced(*arrays), call(loss, *arrays, **knobs), rtol=1e-12)
    np.testing.assert_array_equal(traced(teacher[:0], student[:0]).shape, (0,))

    def value_and_slope(s):
        with tf.GradientTape() as tape:
            tape.watch(s)
            values = call(loss, teacher, s, **knobs)
        return values, tape.gradient(values, s)

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
        for given in (mask, mask.astype("int32"), tf.constant(mask)):
            found = np.asarray(call(loss, t, s, mask=given, **knobs))
            np.testing.assert_allclose(found[mask], expected, rtol=1e-12)
            np.testing.assert_array_equal(found[~mask], 0.0)
        found = gradient_of(lambda s, t=t: call(loss, t, s, mask=mask, **knobs), s)
        np.testing.assert_allclose(found[mask], slope, rtol=1e-9, atol=1e-14)
        np.testing.assert_array_equal(found[~mask], 0.0)
    check_mask_of_few(loss, teacher, student, **knobs)


def check_mask_of_few(loss, teacher, student, **knobs):
    """One row left, or none, has no partner: no loss, no gradient, no nan."""
    for count in (0, 1):
        mask = np.arange(len(student)) < count
        np.testing.assert_array_equal(call(loss, teacher, student, mask=mask, **knobs), 0.0)
        slope = gradient_of(lambda s, m=mask: call(loss, teacher, s, mask=m, **knobs), student)
        np.testing.assert_allclose(slope, 0.0, atol=1e-15)
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
