"""Compression does to the weights what it says, and to nothing else."""

import keras
import numpy as np
import pytest
from keras import layers

from distill_lib import compress, evaluate, losses, pruning
from distill_lib.training import train_many

X = np.random.default_rng(0).normal(size=(20, 8, 8, 2)).astype("float32")


def build_functional():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Add(name="add")([x, layers.Conv2D(6, 3, padding="same", name="side")(x)])
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(12, activation="tanh", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(5, name="logits")(x))
    rng = np.random.default_rng(1)
    model.set_weights(
        [rng.uniform(0.1, 1, w.shape) * rng.choice([-1, 1]) for w in model.weights]
    )
    for layer in pruning.kernel_layers(model):
        layer.kernel.assign(rng.normal(size=layer.kernel.shape) / 8)
    model.get_layer("norm").moving_variance.assign(np.ones(6))
    return model


def build_sequential():
    keras.utils.set_random_seed(0)
    conv, logits = layers.Conv2D(4, 3, name="conv"), layers.Dense(5, name="logits")
    return keras.Sequential([keras.Input((8, 8, 2)), conv, layers.Flatten(), logits])


@pytest.fixture(params=[build_functional, build_sequential])
def model(request):
    return request.param()


def kernels(model):
    return np.concatenate([np.ravel(la.kernel) for la in pruning.kernel_layers(model)])


def others(model):
    ids = {id(layer.kernel) for layer in pruning.kernel_layers(model)}
    return np.concatenate([np.ravel(w) for w in model.weights if id(w) not in ids])


def test_pruning_zeroes_exactly_the_smallest_weights_of_all_kernels_together(model):
    before = kernels(model)
    pruned = compress.prune_magnitude(model, 0.7)
    after = kernels(pruned)
    gone = after == 0
    assert gone.sum() == round(0.7 * before.size)
    assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()
    np.testing.assert_array_equal(after[~gone], before[~gone])
    np.testing.assert_array_equal(others(pruned), others(model))
    assert compress.sparsity(pruned) == pytest.approx(0.7, abs=0.01)


def test_pruning_leaves_the_original_alone(model):
    before = kernels(model)
    compress.prune_magnitude(model, 0.9)
    np.testing.assert_array_equal(kernels(model), before)
    assert compress.sparsity(model) == 0


def test_pruning_breaks_ties_and_allows_zero():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, kernel_initializer="ones")(inputs))
    assert compress.sparsity(compress.prune_magnitude(model, 0.5)) == 0.5
    assert compress.sparsity(compress.prune_magnitude(model, 0)) == 0


@pytest.mark.parametrize("share", [-0.1, 1, 80])
def test_a_sparsity_out_of_range_is_refused(model, share):
    with pytest.raises(ValueError, match=f"sparsity must be .* got {share}"):
        compress.prune_magnitude(model, share)


def fit(model, steps=10, callbacks=()):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(8 * steps, 8, 8, 2)), rng.integers(0, 5, 8 * steps)
    model.fit(x, y, batch_size=8, callbacks=list(callbacks), verbose=0)


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, steps_per_execution=4)
    return model


def test_fine_tuning_forgets_the_zeros_unless_they_are_kept(model):
    pruned = compress.prune_magnitude(model, 0.7)
    free = compiled(compress.prune_magnitude(model, 0.7))
    fit(free)
    assert compress.sparsity(free) < 0.1
    # The compiled step of the earlier `fit` must not be used: it has no constraint.
    fit(compress.keep_pruned(free, pruned))
    np.testing.assert_array_equal(kernels(free) == 0, kernels(pruned) == 0)


def test_kept_zeros_hold_after_every_update_and_the_rest_learns(model):
    pruned = compress.prune_magnitude(model, 0.7)
    before, seen = kernels(pruned), []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(compress.sparsity(pruned))
    )
    assert compress.keep_pruned(pruned, pruned) is pruned
    fit(compiled(pruned), callbacks=[watch])
    assert seen == [compress.sparsity(pruned)] * len(seen)
    assert len(seen) > 1
    assert (kernels(pruned)[before != 0] != before[before != 0]).mean() > 0.5
    free = compiled(pruning.copy_model(pruned))
    fit(free)
    assert compress.sparsity(free) < 0.1


def test_zeros_are_kept_where_many_students_are_trained():
    large = keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Dense(3)])
    pruned = compress.prune_magnitude(large, 0.5)

    def build():
        return compress.keep_pruned(pruning.copy_model(pruned), pruned)

    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(40, 4)).astype("float32"), rng.integers(0, 3, 40)
    given, loss = {"labels": labels}, losses.hard_label_loss
    students = train_many(build, x, given, loss=loss, seeds=[0, 1], steps=5, batch_size=8)
    for student in students:
        assert np.array_equal(kernels(student) == 0, kernels(pruned) == 0)
        assert not np.array_equal(kernels(student), kernels(pruned))


def test_a_constraint_of_the_student_still_holds_beside_the_zeros():
    norm = keras.constraints.MaxNorm(0.1)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, kernel_constraint=norm)(inputs))
    pruned = compress.prune_magnitude(model, 0.5)
    kernel = compress.keep_pruned(model, pruned).layers[-1].kernel
    assert np.linalg.norm(kernel, axis=0).max() < 0.1001
    assert compress.sparsity(model) == 0.5


def test_zeros_of_another_model_are_refused():
    pruned = compress.prune_magnitude(build_functional(), 0.5)
    with pytest.raises(ValueError, match="model must have kernels of shapes"):
        compress.keep_pruned(build_sequential(), pruned)


def test_full_rank_keeps_the_outputs(model):
    copy = compress.factorise_low_rank(model, 1.0)
    assert len(copy.layers) == len(model.layers)
    assert copy.get_layer("conv").count_params() != model.get_layer("conv").count_params()
    np.testing.assert_allclose(
        copy.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-5
    )


def product(pair):
    first, second = (np.asarray(layer.kernel, "float64") for layer in pair.layers)
    return np.tensordot(first, second.reshape(second.shape[-2:]), axes=1)


@pytest.mark.parametrize("name", ["hidden", "conv"])
def test_the_error_of_the_kernel_is_that_of_the_dropped_singular_values(name):
    model = build_functional()
    kernel = np.asarray(model.get_layer(name).kernel, "float64")
    values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
    copy = compress.factorise_low_rank(model, 0.5, layer_names=[name])
    rank = round(0.5 * len(values))
    assert copy.get_layer(name).layers[0].kernel.shape[-1] == rank
    error = np.sum((kernel - product(copy.get_layer(name))) ** 2)
    assert error == pytest.approx(np.sum(values[rank:] ** 2), rel=1e-4)
    assert copy.get_layer("logits").count_params() == model.get_layer("logits").count_params()


def test_a_low_rank_has_fewer_parameters_and_operations_and_can_be_saved(model, tmp_path):
    copy = compress.factorise_low_rank(model, 0.2)
    assert copy.count_params() < model.count_params()
    assert evaluate.operation_count(copy) < evaluate.operation_count(model)
    copy.save(tmp_path / "low.keras")
    again = keras.models.load_model(tmp_path / "low.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), copy.predict(X, verbose=0))


def test_wrong_ranks_and_names_are_refused(model):
    for share in (0, 1.5):
        with pytest.raises(ValueError, match=f"rank_fraction must be .* got {share}"):
            compress.factorise_low_rank(model, share)
    with pytest.raises(ValueError, match=r"layer_names must be among .*'logits'.* got .'nope'"):
        compress.factorise_low_rank(model, 0.5, layer_names=["nope"])


def test_int8_stores_dense_kernels_in_a_quarter_and_stays_close(tmp_path):
    inputs = keras.Input((300,))
    hidden = layers.Dense(400, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(10, name="logits")(hidden))
    x = np.random.default_rng(0).normal(size=(50, 300)).astype("float32")
    before = model.predict(x, verbose=0)
    quantised = compress.quantise_int8(model)
    assert evaluate.file_size(quantised) < 0.32 * evaluate.file_size(model)
    error = np.abs(quantised.predict(x, verbose=0) - before).max()
    assert 0 < error < 0.05 * before.std()
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    assert {w.dtype for w in model.weights} == {"float32"}
    quantised.save(tmp_path / "int8.keras")
    again = keras.models.load_model(tmp_path / "int8.keras", compile=False)
    np.testing.assert_array_equal(again.predict(x, verbose=0), quantised.predict(x, verbose=0))


def test_int8_leaves_convolutions_in_float_without_a_warning(model):
    quantised = compress.quantise_int8(model)
    assert quantised.get_layer("logits").kernel.dtype == "int8"
    assert quantised.get_layer("conv").kernel.dtype == "float32"


def test_int8_refuses_a_model_that_it_would_not_change():
    inputs = keras.Input((8, 8, 2))
    with pytest.raises(ValueError, match=r"model must have a Dense, .* got .*'Conv2D'"):
        compress.quantise_int8(keras.Model(inputs, layers.Conv2D(2, 3)(inputs)))


def test_weights_are_inherited_by_name_and_by_mapping():
    teacher, student = build_functional(), build_functional()
    student.set_weights([w * 0 for w in student.get_weights()])
    assert compress.inherit_weights(student, teacher, ["norm", "hidden"]) is student
    for name in ("norm", "hidden"):
        own, other = (model.get_layer(name).get_weights() for model in (student, teacher))
        assert all(np.array_equal(a, b) for a, b in zip(own, other, strict=True))
    assert not np.any(student.get_layer("logits").get_weights()[0])
    small = keras.Sequential([keras.Input((12,)), layers.Dense(5, name="head")])
    compress.inherit_weights(small, teacher, {"head": "logits"})
    np.testing.assert_array_equal(small.layers[0].kernel, teacher.get_layer("logits").kernel)


def test_inheritance_refuses_unknown_names_and_other_shapes_and_then_copies_nothing():
    teacher, student = build_functional(), build_functional()
    before = student.get_weights()
    other = build_sequential()
    with pytest.raises(ValueError, match=r"the teacher's .* got 'nope'"):
        compress.inherit_weights(student, teacher, ["nope"])
    with pytest.raises(ValueError, match=r"the student's .* got 'hidden'"):
        compress.inherit_weights(other, teacher, ["hidden"])
    teacher.set_weights([w + 1 for w in teacher.get_weights()])
    # The first pair is right and must not be copied, since the second is wrong.
    with pytest.raises(
        ValueError, match=r"layer 'conv' must get weights of shapes .*3, 3, 2, 6"
    ):
        compress.inherit_weights(student, teacher, {"logits": "logits", "conv": "hidden"})
    assert all(np.array_equal(a, b) for a, b in zip(before, student.get_weights(), strict=True))
