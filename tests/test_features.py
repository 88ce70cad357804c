"""Features come from the model's own layers, adapters stay outside the student."""

import keras
import numpy as np
import pytest

from distill_lib import losses, models
from distill_lib.features import ForwardPass, outputs_by_name, projector, with_outputs
from distill_lib.training import train_many

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


def student():
    keras.utils.set_random_seed(0)
    return models.build_student(5, (6,), 3)


def test_outputs_are_those_of_the_layers():
    model = student()
    extended = with_outputs(model, ["hidden"])
    found = extended(X)
    assert set(found) == {"logits", "hidden"}
    np.testing.assert_array_equal(found["logits"], model(X))
    expected = keras.Model(model.input, model.get_layer("hidden").output)(X)
    np.testing.assert_array_equal(found["hidden"], expected)
    assert set(with_outputs(model, {"features": "hidden"})(X)) == {"logits", "features"}


def test_training_it_trains_the_student_and_its_file_holds_no_adapter(tmp_path):
    model = student()
    adapters = {"features": projector((None, 5), 7)}
    training = with_outputs(model, {"features": "hidden"}, adapters)
    assert len(training.trainable_variables) == len(model.trainable_variables) + 2
    before = model.get_weights()
    training.compile("sgd", loss={"logits": "mse", "features": "mse"})
    training.fit(X, {"logits": X[:, :3], "features": np.zeros((16, 7))}, verbose=0)
    assert not np.allclose(before[0], model.get_weights()[0])
    again = keras.Model(training.input, training.output["logits"])
    np.testing.assert_array_equal(again(X), model(X))
    model.save(tmp_path / "student.keras")
    assert keras.models.load_model(tmp_path / "student.keras").count_params() == 5 * 7 + 3 * 6


def test_a_sequential_model_and_nested_ones_give_their_inner_layers():
    core = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, name="first")], name="core"
    )
    middle = keras.Sequential([keras.Input((6,)), core, keras.layers.Dense(3)], name="middle")
    inputs = keras.Input((6,))
    outer = keras.Model(inputs, middle(inputs))
    found = with_outputs(outer, {"deep": "middle/core/first", "shallow": "middle/core"})(X)
    np.testing.assert_array_equal(found["deep"], core(X))
    np.testing.assert_array_equal(found["shallow"], core(X))
    np.testing.assert_array_equal(found["logits"], outer(X))


def test_dropout_is_that_of_the_pass_that_gives_the_answer():
    inputs = keras.Input((6,))
    dropped = keras.layers.Dropout(0.5, name="dropout")(inputs)
    model = keras.Model(inputs, keras.layers.Activation("linear")(dropped))
    found = with_outputs(model, ["dropout"])(X, training=True)
    np.testing.assert_array_equal(found["dropout"], found["logits"])
    assert (found["logits"].numpy() == 0).any()


def test_hints_train_many_students_at_once():
    teacher_features = np.maximum(X @ np.ones((6, 4), "float32"), 0)

    def build():
        return with_outputs(
            student(), {"features": "hidden"}, {"features": projector((None, 5), 4)}
        )

    given = {"teacher_features": teacher_features}
    options = {
        "loss": losses.hint_loss,
        "seeds": [0, 1],
        "batch_size": 8,
        "learning_rate": 0.02,
    }

    def error(model):
        values = losses.hint_loss(**given, student_features=model(X)["features"])
        return float(np.mean(values))

    start, end = (train_many(build, X, given, **options, steps=n) for n in (1, 300))
    assert all(error(b) < 0.2 * error(a) for a, b in zip(start, end, strict=True))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((None, 5), None, (2, 7)),
        ((None, 4, 5), None, (2, 4, 7)),
        ((None, 8, 6, 5), None, (2, 8, 6, 7)),
        ((None, 8, 6, 5), (8, 6), (2, 8, 6, 7)),
        ((None, 8, 6, 5), (4, 3), (2, 4, 3, 7)),
        ((None, 8, 6, 5), (5, 5), (2, 5, 5, 7)),
        ((None, 4, 4, 5), (8, 8), (2, 8, 8, 7)),
    ],
)
def test_a_projector_reaches_the_teachers_shape(shape, size, expected):
    adapter = projector(shape, 7, size)
    assert adapter(np.ones((2, *shape[1:]), "float32")).shape == expected
    assert adapter.name == "projector"


def test_a_projector_averages_whole_blocks():
    adapter = projector((None, 4, 4, 1), 1, (2, 2))
    maps = np.arange(16.0, dtype="float32").reshape(1, 4, 4, 1)
    adapter(maps)
    adapter.layers[-1].set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    np.testing.assert_allclose(adapter(maps)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])


def test_a_projector_is_one_layer_where_nothing_is_resized():
    for size in (None, (8, 6), [8, 6]):
        assert isinstance(projector((None, 8, 6, 5), 7, size), keras.layers.Conv2D)


@pytest.mark.parametrize("shape", [(None, 8, 8, 1), (None, None, None, 1)])
def test_a_projector_resizes_without_moire_if_blocks_do_not_fit(shape):
    adapter = projector(shape, 1, (3, 3))
    maps = np.random.default_rng(1).normal(size=(2, 8, 8, 1)).astype("float32")
    adapter(maps)
    adapter.layers[-1].set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    expected = keras.ops.image.resize(maps, (3, 3), antialias=True)
    np.testing.assert_allclose(adapter(maps), expected, atol=1e-6)


def test_of_a_layer_called_twice_the_first_output_counts():
    shared = keras.layers.Dense(6, name="shared")
    inner = keras.Input((6,))
    core = keras.Model(inner, shared(shared(inner)), name="core")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(2)(core(core(inputs))), name="twice")
    extended = with_outputs(model, {"inner": "core/shared", "outer": "core"})
    assert extended.name == "twice_with_outputs"
    found = extended(X)
    np.testing.assert_allclose(found["inner"], shared(X), rtol=1e-6)
    np.testing.assert_allclose(found["outer"], core(X), rtol=1e-6)


def test_one_pass_gives_the_answer_and_the_features():
    model = student()
    answer, found = ForwardPass(model, {"hidden"})(X)
    np.testing.assert_array_equal(answer, model(X))
    assert found.keys() == {None, "logits", "hidden"}
    np.testing.assert_array_equal(found["logits"], model(X))
    np.testing.assert_array_equal(found["hidden"], with_outputs(model, ["hidden"])(X)["hidden"])
    extended = with_outputs(model, {"features": "hidden"})
    answer, found = ForwardPass(extended, {"features"})(X)
    assert answer.keys() == found.keys() - {None} == {"logits", "features"}
    np.testing.assert_array_equal(found[None], answer["features"])
    np.testing.assert_array_equal(found["features"], answer["features"])


def test_an_inner_layer_named_logits_is_meant_and_not_the_answer():
    inputs = keras.Input((6,))
    scores = keras.layers.Dense(3, name="logits")(inputs)
    model = keras.Model(inputs, keras.layers.Rescaling(10.0)(scores))
    answer, found = ForwardPass(model, {"logits"})(X)
    np.testing.assert_allclose(found["logits"], answer / 10, rtol=1e-6)


def test_one_tensor_is_called_logits_and_several_need_names():
    model = student()
    assert outputs_by_name(model, 3) == {"logits": 3}
    assert outputs_by_name(model, {"boxes": 1}) == {"boxes": 1}
    with pytest.raises(ValueError, match=r"student must return one tensor or a dict, got \[1"):
        outputs_by_name(model, [1, 2])


@pytest.mark.parametrize("has_training", [True, False])
def test_a_pass_tells_whether_it_trains_to_models_that_ask(has_training):
    class Asks(keras.Model):
        def call(self, x, training=None):
            return {"logits": x, "inner": x + 1 if training else x}

    class AsksNot(keras.Model):
        def call(self, x):
            return {"logits": x, "inner": x}

    model = Asks() if has_training else AsksNot()
    for training in (True, False):
        _, found = ForwardPass(model, {"inner"})(X, training=training)
        np.testing.assert_array_equal(found["inner"], X + (training and has_training))


def test_a_layer_that_is_no_key_is_refused_by_name():
    model = with_outputs(student(), {"features": "hidden"})
    hidden = ForwardPass(keras.Sequential([model], name="outer"), {"inner"})
    with pytest.raises(ValueError, match=r"key of outer, .*'logits'\], got 'inner'"):
        hidden(X)


def subclassed():
    class Hidden(keras.Model):
        def call(self, x):
            return x

    return Hidden()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: with_outputs(student(), ["depth"]),
            r"one of student, \[.*\], got \['depth'\]",
        ),
        (
            lambda: with_outputs(student(), {"logits": "hidden"}),
            "must not be named like an out",
        ),
        (lambda: with_outputs(subclassed(), ["x"]), "must be functional or begin with"),
        (
            lambda: with_outputs(student(), ["hidden"], {"hiden": projector((None, 5), 7)}),
            r"adapters must be among the layers \['hidden'\], got \['hiden'\]",
        ),
        (
            lambda: projector((None,), 3),
            r"must have 2, 3 or 4 axes with the batch, got \(None,",
        ),
        (lambda: projector((None, 5), 3, (2, 2)), "must have 4 axes to have a size"),
        (lambda: projector((None, 4, 4, 5), 3, (2, 2, 2)), "is longer than"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
