"""Schemes: the right teacher for the right student, and the identities behind the means."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill_lib import losses, schemes
from distill_lib.evaluate import predict_logits
from distill_lib.models import build_student
from distill_lib.training import many, train_many

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
LABELS = RNG.integers(0, 3, 60)
TEACHER = RNG.normal(scale=3, size=(60, 3)).astype("float32")
PLAN = {"steps": 30, "batch_size": 12}


def build(width=6):
    return build_student(width, (4,), 3)


def same(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_in_turn_each_is_taught_by_its_predecessor_of_the_same_seed():
    options = {"loss": losses.soft_target_loss, "seeds": [3, 4], **PLAN}
    wide, narrow = partial(build, 9), partial(build, 5)
    turns = schemes.in_turn([wide, narrow], X, {"teacher_logits": TEACHER}, **options)
    first = train_many(wide, X, {"teacher_logits": TEACHER}, **options)
    assert all(map(same, turns[0], first))
    for seed, assistant, student in zip([3, 4], first, turns[1], strict=True):
        given = {"teacher_logits": predict_logits(assistant, X)}
        (alone,) = train_many(narrow, X, given, **{**options, "seeds": [seed]})
        assert same(student, alone)


def test_born_again_starts_from_labels_and_from_new_weights():
    found = schemes.born_again(
        build, X, LABELS, loss=losses.mixed_loss, generations=3, seeds=[1, 2],
        knobs={"temperature": 2.0}, **PLAN,
    )  # fmt: skip
    assert [len(generation) for generation in found] == [2, 2, 2]
    first = train_many(
        build, X, {"labels": LABELS}, loss=losses.hard_label_loss, seeds=[1, 2], **PLAN
    )
    assert all(map(same, found[0], first))
    given = {"labels": LABELS, "teacher_logits": predict_logits(found[1][1], X)}
    options = {"loss": losses.mixed_loss, "temperature": 2.0, **PLAN}
    assert same(found[2][1], train_many(build, X, given, seeds=[2002], **options)[0])


def test_peers_learn_from_labels_and_from_each_other():
    """One step of gradient descent by hand; a peer that teaches gets no gradient for it."""
    z, w = (tf.constant(RNG.normal(size=(5, 3)).astype("float32")) for _ in range(2))
    labels = LABELS[:5]
    with tf.GradientTape() as tape:
        tape.watch([z, w])
        values = schemes.mutual_learning_loss(labels=labels, first=z, second=w, temperature=2.0)
    softened = [np.asarray(losses.soft_targets(one, 2.0)) for one in (z, w)]
    for gradient, logits, own, other in zip(
        tape.gradient(values, [z, w]), (z, w), softened, softened[::-1], strict=True
    ):
        hard = np.asarray(losses.soft_targets(logits)) - np.eye(3)[labels]
        np.testing.assert_allclose(gradient, hard + 2 * (own - other), atol=1e-5)


def test_peers_that_agree_learn_from_labels_only():
    z = TEACHER[:4]
    values = schemes.mutual_learning_loss(labels=LABELS[:4], a=z, b=z, c=z)
    alone = losses.hard_label_loss(labels=LABELS[:4], student_logits=z)
    np.testing.assert_allclose(values, 3 * np.asarray(alone), rtol=1e-5)


def test_the_first_peer_starts_as_the_student_alone_and_all_are_trained_together():
    options = {"steps": 1, "batch_size": 12, "learning_rate": 0.0}
    cohorts = schemes.mutual_learning(build, X, LABELS, seeds=[5, 6], peers=3, **options)
    alone = train_many(
        build, X, {"labels": LABELS}, loss=losses.hard_label_loss, seeds=[5, 6], **options
    )
    assert all(same(cohort[0], one) for cohort, one in zip(cohorts, alone, strict=True))
    assert not same(*cohorts[0][:2])
    assert many._is_stackable(schemes._cohort(build, 2))
    trained = schemes.mutual_learning(build, X, LABELS, seeds=[5], **PLAN, temperature=2.0)
    assert not any(map(same, trained[0], cohorts[0][:2]))


def divergence(teacher, student, loss=losses.soft_target_loss, temperature=1.0):
    pair = {"teacher_logits": teacher, "student_logits": student}
    return np.asarray(loss(**pair, temperature=temperature))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_arithmetic_mean_belongs_to_the_forward_divergence(temperature):
    teachers = RNG.normal(scale=2, size=(3, 8, 4))
    students = RNG.normal(scale=2, size=(2, 8, 4))
    mean = schemes.mean_of_probabilities(teachers, temperature)
    gaps = [
        np.mean([divergence(t, s, temperature=temperature) for t in teachers], axis=0)
        - divergence(mean, s, temperature=temperature)
        for s in students
    ]
    np.testing.assert_allclose(*gaps, atol=1e-12)  # the constant: the same for every student
    p = np.mean([losses.soft_targets(t, temperature) for t in teachers], axis=0)
    np.testing.assert_allclose(losses.soft_targets(mean, temperature), p, atol=1e-12)


def test_the_geometric_mean_belongs_to_the_reverse_divergence():
    teachers = list(RNG.normal(scale=2, size=(3, 8, 4)))
    students = RNG.normal(scale=2, size=(2, 8, 4))
    reverse = partial(divergence, loss=losses.reverse_kl_loss)
    means = {f: f(teachers) for f in (schemes.mean_of_logits, schemes.mean_of_probabilities)}
    gaps = {
        f: [
            np.mean([reverse(t, s) for t in teachers], axis=0) - reverse(m, s) for s in students
        ]
        for f, m in means.items()
    }
    np.testing.assert_allclose(*gaps[schemes.mean_of_logits], atol=1e-12)
    assert np.abs(np.subtract(*gaps[schemes.mean_of_probabilities])).max() > 0.1


def test_teacher_and_student_see_one_view():
    """The views go into a loss-free network twice: the divergence of equal networks is 0."""
    keras.utils.set_random_seed(0)
    teacher = build()
    student = keras.models.clone_model(teacher)
    student.set_weights(teacher.get_weights())
    history = schemes.teach_consistently(
        teacher, student, X, augment=schemes.mixup(), epochs=2, batch_size=20, optimizer="sgd"
    )
    np.testing.assert_allclose(history.history["loss"], 0, atol=1e-6)
    keras.utils.set_random_seed(1)
    student, options = build(8), {"epochs": 30, "temperature": 2.0}
    history = schemes.teach_consistently(
        teacher, student, X, augment=schemes.mixup(), **options
    )
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]


def test_the_views_are_what_the_augmentation_makes():
    """Blank views teach the answer to a blank input, and nothing about the inputs."""
    teacher, student = build(), build(8)
    teacher.layers[-1].bias.assign([2.0, 0.0, -2.0])
    kernels = [layer.kernel.numpy() for layer in student.layers if layer.weights]
    schemes.teach_consistently(
        teacher,
        student,
        X,
        augment=lambda views: 0 * views,
        epochs=60,
        batch_size=6,
        optimizer="sgd",
    )
    first = next(layer for layer in student.layers if layer.weights)
    np.testing.assert_array_equal(first.kernel, kernels[0])
    assert divergence(teacher(0 * X), student(0 * X)).mean() < 0.3


def test_mixup_stays_between_two_inputs_and_is_new_each_time():
    augment = schemes.mixup(seed=1)
    ones = np.array([[0.0, 0.0], [2.0, 4.0]], "float32")
    views = [augment(ones).numpy() for _ in range(2)]
    assert not np.allclose(*views)
    for view in views:
        assert ((view >= 0) & (view <= [2, 4])).all()
        np.testing.assert_allclose(view[:, 1], 2 * view[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(schemes.mixup(seed=1)(ones), views[0])


def test_a_cohort_needs_two():
    with pytest.raises(ValueError, match="peers must be at least 2, got 1"):
        schemes.mutual_learning(build, X, LABELS, seeds=[0], peers=1)
