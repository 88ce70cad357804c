"""Every row of "Coming from keras.distillation": both distillers, side by side, on numbers.

What is said of Keras holds for 3.12.0 to 3.15.1. If a later Keras behaves differently, the row
and its test must change together.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import distillation as there
from scipy.special import log_softmax

from distill_lib import DistillationTerm, Distiller, losses, projector

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 10)
WEIGHTS = RNG.uniform(0.1, 2, 10).astype("float32")
LABEL_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
KL = keras.losses.KLDivergence()
COMMON = {"loss", "student_loss", "distillation_loss"}


def net(seed=1, width=5, norm=False, **hidden):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(width, activation="relu", name="hidden", **hidden)(inputs)
    if norm:
        x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def theirs(loss=None, student=None, teacher=None, **options):
    loss = loss or there.LogitsDistillation(temperature=2.0, loss=KL)
    teacher = teacher or net(seed=0)
    return compiled(there.Distiller(teacher, student or net(), loss, **options))


def ours(term=None, student=None, teacher=None, **options):
    term = term or DistillationTerm(losses.soft_target_loss, temperature=2.0)
    return compiled(Distiller(teacher or net(seed=0), student or net(), term, **options))


def compiled(distiller, rate=0.1):
    distiller.compile(keras.optimizers.SGD(rate), LABEL_LOSS)
    return distiller


def measured(distiller, x=X, y=LABELS, **options):
    options = {"batch_size": len(x), "verbose": 0, "return_dict": True, **options}
    return distiller.evaluate(x, y, **options)


def logs(distiller, **options):
    history = distiller.fit(X, LABELS, batch_size=len(X), verbose=0, **options).history
    return {name: values[0] for name, values in history.items()}


def common(found):
    return {name: found[name] for name in COMMON}


def logits_of(model):
    return np.asarray(model(X), "float64")


def divergence(temperature=2.0, student=None):
    """T^2 KL(p || q) of the two networks, by NumPy."""
    log_p, log_q = (
        log_softmax(logits_of(model) / temperature, -1) for model in (net(0), student or net())
    )
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)


def cross_entropy():
    return -np.take_along_axis(log_softmax(logits_of(net()), -1), LABELS[:, None], -1)[:, 0]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_formula_is_the_same(weight):
    """w * student_loss + (1 - w) * sum of weighted terms, and the step that it makes."""
    terms = [
        (
            there.LogitsDistillation(2.0, KL),
            DistillationTerm(losses.soft_target_loss, temperature=2.0),
        ),
        (
            there.LogitsDistillation(5.0, KL),
            DistillationTerm(losses.soft_target_loss, temperature=5.0),
        ),
    ]
    options = {"distillation_loss_weights": [1.0, 0.25], "student_loss_weight": weight}
    one = theirs([pair[0] for pair in terms], **options)
    other = ours([pair[1] for pair in terms], **options)
    wanted = weight * cross_entropy() + (1 - weight) * (divergence() + 0.25 * divergence(5.0))
    assert measured(other)["loss"] == pytest.approx(wanted.mean(), rel=1e-5)
    assert measured(one)["loss"] == pytest.approx(wanted.mean(), rel=1e-4)
    logs(one)
    logs(other)
    for a, b in zip(one.student.get_weights(), other.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_weight_of_a_single_term_is_ignored_there():
    options = {"distillation_loss_weights": [7.0]}
    assert measured(theirs(**options)) == measured(theirs())
    found = measured(ours(**options))["distillation_loss"]
    assert found == pytest.approx(7 * divergence().mean(), rel=1e-5)


def test_the_default_loss_there_compares_raw_logits():
    """The string is a function of probabilities; it gets v / T and z / T, and clips them."""
    found = measured(theirs(there.LogitsDistillation()))["distillation_loss"]
    v, z = (np.clip(logits_of(model) / 3.0, 1e-7, 1) for model in (net(0), net()))
    assert found == pytest.approx((v * np.log(v / z)).sum(-1).mean(), rel=1e-4, abs=1e-6)
    assert abs(found - divergence(3.0).mean()) > 0.01
    as_meant = measured(theirs(there.LogitsDistillation(3.0, KL)))["distillation_loss"]
    assert as_meant == pytest.approx(divergence(3.0).mean(), rel=1e-4)


def test_the_default_temperature_is_3_there_and_1_here():
    assert there.LogitsDistillation().temperature == 3.0
    found = measured(ours(DistillationTerm(losses.soft_target_loss)))["distillation_loss"]
    assert found == pytest.approx(divergence(1.0).mean(), rel=1e-5)


def test_the_cross_entropy_there_takes_raw_logits_of_the_teacher_as_targets():
    loss = there.LogitsDistillation(2.0, keras.losses.CategoricalCrossentropy(from_logits=True))
    found = measured(theirs(loss))["distillation_loss"]
    v, z = logits_of(net(0)) / 2, logits_of(net()) / 2
    assert found == pytest.approx(-(v * log_softmax(z, -1)).sum(-1).mean(), rel=1e-4)


@pytest.mark.parametrize("layer", [None, "hidden"])
def test_feature_distillation_by_mse_is_twice_the_hint_loss(layer):
    one = theirs([there.FeatureDistillation("mse", layer, layer)])
    term = DistillationTerm(losses.hint_loss, teacher_layer=layer, student_layer=layer)
    other = ours([term], distillation_loss_weights=[2.0])
    assert common(measured(one)) == pytest.approx(common(measured(other)), rel=1e-5)
    models = [net(0), net()]
    if layer:
        models = [keras.Model(m.input, m.get_layer(layer).output) for m in models]
    squares = (logits_of(models[0]) - logits_of(models[1])) ** 2
    assert measured(other)["hint_loss"] == pytest.approx(0.5 * squares.mean(), rel=1e-5)


def cosine_loss(*, teacher_features, student_features):
    return keras.losses.cosine_similarity(teacher_features, student_features)


def test_another_loss_of_features_is_a_function():
    layers = {"teacher_layer": "hidden", "student_layer": "hidden"}
    other = ours(DistillationTerm(cosine_loss, **layers))
    one = theirs([there.FeatureDistillation("cosine_similarity", "hidden", "hidden")])
    assert common(measured(one)) == pytest.approx(common(measured(other)), rel=1e-5)


def test_a_student_layer_without_a_teacher_layer_is_ignored_there():
    teacher = net(seed=0, width=3)
    ignored = measured(
        theirs([there.FeatureDistillation("mse", None, "hidden")], net(width=3), teacher)
    )
    outputs = measured(theirs([there.FeatureDistillation("mse")], net(width=3), teacher))
    assert ignored == outputs
    term = DistillationTerm(losses.hint_loss, student_layer="hidden")
    found = measured(ours(term, net(width=3), teacher))["hint_loss"]
    student = net(width=3)
    hidden = keras.Model(student.input, student.get_layer("hidden").output)
    squares = (logits_of(hidden) - logits_of(teacher)) ** 2
    assert found == pytest.approx(0.5 * squares.mean(), rel=1e-5)


def test_other_widths_need_an_adapter_and_have_one_here():
    teacher = net(seed=0, width=7)
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        measured(
            theirs([there.FeatureDistillation("mse", "hidden", "hidden")], teacher=teacher)
        )
    layers = {"teacher_layer": "hidden", "student_layer": "hidden"}
    other = ours(
        DistillationTerm(losses.hint_loss, adapter=projector((None, 5), 7), **layers),
        teacher=teacher,
    )
    before = other.adapters[0].get_weights()[0]
    logs(other)
    assert np.abs(other.adapters[0].get_weights()[0] - before).max() > 0  # it is trained too


@pytest.mark.parametrize("side", ["there", "here"])
def test_features_cost_a_second_pass_there(side):
    """With momentum 1/2 the moving mean goes half the way in one pass, 3/4 in two."""
    student = net(norm=True)
    hidden = np.asarray(keras.Model(student.input, student.get_layer("hidden").output)(X))
    term = DistillationTerm(losses.hint_loss, teacher_layer="hidden", student_layer="hidden")
    loss = [there.FeatureDistillation("mse", "hidden", "hidden")]
    logs(compiled(theirs(loss, student) if side == "there" else ours(term, student), rate=0.0))
    found = np.asarray(student.get_layer("norm").moving_mean)
    np.testing.assert_allclose(
        found, (0.75 if side == "there" else 0.5) * hidden.mean(0), rtol=1e-4
    )


def two_answers(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    return keras.Model(
        inputs, {"logits": keras.layers.Dense(3)(inputs), "size": keras.layers.Dense(1)(inputs)}
    )


def size_loss(*, teacher_size, student_size):
    return keras.losses.mean_squared_error(teacher_size, student_size)


def test_nested_losses_are_one_term_for_each_output():
    """A dictionary of losses there; here a term names the outputs that it takes."""
    teacher, student = two_answers(0), two_answers(1)
    nested = there.LogitsDistillation(
        2.0, {"logits": KL, "size": keras.losses.MeanSquaredError()}
    )
    wanted = float(nested.compute_loss(teacher(X), student(X)))
    # There a temperature divides every output; a size here is compared as it is.
    terms = [
        DistillationTerm(losses.soft_target_loss, temperature=2.0),
        DistillationTerm(size_loss),
    ]
    options = {"distillation_loss_weights": [1.0, 1 / 4], "student_loss_weight": 0.5}
    other = Distiller(teacher, student, terms, **options)
    sizes = RNG.normal(size=(10, 1)).astype("float32")
    label_losses = {"logits": LABEL_LOSS, "size": keras.losses.MeanSquaredError()}
    other.compile("sgd", label_losses)
    found = measured(other, y={"logits": LABELS, "size": sizes})
    assert found["distillation_loss"] == pytest.approx(wanted, rel=1e-4)
    z, size = (np.asarray(student(X)[name], "float64") for name in ("logits", "size"))
    errors = -np.take_along_axis(log_softmax(z, -1), LABELS[:, None], -1)[:, 0]
    by_hand = errors.mean() + ((size - sizes) ** 2).mean()
    assert found["student_loss"] == pytest.approx(by_hand, rel=1e-5)


def test_a_term_leaves_an_output_out_by_not_naming_it():
    teacher, student = two_answers(0), two_answers(1)
    nested = there.LogitsDistillation(2.0, {"logits": KL, "size": None})
    term = DistillationTerm(losses.soft_target_loss, temperature=2.0)
    other = Distiller(teacher, student, term, student_loss_weight=0.0)
    other.compile("sgd")
    wanted = float(nested.compute_loss(teacher(X), student(X)))
    assert measured(other, y=None)["loss"] == pytest.approx(wanted, rel=1e-4)


def test_several_outputs_fail_in_the_distiller_there():
    options = {"student_loss_weight": 0.5}
    nested = there.LogitsDistillation(2.0, {"logits": KL, "size": None})
    one = there.Distiller(two_answers(0), two_answers(1), nested, **options)
    one.compile("sgd", {"logits": LABEL_LOSS, "size": keras.losses.MeanSquaredError()})
    with pytest.raises(ValueError, match="type mismatch"):
        measured(one, y={"logits": LABELS, "size": X[:, :1]})


def test_a_label_loss_of_probabilities_is_refused_here():
    one = there.Distiller(net(0), net(), there.LogitsDistillation(2.0, KL))
    one.compile("sgd", "sparse_categorical_crossentropy")
    assert abs(measured(one)["student_loss"] - cross_entropy().mean()) > 0.5
    other = Distiller(net(0), net(), DistillationTerm(losses.soft_target_loss))
    other.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="from_logits=True"):
        measured(other)


def test_compile_has_the_defaults_and_the_order_of_keras_models_here():
    one, other = theirs(), ours()
    for distiller in (one, other):
        distiller.compile(loss=LABEL_LOSS)
    assert isinstance(one.optimizer, keras.optimizers.Adam)
    assert isinstance(other.optimizer, keras.optimizers.RMSprop)
    one.compile("sgd", LABEL_LOSS, ["accuracy"])
    assert "accuracy" in measured(one)
    other.compile("sgd", LABEL_LOSS, ["accuracy"])  # the third is `loss_weights`
    with pytest.raises(ValueError, match="string"):
        measured(other)


def test_penalties_of_the_student_are_left_out_there():
    penalty = {"kernel_regularizer": keras.regularizers.L2(0.1)}
    assert measured(theirs(student=net(**penalty))) == pytest.approx(measured(theirs()))
    found = measured(ours(student=net(**penalty)))["loss"] - measured(ours())["loss"]
    kernel = net().get_layer("hidden").get_weights()[0]
    assert found == pytest.approx(0.1 * (kernel**2).sum(), rel=1e-4)


def test_names_of_metrics():
    one, other = theirs(), ours()
    for distiller in (one, other):
        distiller.compile("sgd", LABEL_LOSS, metrics=["accuracy"])
    validation = {"validation_data": (X, LABELS)}
    assert set(logs(one, **validation)) - set(logs(other, **validation)) == {
        "total_loss",
        "val_total_loss",
    }
    assert set(measured(other)) - set(measured(one)) == {"soft_target_loss"}


def test_what_is_called_total_loss_there_is_loss_here():
    stop = keras.callbacks.EarlyStopping("val_total_loss")
    with pytest.raises(ValueError, match=r"'val_total_loss'.*is loss here"):
        logs(ours(), validation_data=(X, LABELS), callbacks=[stop])
    stop = keras.callbacks.EarlyStopping("val_loss")
    logs(ours(), validation_data=(X, LABELS), callbacks=[stop])


def test_a_smaller_last_batch_counts_by_its_examples_here():
    """Batches of 4, 4 and 2: there a metric is the mean of the three means."""
    one, other = measured(theirs(), batch_size=4), measured(ours(), batch_size=4)
    parts = {"distillation_loss": divergence(), "student_loss": cross_entropy()}
    for name, values in parts.items():
        of_batches = np.mean([values[:4].mean(), values[4:8].mean(), values[8:].mean()])
        assert one[name] == pytest.approx(of_batches, rel=1e-4)
        assert other[name] == pytest.approx(values.mean(), rel=1e-5)
    assert other["soft_target_loss"] == pytest.approx(divergence().mean(), rel=1e-5)


def test_weights_of_examples_and_classes_are_unused_there():
    assert measured(theirs(), sample_weight=WEIGHTS) == measured(theirs())
    found = measured(ours(), sample_weight=WEIGHTS)
    wanted = 0.5 * WEIGHTS * (cross_entropy() + divergence())
    assert found["loss"] == pytest.approx(wanted.mean(), rel=1e-5)
    by_class = {0: 3.0, 2: 0.0}
    one = logs(theirs(), class_weight=by_class)["loss"]
    assert one == pytest.approx(measured(theirs())["loss"], rel=1e-5)
    other = logs(ours(), class_weight=by_class)["loss"]
    weights = np.array([by_class.get(label, 1.0) for label in LABELS])
    assert other == pytest.approx(
        (0.5 * weights * (cross_entropy() + divergence())).mean(), rel=1e-5
    )


def tokens(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, 4, "glorot_normal", mask_zero=True)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_masks_are_unused_in_the_terms_there():
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [4, 1, 2, 3]])
    y = np.where(x > 0, x % 3, 0)
    log_p, log_q = (log_softmax(np.asarray(tokens(s)(x), "float64") / 2, -1) for s in (0, 1))
    values = 4 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
    data = {"x": x, "y": y}
    one = measured(theirs(student=tokens(1), teacher=tokens(0)), **data)["distillation_loss"]
    other = measured(ours(student=tokens(1), teacher=tokens(0)), **data)["distillation_loss"]
    assert other == pytest.approx(values[x > 0].mean(), rel=1e-4)
    assert one == pytest.approx(values.mean(), rel=1e-4)


def test_without_labels_the_student_loss_is_0_there_and_asked_for_here():
    found = theirs().fit(X, batch_size=len(X), verbose=0).history["loss"]
    assert found == pytest.approx([0.5 * divergence().mean()], rel=1e-4)
    with pytest.raises(ValueError, match=r"student_loss_weight must be 0.*labels"):
        ours().fit(X, verbose=0)
    other = Distiller(
        net(0),
        net(),
        DistillationTerm(losses.soft_target_loss, temperature=2.0),
        student_loss_weight=0.0,
    )
    other.compile("sgd")  # there `loss` cannot be left out
    found = other.fit(X, batch_size=len(X), verbose=0).history["loss"]
    assert found == pytest.approx([divergence().mean()], rel=1e-4)
    with pytest.raises(ValueError, match="'loss' cannot be `None`"):
        there.Distiller(net(0), net(), there.LogitsDistillation(2.0, KL)).compile("sgd")


def test_a_temperature_changed_in_training_has_an_effect_here():
    loss = there.LogitsDistillation(2.0, KL)
    one, other = theirs(loss), ours()
    before = measured(one)
    loss.temperature = 20.0
    one.student_loss_weight = 1.0
    assert measured(one) == before
    measured(other)
    other.set_knobs("soft_target_loss", temperature=20.0)
    other.student_loss_weight = 0.25
    wanted = 0.25 * cross_entropy().mean() + 0.75 * divergence(20.0).mean()
    assert measured(other)["loss"] == pytest.approx(wanted, rel=1e-4)


def test_the_teacher_is_changed_there_and_left_alone_here():
    mine, yours = net(0), net(0)
    theirs(teacher=yours)
    other = ours(teacher=mine)
    assert (yours.trainable, mine.trainable) == (False, True)
    before = [weights.copy() for weights in mine.get_weights()]
    logs(other)
    for old, new in zip(before, mine.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_attribute_teacher_is_get_teacher_and_set_teacher():
    mine = net(0)
    assert theirs(teacher=mine).teacher is mine
    other = ours(teacher=mine)
    assert other.get_teacher() is mine
    with pytest.raises(AttributeError, match="get_teacher"):
        _ = other.teacher
    with pytest.raises(ValueError, match="set_teacher"):
        other.teacher = net(5)
    measured(other)
    other.set_teacher(net())  # the student's twin
    assert measured(other)["distillation_loss"] == pytest.approx(0.0, abs=1e-6)


def ids(model):
    return {id(variable) for variable in model.variables}


def test_the_weights_of_the_teacher_are_saved_there_and_not_here(tmp_path):
    mine, yours = net(0), net(0)
    one, other = theirs(teacher=yours), ours(teacher=mine)
    assert ids(yours) <= ids(one)
    assert not ids(mine) & ids(other)
    assert "teacher" in one.get_config()
    assert "teacher" not in other.get_config()
    wanted = measured(other)
    other.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.get_teacher() is None
    loaded.set_teacher(net(0))
    assert measured(loaded) == pytest.approx(wanted, rel=1e-6)  # compiled as it was


def test_a_saved_distiller_must_be_compiled_again_there(tmp_path):
    with pytest.warns(UserWarning, match="not yet been built"):
        theirs().save(tmp_path / "distiller.keras")
    with pytest.warns(UserWarning, match="was not called"):
        loaded = keras.models.load_model(tmp_path / "distiller.keras")
    with pytest.raises(AttributeError, match="_student_loss"):
        measured(loaded)


def test_predict_and_export_are_those_of_the_student_in_both(tmp_path):
    for name, distiller in {"there": theirs(), "here": ours()}.items():
        logits = distiller.predict(X, verbose=0)
        np.testing.assert_allclose(logits, logits_of(distiller.student), atol=1e-5)
        distiller.export(tmp_path / name, verbose=False)
        exported = tf.saved_model.load(str(tmp_path / name))
        np.testing.assert_allclose(exported.serve(X), logits, atol=1e-5)


def test_a_call_gives_logits_there_and_a_dictionary_here():
    np.testing.assert_allclose(theirs()(X), logits_of(net()), atol=1e-5)
    found = ours()(X)
    assert sorted(found) == ["answer", "features"]
    np.testing.assert_allclose(found["answer"], logits_of(net()), atol=1e-5)


class Own(there.DistillationLoss):
    def compute_loss(self, teacher_outputs, student_outputs, **options):
        return keras.ops.mean(keras.ops.abs(teacher_outputs - student_outputs))


def own_loss(*, teacher_logits, student_logits):
    """The same as a function with one value for each example."""
    return keras.ops.mean(keras.ops.abs(teacher_logits - student_logits), axis=-1)


def test_a_class_with_compute_loss_becomes_a_function_of_named_signals():
    assert common(measured(theirs(Own()))) == pytest.approx(
        common(measured(ours(DistillationTerm(own_loss)))), rel=1e-5
    )


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        (there.LogitsDistillation(), r"write DistillationTerm\(soft_target_loss"),
        (there.FeatureDistillation(), r"write DistillationTerm\(hint_loss"),
        (own_loss, r"write DistillationTerm\("),
    ],
)
def test_a_loss_of_keras_as_a_term_is_told_what_to_write_instead(given, instead):
    with pytest.raises(ValueError, match=instead):
        ours(given)


def test_a_term_without_layers_serves_the_distiller_there_too():
    term = DistillationTerm(losses.soft_target_loss, temperature=2.0)
    assert measured(theirs(term))["distillation_loss"] == pytest.approx(
        divergence().mean(), rel=1e-5
    )
