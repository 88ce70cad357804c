"""Compression does to the weights what it says, and to nothing else."""

import keras
import numpy as np
import pytest
from keras import layers

from distill_lib import compress, evaluate, losses
from distill_lib.training import train_many

X = np.random.default_rng(0).normal(size=(20, 8, 8, 2)).astype("float32")


KERNEL_OWNERS = (layers.Dense, layers.Conv2D)


def kernel_layers(model):
    return [layer for layer in model.layers if isinstance(layer, KERNEL_OWNERS)]


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
    for layer in kernel_layers(model):
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
    return np.concatenate([np.ravel(la.kernel) for la in kernel_layers(model)])


def others(model):
    ids = {id(layer.kernel) for layer in kernel_layers(model)}
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
    free = compiled(compress.copy_model(pruned))
    fit(free)
    assert compress.sparsity(free) < 0.1


def test_zeros_are_kept_where_many_students_are_trained():
    large = keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Dense(3)])
    pruned = compress.prune_magnitude(large, 0.5)

    def build():
        return compress.keep_pruned(compress.copy_model(pruned), pruned)

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


def build_of_rank_two(**options):
    """Layers of all kinds, in an inner model too, whose kernels have rank 2."""
    rng = np.random.default_rng(4)
    image = keras.Input((9, 9, 6))
    strided = {"strides": 2, "padding": "same", "activation": "relu"}
    x = layers.Conv2D(8, 3, **strided, **options, name="strided")(image)
    inner_image = keras.Input((5, 5, 8))
    dilated = layers.Conv2D(8, 3, dilation_rate=2, padding="same", **options, name="dilated")
    inner = keras.Model(inner_image, dilated(inner_image), name="inner")
    x = inner(inner(x))  # shared: one layer, two calls
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(8, 3, groups=2, padding="same", name="grouped")(x)
    x = layers.Reshape((9, 8))(x)
    x = layers.Conv1D(9, 3, padding="causal", dilation_rate=2, **options, name="causal")(x)
    x = layers.Dense(9, activation="tanh", **options, name="dense")(x)
    model = keras.Model(image, layers.Dense(1, name="small")(x))
    for weight in model.weights:
        *head, last = weight.shape
        factors = rng.normal(size=(int(np.prod(head)), 2)), rng.normal(size=(2, last))
        weight.assign((factors[0] @ factors[1]).reshape(weight.shape) / 8)
    return model


IMAGES = np.random.default_rng(5).normal(size=(4, 9, 9, 6)).astype("float32")
FACTORISED = ["strided", "dilated", "causal", "dense"]


def test_kernels_of_rank_two_are_factorised_without_any_loss():
    model = build_of_rank_two()
    copy = compress.factorise_low_rank(model, 2 / 9)
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    places = [copy, copy.get_layer("inner"), copy, copy]
    for place, name in zip(places, FACTORISED, strict=True):
        first, second = place.get_layer(name).layers
        assert (first.name, second.name) == (f"{name}_in", f"{name}_out")
        assert first.kernel.shape[-1] == 2
    for name in ("depthwise", "grouped", "small"):
        assert type(copy.get_layer(name)) is type(model.get_layer(name))
    # Each pair: m r + r n and the biases n.
    pairs = (54 + 8) * 2 + 8, (72 + 8) * 2 + 8, (24 + 9) * 2 + 9, (9 + 9) * 2 + 9
    others = 9 * 8 + 8, 9 * 4 * 8 + 8, 9 + 1
    assert copy.count_params() == sum(pairs + others)


@pytest.mark.parametrize("regularizer", ["l1", keras.regularizers.L1L2(0.1, 0.2)])
def test_the_penalty_stays_that_of_the_product(regularizer, tmp_path):
    model = build_of_rank_two(kernel_regularizer=regularizer, activity_regularizer="l2")
    copy = compress.factorise_low_rank(model, 2 / 9)
    before = float(sum(model.losses))
    assert len(copy.losses) == len(FACTORISED)
    assert float(sum(copy.losses)) == pytest.approx(before, rel=1e-5)
    # The penalty of activities too, which needs a call.
    model(IMAGES), copy(IMAGES)
    assert float(sum(copy.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-4)
    copy.save(tmp_path / "low.keras")
    again = keras.models.load_model(tmp_path / "low.keras")
    assert float(sum(again.losses)) == pytest.approx(before, rel=1e-5)
    twice = compress.copy_model(copy)
    assert float(sum(twice.losses)) == pytest.approx(before, rel=1e-5)


def test_a_frozen_pair_with_a_penalty_stays_frozen(tmp_path):
    inputs = keras.Input((6,))
    frozen = layers.Dense(5, kernel_regularizer="l2", trainable=False, name="frozen")
    copy = compress.factorise_low_rank(keras.Model(inputs, frozen(inputs)), 2 / 5)
    copy.save(tmp_path / "low.keras")
    again = keras.models.load_model(tmp_path / "low.keras")
    for one in (copy, compress.copy_model(copy), again):
        assert not one.get_layer("frozen").trainable_weights
        assert not one.losses


def test_the_penalty_of_a_product_moves_both_factors():
    """Without any data, one step of SGD is that of the gradient of |A B|^2."""
    inputs = keras.Input((6,))
    model = keras.Model(
        inputs, layers.Dense(5, kernel_regularizer=keras.regularizers.L2(1))(inputs)
    )
    copy = compress.factorise_low_rank(model, 2 / 5)
    first, second, _ = copy.get_weights()
    zero = keras.losses.MeanSquaredError()
    copy.compile(keras.optimizers.SGD(0.1), lambda true, guess: 0 * zero(true, guess))
    copy.fit(np.zeros((1, 6)), np.zeros((1, 5)), verbose=0)
    after = copy.get_weights()
    np.testing.assert_allclose(after[0], first - 0.2 * first @ second @ second.T, atol=1e-5)
    np.testing.assert_allclose(after[1], second - 0.2 * first.T @ first @ second, atol=1e-5)


def test_the_penalty_sees_weights_that_are_given_from_outside():
    """As where many students are trained in one program."""
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(5, kernel_regularizer="l2")(inputs))
    copy = compress.factorise_low_rank(model, 2 / 5)
    given = [2 * w for w in copy.get_weights()[:2]] + copy.get_weights()[2:]
    found = copy.stateless_call(given, [], np.zeros((1, 6)), return_losses=True)
    assert float(found[2][0]) == pytest.approx(16 * float(copy.losses[0]), rel=1e-5)


def test_no_layer_grows():
    inputs = keras.Input((30,))
    x = layers.Dense(20, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(20, name="second")(x))
    # r (m + n) < m n: 0.6 * 20 = 12 is the bound 30 * 20 / 50 of the first, 10 of the second.
    copy = compress.factorise_low_rank(model, 0.5)
    assert type(copy.get_layer("second")) is layers.Dense
    assert copy.get_layer("first").count_params() == 10 * 50 + 20
    for share, names in ((0.6, None), (1.0, None), (0.5, ["second"])):
        with pytest.raises(ValueError, match=f"rank_fraction must make .* got {share} for"):
            compress.factorise_low_rank(model, share, names)


def test_a_low_rank_keeps_names_dtypes_and_frozen_layers():
    inputs = keras.Input((12,))
    x = layers.Dense(12, dtype="mixed_bfloat16", name="half")(inputs)
    x = layers.Dense(12, dtype="float64", name="double")(x)
    model = keras.Model(inputs, x, name="named")
    model.get_layer("half").trainable = False
    copy = compress.factorise_low_rank(model, 0.2)
    assert copy.name == "named"
    half, double = copy.get_layer("half"), copy.get_layer("double")
    assert [one.dtype_policy.name for one in half.layers] == ["mixed_bfloat16"] * 2
    assert {weight.dtype for weight in double.weights} == {"float64"}
    assert not half.trainable
    assert double.trainable
    assert len(copy.trainable_weights) == 3
    # Rounded to float32 on the way, a float64 layer would err by 1e-7.
    exact = compress.factorise_low_rank(model, 0.4, ["double"]).get_layer("double")
    x = np.random.default_rng(6).normal(size=(3, 12))
    first, second, bias = exact.get_weights()
    np.testing.assert_allclose(exact(x), x @ first @ second + bias, rtol=1e-12)


def test_a_layer_of_two_input_sizes_is_factorised():
    shared = layers.Conv2D(8, 3, name="shared")
    large, small = keras.Input((9, 9, 8)), keras.Input((5, 5, 8))
    model = keras.Model([large, small], [shared(large), shared(small)])
    copy = compress.factorise_low_rank(model, 0.5)
    given = [np.ones((1, 9, 9, 8)), np.ones((1, 5, 5, 8))]
    assert [one.shape for one in copy(given)] == [(1, 7, 7, 8), (1, 3, 3, 8)]


class DoubledDense(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def test_what_cannot_be_factorised_stays_and_is_refused_by_name():
    inputs = keras.Input((8,))
    x = layers.Dense(8, kernel_constraint="max_norm", name="constrained")(inputs)
    x = layers.Dense(8, name="plain")(x)
    model = keras.Model(inputs, DoubledDense(8, name="subclass")(x))
    copy = compress.factorise_low_rank(model, 0.2)
    assert type(copy.get_layer("constrained")) is layers.Dense
    assert type(copy.get_layer("subclass")) is DoubledDense
    for name in ("constrained", "subclass"):
        with pytest.raises(ValueError, match=rf"among \['plain'\], got \['{name}'\]"):
            compress.factorise_low_rank(model, 0.2, [name])
    with pytest.raises(ValueError, match="layer_names must be among"):
        compress.factorise_low_rank(compress.quantise_int8(model), 0.2, ["plain"])


def test_a_copy_has_every_shared_layer_once_and_no_compilation():
    inputs = keras.Input((8,), name="x")
    shared = layers.Dense(8, name="shared")
    inner_inputs = keras.Input((8,))
    inner = keras.Model(inner_inputs, shared(inner_inputs) + inner_inputs, name="inner")
    frozen = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dropout(0.5)])
    frozen.layers[0].trainable = False
    model = keras.Model({"x": inputs}, {"y": frozen(inner(shared(inputs)))}, name="outer")
    model.compile("sgd", lambda true, guess: true - guess)  # no file can name this loss
    copy = compress.copy_model(model)
    assert not copy.compiled
    assert len(copy.weights) == len(model.weights) == 4
    assert len(copy.trainable_weights) == len(model.trainable_weights) == 2
    x = {"x": np.ones((2, 8))}
    np.testing.assert_array_equal(copy(x)["y"], model(x)["y"])
    copy.get_layer("shared").kernel.assign(np.zeros((8, 8)))
    assert copy.get_layer("inner").get_layer("shared") is copy.get_layer("shared")
    assert np.any(model.get_layer("shared").kernel)


def test_a_copy_is_frozen_where_its_model_is():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3)], name="inner")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(inputs))
    inner.trainable = False
    assert not compress.copy_model(model).get_layer("inner").trainable
    assert compress.copy_model(model).trainable


def test_layers_with_more_than_a_kernel_and_a_bias_are_copied_and_not_factorised():
    inputs = keras.Input((8,))
    x = layers.Dense(8, name="adapted")(inputs)
    model = keras.Model(inputs, layers.Dense(8, name="plain")(x))
    model.get_layer("adapted").enable_lora(1)
    model.get_layer("adapted").lora_kernel_b.assign(np.ones((1, 8)))
    for one in (model, compress.quantise_int8(model)):
        x = np.random.default_rng(8).normal(size=(3, 8)).astype("float32")
        np.testing.assert_array_equal(compress.copy_model(one)(x), one(x))
        with pytest.raises(ValueError, match="layer_names must be among"):
            compress.factorise_low_rank(one, 0.2, ["adapted"])


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        pass

    for model in (Own(), keras.Sequential([layers.Dense(3)])):
        with pytest.raises(ValueError, match="model must be a built Functional or Sequential"):
            compress.copy_model(model)


def build_of_many_kernels():
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(4, 3, padding="same")(inputs)  # 48
    x = layers.MultiHeadAttention(2, 3)(x, x)  # 4 x 24
    x = layers.TimeDistributed(layers.Dense(5))(x)  # 20
    x = layers.Bidirectional(layers.LSTM(2))(x)  # 2 x (5 x 8 + 2 x 8)
    x = layers.Reshape((2, 2, 1))(layers.LayerNormalization()(x))
    x = layers.SeparableConv2D(3, 2)(layers.DepthwiseConv2D(1)(x))  # 1, 4 and 3
    shared = layers.EinsumDense("abcd,de->abce", (1, 1, 3))  # 9
    return keras.Model(inputs, shared(shared(x)))


def test_every_kernel_is_pruned_once():
    model = build_of_many_kernels()
    total = 48 + 96 + 20 + 112 + 1 + 4 + 3 + 9
    rng = np.random.default_rng(7)
    model.set_weights([rng.uniform(1, 2, w.shape) for w in model.get_weights()])
    pruned = compress.prune_magnitude(model, 0.5)
    zeros = sum(int(np.sum(w == 0)) for w in pruned.get_weights())
    assert zeros == round(0.5 * total)
    assert compress.sparsity(pruned) == pytest.approx(zeros / total)
    assert all(np.all(w) for w in pruned.get_weights() if w.ndim == 1)  # no bias
    free = compress.copy_model(model)
    compress.keep_pruned(free, pruned)
    assert compress.sparsity(free) == compress.sparsity(pruned)


def test_a_model_without_kernels_of_floats_cannot_be_pruned():
    tokens = keras.Input((3,), dtype="int32")
    bare = keras.Model(tokens, layers.Embedding(4, 2)(tokens))
    inputs = keras.Input((4,))
    integers = compress.quantise_int8(keras.Model(inputs, layers.Dense(3)(inputs)))
    for model in (bare, integers):
        tries = [compress.sparsity, lambda one: compress.prune_magnitude(one, 0.5)]
        for call in [*tries, lambda one: compress.keep_pruned(one, one)]:
            with pytest.raises(ValueError, match="model must have kernels, all of floats, got"):
                call(model)


def test_int8_stores_dense_kernels_in_a_quarter_and_stays_close(tmp_path):
    keras.utils.set_random_seed(0)
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


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (layers.Dense(4, activation="relu"), layers.Dense(4, activation="tanh")),
        (layers.Dense(4), DoubledDense(4)),
        (layers.Conv1D(4, 3), layers.Conv1D(4, 3, dilation_rate=2)),
        (layers.LSTM(4), layers.LSTM(4, go_backwards=True)),
        (layers.BatchNormalization(), layers.BatchNormalization(epsilon=0.1)),
        (
            layers.Bidirectional(layers.LSTM(4)),
            layers.Bidirectional(layers.LSTM(4, activation="relu")),
        ),
    ],
)
def test_inheritance_refuses_a_layer_that_computes_another_function(own, other):
    student, teacher = (keras.Sequential([keras.Input((8, 3)), one]) for one in (own, other))
    names = {student.layers[0].name: teacher.layers[0].name}
    with pytest.raises(ValueError, match=r"must compute what the teacher's .* computes"):
        compress.inherit_weights(student, teacher, names)


def test_inheritance_allows_what_only_training_looks_at_and_whole_inner_models():
    def build(**options):
        inner = keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(4, **options),
                layers.BatchNormalization(momentum=len(options) / 9),
                layers.Dropout(len(options) / 9),
            ],
            name="inner",
        )
        inputs = keras.Input((4,))
        return keras.Model(inputs, inner(inputs))

    teacher = build(kernel_regularizer="l2", kernel_initializer="ones", trainable=False)
    student = compress.inherit_weights(build(), teacher, ["inner"])
    assert np.all(student.get_weights()[0] == 1)
    with pytest.raises(ValueError, match="must compute what the teacher's 'inner' computes"):
        compress.inherit_weights(build(activation="relu"), teacher, ["inner"])


def test_inheritance_of_nothing_is_refused():
    model = build_functional()
    with pytest.raises(ValueError, match="at least one name"):
        compress.inherit_weights(model, model, [])
    with pytest.raises(ValueError, match="must name layers with weights, got 'flat'"):
        compress.inherit_weights(model, model, ["flat"])
