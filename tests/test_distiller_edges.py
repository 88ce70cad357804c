"""The distiller's names and defaults, and what happens at the edges of its arguments."""

import keras
import numpy as np
import pytest
from test_distiller import (
    LABELS,
    Counter,
    X,
    compiled,
    cross_entropy,
    divergence,
    hint,
    net,
    soft,
    teacher_net,
    value,
)

from distill_lib.distiller import Distiller


def test_names_are_as_in_keras():
    teacher = teacher_net()
    distiller = Distiller(teacher, net(), [soft(), hint(), soft()])
    assert distiller.name == "distiller"
    assert distiller.get_teacher() is teacher
    assert distiller.built
    names = ["soft_target_loss_1", "hint_loss", "soft_target_loss_3"]
    assert distiller.term_names == names
    every = ["student_loss", "distillation_loss", *names]
    assert [metric.name for metric in distiller.metrics] == every
    assert distiller.student_loss_weight == 0.5
    assert distiller.distillation_loss_weights == (1.0, 1.0, 1.0)
    named = Distiller(teacher, net(), soft(), name="mine")
    assert named.name == "mine"
    assert Distiller.from_config(named.get_config()).name == "mine"


def test_one_epoch_is_the_default():
    history = compiled(Distiller(teacher_net(), net(), soft())).fit(X, LABELS, verbose=0)
    assert len(history.history["loss"]) == 1


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_each_weight_may_be_at_its_ends(weight):
    teacher, student = teacher_net(), net()
    distiller = compiled(Distiller(teacher, student, soft(), [0.0], weight))
    expected = weight * cross_entropy(student).mean()
    assert value(distiller, X, LABELS) == pytest.approx(expected, rel=1e-5)


def test_what_comes_with_y_is_not_asked_of_a_teacher_and_counts_before_its_answer():
    counter = Counter()
    teacher, other, student = net(7, 0, extra=[counter]), teacher_net(), net()
    given = {"labels": LABELS, "teacher_logits": np.asarray(other(X))}
    expected = 0.5 * (cross_entropy(student) + divergence(other, student)).mean()
    found = value(compiled(Distiller(teacher, student, soft())), X, given)
    assert found == pytest.approx(expected, rel=1e-5)
    assert counter.passes == 0
    distiller = compiled(Distiller(teacher, student, [soft(), hint()], [1.0, 0.0]))
    assert value(distiller, X, given) == pytest.approx(expected, rel=1e-5)
    assert counter.passes == 1


def test_a_class_without_a_weight_weighs_one():
    teacher, student = teacher_net(), net()
    given = {"labels": LABELS, "teacher_logits": np.asarray(teacher(X))}
    each = 0.5 * cross_entropy(student) + 0.5 * divergence(teacher, student)
    distiller = compiled(Distiller(None, student, soft()))
    options = {"batch_size": len(X), "verbose": 0, "class_weight": {0: 3.0}}
    found = distiller.fit(X, given, **options).history["loss"][0]
    assert found == pytest.approx(np.mean(np.where(LABELS == 0, 3, 1) * each), rel=1e-5)
    with pytest.raises(ValueError, match=r"class_weight needs .* no sample_weight"):
        distiller.fit(X, given, sample_weight=np.ones(len(X)), **options)


def test_a_students_own_casts_stay():
    """Under mixed precision, a first layer in float32 must not get inputs in bfloat16."""
    inputs = keras.Input((6,))
    x = keras.layers.Rescaling(1.0, offset=-1000.0, dtype="float32")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(3, dtype="mixed_bfloat16")(x))
    student.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    distiller = Distiller(None, student)
    shifted = 1000 + X
    np.testing.assert_array_equal(distiller(shifted)["answer"], student(shifted))
    assert distiller.dtype_policy.name == "mixed_bfloat16"
