"""Ways in which Keras is used: each either works with the right numbers, or says what to do."""

import keras
import numpy as np
import pytest
from test_distiller import (
    LABEL_LOSS,
    LABELS,
    WEIGHTS,
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

from distill_lib import losses, signals
from distill_lib.distiller import Distiller

BOXES = np.random.default_rng(2).normal(size=(24, 4)).astype("float32")


def stored(teacher=None):
    return {"labels": LABELS, "teacher_logits": np.asarray((teacher or teacher_net())(X))}


# --- stored signals and the student alone -----------------------------------------------


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "val_student_loss"])
def test_stored_signals_are_validated_with_labels_alone(monitor):
    distiller = compiled(Distiller(None, net(), soft()), metrics=["accuracy"])
    # A falling loss is no maximum, so that it stops after the second epoch.
    stops = keras.callbacks.EarlyStopping(
        monitor, mode="max", patience=1, restore_best_weights=True
    )
    options = {"validation_data": (X, LABELS), "batch_size": 24, "verbose": 0}
    history = distiller.fit(X, stored(), epochs=9, callbacks=[stops], **options).history
    assert len(history["loss"]) == 2
    assert not {"val_soft_target_loss", "val_distillation_loss"} & history.keys()
    np.testing.assert_allclose(history["val_loss"], history["val_student_loss"])
    assert history["val_loss"][1] < history["val_loss"][0]
    assert value(distiller, X, LABELS) == pytest.approx(history["val_loss"][0], rel=1e-5)


def test_without_signals_the_student_is_measured_alone():
    student = net()
    distiller = compiled(Distiller(None, student, soft()), metrics=["accuracy"])
    found = distiller.evaluate(X, LABELS, verbose=0, return_dict=True)
    assert found.keys() == {"loss", "student_loss", "accuracy"}
    assert found["loss"] == pytest.approx(cross_entropy(student).mean(), rel=1e-5)
    on_batch = distiller.test_on_batch(X, LABELS, return_dict=True)
    assert on_batch["loss"] == pytest.approx(found["loss"], rel=1e-5)


def test_features_by_layer_stand_beside_a_term_of_logits():
    teacher, student = teacher_net(), net()
    inner = keras.Model(teacher.input, teacher.get_layer("hidden").output)
    given = {**stored(teacher), "teacher_features": {"hidden": np.asarray(inner(X))}}
    term = hint()
    term.adapter.build((None, 5))
    pair = [compiled(Distiller(one, student, [soft(), term])) for one in (None, teacher)]
    assert value(pair[0], X, given) == pytest.approx(value(pair[1], X, LABELS), rel=1e-5)


def test_one_batch_at_a_time():
    teacher, student = teacher_net(), net()
    expected = 0.5 * (cross_entropy(student) + divergence(teacher, student)).mean()
    distiller = compiled(Distiller(teacher, student, soft()))
    found = distiller.test_on_batch(X, LABELS, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)
    found = distiller.train_on_batch(X, LABELS, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)
    assert distiller.test_on_batch(X, LABELS, return_dict=True)["loss"] < expected


# --- several outputs --------------------------------------------------------------------


def two_outputs(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    outputs = {"logits": keras.layers.Dense(3)(inputs), "boxes": keras.layers.Dense(4)(inputs)}
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("form", ["live", "stored"])
def test_labels_by_output_have_losses_and_metrics_of_their_own(form, weights):
    teacher, student = two_outputs(0), two_outputs(1)
    v, z = teacher.predict(X, verbose=0), student.predict(X, verbose=0)
    w = np.ones(24) if weights is None else weights
    pair = {"teacher_logits": v["logits"], "student_logits": z["logits"]}
    hard = losses.hard_label_loss(labels=LABELS, student_logits=z["logits"]).numpy()
    kl = losses.soft_target_loss(**pair, temperature=3.0).numpy()
    boxes = np.square(z["boxes"] - BOXES).mean(axis=1)
    y = {"logits": LABELS, "boxes": BOXES}
    if form == "stored":
        y = {"labels": y, "teacher_logits": v["logits"]}
    distiller = compiled(
        Distiller(teacher if form == "live" else None, student, soft()),
        loss={"logits": LABEL_LOSS, "boxes": "mse"},
        metrics={"logits": ["accuracy"], "boxes": ["mae"]},
        weighted_metrics={"boxes": [keras.metrics.MeanAbsoluteError("weighted")]},
    )
    logs = distiller.evaluate(
        X, y, sample_weight=weights, batch_size=24, verbose=0, return_dict=True
    )
    error = np.abs(z["boxes"] - BOXES).mean(axis=1)
    expected = {
        "student_loss": (w * (hard + boxes)).mean(),
        "soft_target_loss": (w * kl).mean(),
        "logits_accuracy": (z["logits"].argmax(1) == LABELS).mean(),
        "boxes_mae": error.mean(),
        "boxes_weighted": np.average(error, weights=w),
    }
    for name, number in expected.items():
        assert logs[name] == pytest.approx(float(number), rel=1e-4), name
    history = distiller.fit(X, y, sample_weight=weights, batch_size=24, verbose=0).history
    assert history["student_loss"][0] == pytest.approx(logs["student_loss"], rel=1e-5)


def test_losses_by_output_take_one_label():
    student = two_outputs(1)
    hard = losses.hard_label_loss(labels=LABELS, student_logits=student(X)["logits"])
    distiller = Distiller(None, student, student_loss_weight=1.0)
    compiled(distiller, loss={"logits": LABEL_LOSS}, metrics=["accuracy"])
    assert value(distiller, X, LABELS) == pytest.approx(np.mean(hard), rel=1e-5)
    with pytest.raises(ValueError, match="loss must be one loss, or a dictionary of losses"):
        compiled(distiller, loss=[LABEL_LOSS, "mse"]).fit(X, LABELS, verbose=0)


def test_models_without_logits():
    def encoder():
        inputs = keras.Input((6,))
        return keras.Model(inputs, {"encoded": keras.layers.Dense(3)(inputs)})

    with pytest.raises(ValueError, match=r"answer must have an entry 'logits', got .'encoded'"):
        compiled(Distiller(None, encoder(), (), None, 1.0)).fit(X, LABELS, verbose=0)
    distiller = compiled(Distiller(encoder(), encoder(), soft(), None, 0.0))
    with pytest.raises(ValueError, match=r"must get \['student_logits', 'teacher_logits'\]"):
        distiller.fit(X, verbose=0)


# --- how a step runs --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 4}],
    ids=lambda options: next(iter(options)),
)
def test_every_way_of_running_a_step_trains_the_same(options):
    teacher, pair = teacher_net(), []
    for own in ({}, options):
        term = hint()
        term.adapter.build((None, 5))
        term.adapter.kernel.assign(np.linspace(-1, 1, 35).reshape(5, 7))
        distiller = compiled(Distiller(teacher, net(), [soft(), term]), **own)
        distiller.fit(X, LABELS, batch_size=4, epochs=2, shuffle=False, verbose=0)
        pair.append(distiller.student.get_weights())
    for one, other in zip(*pair, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_gradients_are_gathered_over_steps():
    teacher, pair = teacher_net(), []
    for batch, steps in ((24, None), (8, 3)):
        student = net()
        sgd = keras.optimizers.SGD(0.5, gradient_accumulation_steps=steps)
        distiller = compiled(Distiller(teacher, student, soft()), optimizer=sgd)
        distiller.fit(X, LABELS, batch_size=batch, shuffle=False, verbose=0)
        pair.append(student.get_weights())
    for one, other in zip(*pair, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_epoch_traces_nothing_anew():
    distiller, traces = compiled(Distiller(teacher_net(), net(), soft())), []
    plain = distiller.compute_loss

    def counting(*arguments, **options):
        traces.append(options["training"])
        return plain(*arguments, **options)

    distiller.compute_loss = counting
    options = {"batch_size": 24, "validation_data": (X, LABELS), "verbose": 0}
    for _ in range(2):
        distiller.fit(X, LABELS, epochs=3, **options)
    assert traces == [True, False]


def test_the_student_is_what_is_exported(tmp_path):
    student = net()
    distiller = compiled(Distiller(teacher_net(), student, [soft(), hint()]))
    distiller.export(tmp_path / "exported", verbose=False)
    served = keras.layers.TFSMLayer(tmp_path / "exported", call_endpoint="serve")
    np.testing.assert_allclose(served(X), student(X), atol=1e-6)


# --- what cannot be right is refused ----------------------------------------------------


class OwnCall(Distiller):
    def call(self, inputs, training=None):
        return super().call(inputs, training)["answer"]


def test_a_call_of_ones_own_returns_what_the_terms_need():
    distiller = OwnCall(teacher_net(), net(), soft())
    distiller.compile("sgd", LABEL_LOSS)
    with pytest.raises(ValueError, match="call must return 'answer' and 'features', got"):
        distiller.fit(X, LABELS, verbose=0)


@pytest.mark.parametrize(
    ("term", "instead"),
    [
        (
            keras.distillation.LogitsDistillation(),
            r"DistillationTerm\(soft_target_loss, temper",
        ),
        (
            keras.distillation.FeatureDistillation("mse"),
            r"DistillationTerm\(hint_loss, student",
        ),
        (losses.soft_target_loss, r"write DistillationTerm\(soft_target_loss, ...\)"),
    ],
)
def test_what_is_no_term_is_told_what_to_write(term, instead):
    with pytest.raises(ValueError, match=f"must be DistillationTerms, got .*{instead}"):
        Distiller(teacher_net(), net(), term)


def other_classes():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])


@pytest.mark.parametrize(
    ("teacher", "y", "message"),
    [
        (None, {**stored(), "masks": LABELS}, r"y must hold only what is used, .*\['masks'\]"),
        (None, {"label": LABELS}, r"answer must have an entry 'label', got \['logits'\]"),
        (None, {**stored(), "student_logits": X[:, :3]}, r"only what .*\['student_logits'\]"),
        (other_classes(), LABELS, r"teacher_logits must have the shape of student_logits"),
        (
            None,
            stored(other_classes()),
            r"teacher_logits must have the shape of student_logits",
        ),
        (
            None,
            {
                "labels": LABELS,
                "teacher_logits": signals.top_k(np.asarray(teacher_net()(X)), 2),
            },
            r"teacher_logits must be an array: write fit\(signals.as_dataset",
        ),
        (
            None,
            {"labels": LABELS, "teacher_logits": np.asarray(losses.soft_targets(BOXES))},
            "teacher_logits must be logits, got probabilities",
        ),
    ],
)
def test_bad_signals_are_refused_by_name(teacher, y, message):
    distiller = compiled(Distiller(teacher, net(), soft()))
    with pytest.raises(ValueError, match=message):
        distiller.fit(X, y, verbose=0)
    if isinstance(y, dict) and "probabilities" in message:
        with pytest.raises(ValueError, match=message):
            distiller.fit(X, stored(), validation_data=(X, y), verbose=0)
