"""Trained students are a sequence of models that are built on demand, and answer together."""

import random

import keras
import numpy as np
import pytest
from students import LABELS, TEACHER, X, build, largest_difference, train

from distill_lib.losses import hard_label_loss, soft_target_loss


def convolutional():
    inputs = keras.Input((5,))
    x = keras.layers.Conv1D(3, 2, activation="tanh")(inputs[..., None])
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def with_statistics():
    inputs = keras.Input((5,))
    x = keras.layers.BatchNormalization()(inputs)
    answer = keras.layers.Dense(3)(x)
    return keras.Model(inputs, {"logits": answer, "features": x})


def trained(make=build, **options):
    return train(hard_label_loss, {"labels": LABELS}, make=make, **options)


def test_a_model_is_built_when_it_is_taken_out():
    calls = []

    def make():
        calls.append(1)
        return build()

    students = trained(make, seeds=range(9))
    assert len(calls) == 2  # the worker, and one that confirms how the others start
    assert len(students) == 9
    assert students[2:4].predict(X).shape == (2, 60, 3)
    assert len(calls) == 2
    assert students[3] is students[3] is students[2:][1] is students[-6]
    assert isinstance(students[3], keras.Model)
    assert len(calls) == 3
    assert repr(students) == "Students(9 of 'small', 1 taken out as models)"
    assert repr(students[3:5]) == "Students(2 of 'small', 1 taken out as models)"
    assert [*students] == [students[k] for k in range(9)]
    assert len(calls) == 11
    assert students[:0:-3].seeds == [8, 5, 2]
    with pytest.raises(IndexError):
        students[9]
    first, *others = students
    assert first is students[0]
    assert len(others) == 8
    assert not first.compiled


def test_taking_a_model_out_changes_no_random_number():
    students = trained()
    keras.utils.set_random_seed(1)
    expected = random.random(), np.random.random()  # noqa: NPY002
    keras.utils.set_random_seed(1)
    students[1]
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_the_random_state_afterwards_does_not_depend_on_what_was_built():
    drawn = []
    for make, seeds in ((build, range(3)), (convolutional, range(3)), (build, [0, 1, 2])):
        trained(make, seeds=seeds, steps=1)
        drawn.append(random.random())
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("make", [build, convolutional])
@pytest.mark.parametrize("batch_size", [500, 7])
def test_all_students_answer_as_their_models_do(make, batch_size):
    students = trained(make, seeds=range(3), learning_rate=0.05)
    answers = students.predict(X, batch_size=batch_size)
    assert answers.shape == (3, 60, 3)
    for model, own in zip(students, answers, strict=True):
        np.testing.assert_allclose(own, model(X, training=False), atol=1e-5)
    np.testing.assert_allclose(students.predict(X)[1:], students[1:].predict(X), atol=1e-5)


def test_outputs_by_name_and_statistics():
    students = trained(with_statistics, learning_rate=0.05)
    answers = students.predict(X)
    for k, model in enumerate(students):
        for name, own in model(X, training=False).items():
            np.testing.assert_allclose(answers[name][k], own, atol=1e-5)


def test_what_is_changed_in_a_model_counts():
    students = trained(with_statistics)
    before = students.predict(X)["logits"]
    students[1].trainable = False
    np.testing.assert_array_equal(students.predict(X)["logits"], before)
    students[1].layers[-1].kernel.assign(np.zeros((5, 3)))
    after = students.predict(X)["logits"]
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_allclose(after[1], students[1](X)["logits"], atol=1e-6)
    assert np.abs(after[1] - before[1]).max() > 0.1


def test_more_students_than_answer_in_one_call(monkeypatch):
    students = trained(seeds=range(5))
    together = students.predict(X)
    monkeypatch.setattr("distill_lib.training.students.STUDENTS_PER_CALL", 2)
    np.testing.assert_allclose(students.predict(X), together, atol=1e-6)


def test_students_teach_students():
    assistants = train(soft_target_loss, {"teacher_logits": TEACHER}, seeds=[0, 1])
    answers = [*assistants.predict(X)]
    second = train(soft_target_loss, {"teacher_logits": answers})
    (alone,) = train(soft_target_loss, {"teacher_logits": answers[1]}, seeds=[1])
    assert largest_difference(second[1], alone) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0] * 5],), "x must be one array"),
        ((X[:0],), "x must be one array"),
        ((X, 0), "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_inputs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        trained(steps=1).predict(*arguments)
