"""Validation: every student keeps its own best weights, stops alone, and has its curve."""

import keras
import numpy as np
import pytest
from students import LABELS, RNG, TEACHER, X, build, largest_difference, train

from distill_lib.losses import hard_label_loss, soft_target_loss, weighted_mean
from distill_lib.training import stacked, stopping
from distill_lib.training.batches import batch_rows

X_VAL, Y_VAL = RNG.normal(size=(31, 5)).astype("float32"), RNG.integers(0, 3, 31)
SEEDS = [3, 4, 5, 6]
FIT = {"learning_rate": 0.05, "steps": 60, "seeds": SEEDS, "evaluate_every": 5}
WATCHED = {**FIT, "validation": (X_VAL, {"labels": Y_VAL})}


def loss_of(model, x=X_VAL, y=Y_VAL):
    return float(np.mean(hard_label_loss(labels=y, student_logits=model(x))))


@pytest.fixture(scope="module")
def watched():
    return train(hard_label_loss, {"labels": LABELS}, patience=2, **WATCHED)


def convolutional():
    """The same kind of task for a student that is trained alone."""
    inputs = keras.Input((5,))
    x = keras.layers.Conv1D(3, 2, activation="tanh")(inputs[..., None])
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def test_the_validation_stops_each_student_by_itself(watched):
    """Patience 2: the last two evaluations are no better than the best, two before them."""
    lengths = [len(curve.loss) for curve in watched.curves]
    assert len(set(lengths)) > 1
    assert min(lengths) < 60
    for curve in watched.curves:
        assert curve.evaluated.tolist() == [*range(5, len(curve.loss) + 1, 5)]
        assert len(curve.validation) == len(curve.evaluated)
        best = np.argmin(curve.validation)
        assert curve.best_step == curve.evaluated[best]
        assert len(curve.loss) in (curve.best_step + 10, 60)
        assert (np.minimum.accumulate(curve.validation)[-3] == curve.validation.min()) or (
            len(curve.loss) == 60
        )


def test_a_student_that_stopped_is_one_that_was_trained_for_fewer_steps(watched):
    for k, curve in enumerate(watched.curves):
        (shorter,) = train(
            hard_label_loss,
            {"labels": LABELS},
            **FIT | {"seeds": [SEEDS[k]], "steps": curve.best_step},
        )
        assert largest_difference(watched[k], shorter) < 1e-5
        assert loss_of(watched[k]) == pytest.approx(curve.validation.min(), abs=1e-5)


def test_students_trained_one_by_one_stop_too():
    options = {"make": convolutional, **WATCHED, "seeds": SEEDS[:2]}
    trained = train(hard_label_loss, {"labels": LABELS}, patience=1, **options)
    for model, curve in zip(trained, trained.curves, strict=True):
        assert loss_of(model) == pytest.approx(curve.validation.min(), abs=1e-5)
        assert len(curve.loss) in (curve.best_step + 5, 60)


def test_without_patience_the_best_weights_are_kept_after_all_steps():
    trained = train(hard_label_loss, {"labels": LABELS}, **WATCHED | {"steps": 58})
    plain = train(hard_label_loss, {"labels": LABELS}, **FIT | {"steps": 58})
    for curve, other in zip(trained.curves, plain.curves, strict=True):
        assert curve.evaluated.tolist() == [*range(5, 58, 5), 58]
        np.testing.assert_allclose(curve.loss, other.loss, atol=1e-5)
        assert other.best_step == 58
        assert len(other.validation) == 0
    differences = [largest_difference(*pair) for pair in zip(trained, plain, strict=True)]
    best = [curve.best_step for curve in trained.curves]
    assert [difference > 1e-4 for difference in differences] == [step < 58 for step in best]


def test_the_curve_holds_the_loss_before_each_update():
    trained = train(hard_label_loss, {"labels": LABELS}, steps=55, seeds=[0, 1])
    keras.utils.set_random_seed(1)
    start = build()
    rows = batch_rows(60, 1, 55, 8)[0]
    assert trained.curves[1].loss.shape == (55,)
    assert trained.curves[1].loss[0] == pytest.approx(loss_of(start, X[rows], LABELS[rows]))
    assert repr(trained.curves[1]) == "Curve(55 updates, best after 55)"


def test_another_loss_weights_and_masks_on_the_validation_data(monkeypatch):
    """The mean is that of all examples that count, however they are cut into calls."""
    counts, weight = RNG.random(31) < 0.5, RNG.random(31).astype("float32")
    monkeypatch.setattr(stacked, "EXAMPLES_PER_CALL", 8)
    given = {"labels": Y_VAL, "mask": counts, "sample_weight": weight}
    trained = train(
        soft_target_loss,
        {"teacher_logits": TEACHER},
        temperature=[1.0, 4.0],
        validation=(X_VAL, given),
        validation_loss=hard_label_loss,
    )
    for model, curve in zip(trained, trained.curves, strict=True):
        values = hard_label_loss(labels=Y_VAL, student_logits=model(X_VAL))
        expected = float(weighted_mean(values, weight, counts))
        assert curve.validation.min() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patience": 2}, "patience and validation_loss need validation"),
        ({"validation_loss": hard_label_loss}, "patience and validation_loss need validation"),
        ({"validation": X_VAL}, r"validation must be a pair \(x, signals\)"),
        ({"validation": (X_VAL, {})}, "validation signals must hold all .*'labels'"),
        ({"validation": (X_VAL, {"labels": LABELS})}, "validation labels must have 31 rows"),
        ({"validation": (X_VAL, {"labels": Y_VAL + 3})}, "validation labels must lie from 0"),
        (
            {"validation": (X_VAL, {"labels": [Y_VAL, Y_VAL + 3]})},
            "validation labels must lie from 0 to 2",
        ),
        ({"validation": WATCHED["validation"], "patience": 0}, "patience must be a whole numb"),
        ({"validation": WATCHED["validation"], "evaluate_every": 0}, "evaluate_every must be"),
        (
            {
                "validation": WATCHED["validation"],
                "optimizer": keras.optimizers.SGD(use_ema=True),
            },
            "optimizer must not use_ema beside validation",
        ),
    ],
)
def test_bad_validation_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        train(hard_label_loss, {"labels": LABELS}, **change)


def test_a_validation_loss_that_is_not_finite_is_refused():
    def loss(*, labels, student_logits):
        return hard_label_loss(labels=labels, student_logits=student_logits) / 0.0

    options = {"validation": WATCHED["validation"], "validation_loss": loss}
    with pytest.raises(ValueError, match="validation loss must stay finite for every student"):
        train(hard_label_loss, {"labels": LABELS}, **options)


def test_what_a_student_does_after_it_stopped_does_not_count():
    """Two students, patience 1: the first stops after step 20 and gets better afterwards."""
    progress = stopping.Progress(2, patience=1)
    for step, losses in (
        (10, [1.0, 3.0]),
        (20, [1.5, 2.0]),
        (30, [0.5, 1.0]),
        (40, [0.1, 1.0]),
    ):
        progress.losses.append(np.full((10, 2), float(step)))
        progress.evaluate(step, np.array(losses), [np.array([[step], [step]])])
    first, second = progress.curves()
    assert progress.weights[0].ravel().tolist() == [10, 30]
    assert (first.best_step, second.best_step) == (10, 30)
    assert (len(first.loss), len(second.loss)) == (20, 40)
    assert first.validation.tolist() == [1.0, 1.5]
    assert second.evaluated.tolist() == [10, 20, 30, 40]
    assert not progress.active.any()
