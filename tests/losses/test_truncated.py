"""The k kept classes and the others as one: a lower bound with the right zero and gradient."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import few, finite_differences, gradient_of
from scipy.special import log_softmax, logsumexp

from distill_lib import signals
from distill_lib.distiller import Distiller
from distill_lib.losses import reverse_kl_loss, soft_target_loss
from distill_lib.losses.truncated import (
    kept_mass,
    teacher_kept_mass,
    top_k_soft_target_loss,
)
from distill_lib.terms import DistillationTerm
from distill_lib.training import train_many

RNG = np.random.default_rng(0)
TEACHER, STUDENT = RNG.normal(scale=2, size=(2, 5, 7))


def truncated(logits, k, temperature=1.0):
    """The two arrays in float64, as `top_k` makes them in float16."""
    log_p = log_softmax(np.asarray(logits, "float64") / temperature, axis=-1)
    classes = np.argsort(-log_p, axis=-1, kind="stable")
    kept, others = np.split(np.take_along_axis(log_p, classes, axis=-1), [k], axis=-1)
    with np.errstate(divide="ignore"):
        tail = logsumexp(others, axis=-1, keepdims=True) if others.size else -np.inf
    tail = np.broadcast_to(tail, (*kept.shape[:-1], 1))
    return {
        "teacher_classes": classes[..., :k],
        "teacher_log_probabilities": np.concatenate([kept, tail], axis=-1),
    }


def loss(teacher, student, k, temperature=1.0):
    arrays = truncated(teacher, k, temperature)
    options = {"student_logits": student, "teacher_temperature": temperature}
    return top_k_soft_target_loss(**arrays, **options)


def test_by_hand():
    """p = .5 .3 .15 .05, two kept; q = 1/4 each: .5 log 2 + .3 log 1.2 + .2 log .4."""
    found = loss(np.log([0.5, 0.3, 0.15, 0.05]), np.zeros(4), 2)
    expected = 0.5 * np.log(2) + 0.3 * np.log(1.2) + 0.2 * np.log(0.4)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@few
@given(st.integers(0, 10**6), st.integers(2, 9), st.floats(0.1, 30), st.floats(0.5, 8))
def test_it_is_a_lower_bound_that_grows_with_k(seed, class_count, scale, temperature):
    teacher, student = np.random.default_rng(seed).normal(0, scale, (2, 4, class_count))
    full = soft_target_loss(
        teacher_logits=teacher, student_logits=student, temperature=temperature
    )
    full = np.asarray(full)
    ks = range(1, class_count + 1)
    values = [np.asarray(loss(teacher, student, k, temperature)) for k in ks]
    slack = 1e-9 * (1 + np.abs(full))
    for smaller, larger in zip([np.zeros(4), *values], [*values, full], strict=True):
        assert (smaller <= larger + slack).all()
    for exact in values[-2:]:
        np.testing.assert_allclose(exact, full, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 6, 7])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_student_equal_to_the_teacher_gets_nothing(k, temperature):
    shifted = TEACHER + 3.0  # other logits, the same probabilities
    np.testing.assert_allclose(loss(TEACHER, shifted, k, temperature), 0.0, atol=1e-12)
    slope = gradient_of(lambda z: loss(TEACHER, z, k, temperature), shifted)
    np.testing.assert_allclose(slope, 0.0, atol=1e-13)


@pytest.mark.parametrize("k", [1, 3, 6, 7])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_keeps_the_students_own_proportions_in_the_tail(k, temperature):
    arrays = truncated(TEACHER, k, temperature)
    slope = gradient_of(lambda z: loss(TEACHER, z, k, temperature), STUDENT)
    function = partial(top_k_soft_target_loss, **arrays, teacher_temperature=temperature)
    numeric = finite_differences(lambda z: function(student_logits=z), STUDENT)
    np.testing.assert_allclose(slope, numeric, atol=1e-7)
    q = np.exp(log_softmax(STUDENT / temperature, axis=-1))
    target = q.copy()
    np.put_along_axis(target, arrays["teacher_classes"], 0.0, axis=-1)
    tail = np.exp(arrays["teacher_log_probabilities"][:, -1:])
    target *= tail / np.maximum(target.sum(axis=-1, keepdims=True), 1e-300)
    kept = np.exp(arrays["teacher_log_probabilities"][:, :-1])
    np.put_along_axis(target, arrays["teacher_classes"], kept, axis=-1)
    np.testing.assert_allclose(slope, temperature * (q - target), atol=1e-12)


def test_every_example_may_have_its_temperature():
    """As `arrays_by_name` gives it: stored and compared temperature cannot differ."""
    student, teacher = (x.reshape(5, 1, 7).repeat(2, axis=1) for x in (STUDENT, TEACHER))
    signal = signals.top_k(teacher, 2, temperature=3.0)
    found = top_k_soft_target_loss(**signal.arrays_by_name(), student_logits=student)
    np.testing.assert_allclose(found, loss(teacher, student, 2, 3.0), rtol=1e-2)
    arrays = truncated(TEACHER, 2, 3.0)
    each = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    options = {"student_logits": STUDENT, **arrays}
    found = top_k_soft_target_loss(**options, teacher_temperature=each)
    for row, temperature in enumerate(each):
        alone = top_k_soft_target_loss(**options, teacher_temperature=temperature)
        np.testing.assert_allclose(found[row], alone[row], rtol=1e-12)


def test_tokens_are_examples():
    tokens = [x.reshape(5, 1, 7).repeat(2, axis=1) for x in (TEACHER, STUDENT)]
    found = loss(*tokens, 2)
    assert found.shape == (5, 2)
    np.testing.assert_allclose(found[:, 1], loss(TEACHER, STUDENT, 2), rtol=1e-12)
    alone = loss(TEACHER[0], STUDENT[0], 2)
    np.testing.assert_allclose(alone, found[0, 0], rtol=1e-12)


def test_what_the_teacher_never_says():
    """Minus infinity among the kept, in the whole tail, and in the student."""
    never = TEACHER.copy()
    never[:, 4:] = -np.inf
    p = np.exp(log_softmax(never[:, :4], axis=-1))
    log_q = log_softmax(STUDENT, axis=-1)[:, :4]
    full = np.sum(p * (np.log(p) - log_q), axis=-1)
    for k in (4, 6, 7):  # nothing in the tail; impossible ones kept; all kept
        np.testing.assert_allclose(loss(never, STUDENT, k), full, rtol=1e-9)
        assert np.isfinite(gradient_of(lambda z, k=k: loss(never, z, k), STUDENT)).all()
        np.testing.assert_allclose(loss(never, never, k), 0.0, atol=1e-12)
        assert np.isfinite(gradient_of(lambda z, k=k: loss(never, z, k), never)).all()


def test_a_sure_student_has_a_finite_tail():
    """log(1 - sum) would be the logarithm of 0 here."""
    sure = np.float32([[80.0, 0.0, 0.0, -80.0]])
    arrays = truncated([[0.0, 1.0, 2.0, 3.0]], 1) | {"teacher_classes": np.array([[0]])}
    p = np.exp(arrays["teacher_log_probabilities"][0])
    found = top_k_soft_target_loss(**arrays, student_logits=sure)
    expected = p @ np.log(p) - p[1] * (np.log(2) - 80)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)
    slope = gradient_of(lambda z: top_k_soft_target_loss(**arrays, student_logits=z), sure)
    np.testing.assert_allclose(slope[0, :3], [p[1], -p[1] / 2, -p[1] / 2], atol=1e-5)


def test_what_is_no_answer_is_nan_for_its_example_alone():
    arrays = truncated(TEACHER, 2)
    classes, log_p = (array.copy() for array in arrays.values())
    classes[0], classes[1, 0], classes[2, 1] = [3, 3], -1, 7
    log_p[3, 0] = np.nan
    broken = dict(zip(arrays, (classes, log_p), strict=True))

    def value(z):
        return top_k_soft_target_loss(**broken, student_logits=z)

    np.testing.assert_array_equal(np.isnan(value(STUDENT)), [1, 1, 1, 1, 0])
    assert np.isfinite(gradient_of(value, STUDENT)).all()
    mass = kept_mass(teacher_classes=classes, student_logits=STUDENT)
    np.testing.assert_array_equal(np.isnan(mass), [1, 1, 1, 0, 0])


def test_rounded_probabilities_are_scaled_to_sum_to_one():
    """In float16 they miss 1 by some 1e-4: unscaled, that would be a loss of that size."""
    signal = signals.top_k(TEACHER, 3)
    found = top_k_soft_target_loss(**signal.arrays_by_name(), student_logits=TEACHER)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)
    assert (np.asarray(found) >= -1e-12).all()
    arrays = truncated(TEACHER, 3)
    shifted = arrays | {"teacher_log_probabilities": arrays["teacher_log_probabilities"] + 0.1}
    found, expected = (
        top_k_soft_target_loss(**one, student_logits=STUDENT) for one in (shifted, arrays)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_in_a_program_of_any_size_and_for_a_stack_of_students():
    arrays = truncated(TEACHER, 3)
    names = list(arrays)

    def run(student, *columns):
        return top_k_soft_target_loss(
            **dict(zip(names, columns, strict=True)), student_logits=student
        )

    everything = [STUDENT, *arrays.values()]
    shapes = [tf.TensorSpec((None, one.shape[1]), one.dtype) for one in everything]
    traced = tf.function(run, input_signature=shapes)
    np.testing.assert_allclose(traced(*everything), run(*everything), rtol=1e-12)
    assert traced(*(one[:0] for one in everything)).shape == (0,)

    def value_and_slope(student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = run(student, *everything[1:])
        return values, tape.gradient(values, student)

    students = tf.constant(np.stack([STUDENT, STUDENT[::-1], 2 * STUDENT]))
    found = tf.vectorized_map(value_and_slope, students, fallback_to_while_loop=False)
    for index, one in enumerate(students):
        for stacked, alone in zip(found, value_and_slope(one), strict=True):
            np.testing.assert_allclose(stacked[index], alone, rtol=1e-9, atol=1e-12)


def test_the_escape_is_seen_by_the_kept_mass_and_not_rewarded_here():
    """Reverse KL over the teacher's top 4 alone falls below 0 when the student leaves them."""
    teacher = RNG.normal(scale=1.5, size=(1, 20))
    arrays = truncated(teacher, 4)
    classes = arrays["teacher_classes"][0]
    away = teacher.copy()
    away[0, classes] -= 3.0  # the student leaves the kept classes

    def over_the_kept_alone(student):
        log_p, log_q = (log_softmax(x, axis=-1)[0, classes] for x in (teacher, student))
        return np.sum(np.exp(log_q) * (log_q - log_p))

    np.testing.assert_allclose(over_the_kept_alone(teacher), 0.0, atol=1e-15)
    assert over_the_kept_alone(away) < -0.1
    assert float(reverse_kl_loss(teacher_logits=teacher, student_logits=away)[0]) > 0.1
    assert float(loss(teacher, away, 4)[0]) > 0.1
    mass = [
        float(kept_mass(teacher_classes=arrays["teacher_classes"], student_logits=z)[0])
        for z in (teacher, away)
    ]
    own = teacher_kept_mass(teacher_log_probabilities=arrays["teacher_log_probabilities"])
    np.testing.assert_allclose(mass[0], own[0], rtol=1e-12)
    np.testing.assert_allclose(own[0], np.exp(log_softmax(teacher))[0, classes].sum())
    assert mass[1] < mass[0] / 2


def test_the_kept_mass_is_that_at_the_temperature():
    classes = truncated(TEACHER, 2)["teacher_classes"]
    found = kept_mass(teacher_classes=classes, student_logits=STUDENT, teacher_temperature=3.0)
    q = np.exp(log_softmax(STUDENT / 3, axis=-1))
    np.testing.assert_allclose(found, np.take_along_axis(q, classes, -1).sum(-1), rtol=1e-12)


def small_student():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(7)])


def test_it_learns_in_plain_fit_with_arrays_and_with_tf_data():
    """Both arrays side by side are one y; the numbers of classes are exact in float32."""
    x = RNG.normal(size=(64, 4)).astype("float32")
    signal = signals.top_k(x @ RNG.normal(size=(4, 7)), 3)
    y = np.concatenate([np.float32(array) for array in signal.arrays], axis=1)

    def from_y(y, z):
        return top_k_soft_target_loss(
            teacher_classes=y[:, :3], teacher_log_probabilities=y[:, 3:], student_logits=z
        )

    found = []
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    for given_data in ((x, y), (data,)):
        student = small_student()
        student.compile(keras.optimizers.Adam(0.05), loss=from_y)
        options = {"batch_size": 16} if len(given_data) > 1 else {}
        history = student.fit(
            *given_data, epochs=15, verbose=0, shuffle=False, **options
        ).history["loss"]
        assert history[-1] < history[0] / 4
        found.append(history)
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_it_learns_in_the_distiller_and_in_train_many():
    x = RNG.normal(size=(64, 4)).astype("float32")
    logits = x @ RNG.normal(size=(4, 7))
    given_by_name = signals.top_k(logits, 3, temperature=2.0).arrays_by_name()
    (many,) = train_many(
        small_student, x, given_by_name, loss=top_k_soft_target_loss, seeds=[0], steps=60,
        batch_size=16, learning_rate=0.05,
    )  # fmt: skip
    student = small_student()
    term = DistillationTerm(top_k_soft_target_loss)
    distiller = Distiller(None, student, term, student_loss_weight=0.0)
    distiller.compile(keras.optimizers.Adam(0.05))
    distiller.fit(x, given_by_name, epochs=15, batch_size=16, verbose=0)
    before = soft_target_loss(teacher_logits=logits, student_logits=small_student()(x))
    for trained in (many, student):
        after = soft_target_loss(teacher_logits=logits, student_logits=trained(x))
        assert np.mean(after) < np.mean(before) / 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"student_logits": np.zeros((5, 1))}, "student_logits must have 2 or more classes"),
        ({"student_logits": np.zeros((4, 7))}, "teacher_classes must have k classes"),
        ({"teacher_classes": np.zeros((5, 0), int)}, "teacher_classes must hold from 1 to 7"),
        ({"teacher_classes": np.zeros((5, 8), int)}, "teacher_classes must hold from 1 to 7"),
        ({"teacher_log_probabilities": np.zeros((5, 2))}, "teacher_log_prob.* k \\+ 1 entries"),
        ({"teacher_temperature": 0.0}, "teacher_temperature must be a finite number above 0"),
        ({"teacher_temperature": np.ones(4)}, "teacher_temperature must have the leading axes"),
        ({"teacher_temperature": np.ones((5, 7))}, "teacher_temperature must have the lead"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    good = {**truncated(TEACHER, 2), "student_logits": STUDENT}
    with pytest.raises(ValueError, match=message):
        top_k_soft_target_loss(**good | arguments)
