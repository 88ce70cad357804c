"""A seed fixes the start and the order whatever the loss; reuse changes not one bit."""

import keras
import numpy as np
import pytest

from distill_lib import data, models, training

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def digits():
    return data.load_digits()


def build():
    return models.build_student(16, input_shape=(64,))


def build_with_state():
    """Dropout draws from a seed, batch normalisation keeps averages: both must be reset."""
    inputs = keras.Input((64,))
    x = keras.layers.Dense(16)(inputs)
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def squared(y_true, y_pred):
    return keras.ops.square(y_pred - keras.ops.one_hot(keras.ops.cast(y_true, "int32"), 10))


def equal(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


class Recorder(keras.callbacks.Callback):
    """Keeps the weights at the start of training."""

    def on_train_begin(self, logs=None):
        self.start = [w.copy() for w in self.model.get_weights()]


def start_of(digits, **options):
    recorder = Recorder()
    x, y = digits.x_train, digits.y_train
    training.train(build, x, y, steps=1, callbacks=[recorder], **options)
    return np.concatenate([w.ravel() for w in recorder.start])


def test_two_losses_start_from_the_same_weights_and_two_seeds_do_not(digits):
    start = start_of(digits, loss=CROSS_ENTROPY, seed=3)
    np.testing.assert_array_equal(start, start_of(digits, loss=squared, seed=3))
    assert not np.array_equal(start, start_of(digits, loss=CROSS_ENTROPY, seed=4))


def batches(targets, seed):
    x = np.arange(10.0)
    options = {"steps": 6, "batch_size": 4}
    made = training.shuffled_batches(x, targets, seed=seed, **options)
    return np.array([batch[0] for batch in made.as_numpy_iterator()])


def test_the_order_of_the_batches_depends_on_the_seed_alone():
    labels, packed = np.arange(10), np.ones((10, 11), "float32")
    order = batches(labels, seed=0)
    np.testing.assert_array_equal(order, batches(packed, seed=0))
    assert not np.array_equal(order, batches(labels, seed=1))


def test_every_pass_shows_every_example_once_in_a_new_order():
    order = batches(np.arange(10), seed=0)
    assert order.shape == (6, 4)
    first, second = order.ravel()[:10], order.ravel()[10:20]
    assert sorted(first) == sorted(second) == list(range(10))
    assert not np.array_equal(first, second)


def test_inputs_and_targets_stay_together():
    x = np.arange(10)
    made = training.shuffled_batches(x, x * 2, seed=0, steps=5, batch_size=3)
    assert all(np.array_equal(2 * a, b) for a, b in made.as_numpy_iterator())


def test_the_batches_that_fit_sees_are_those_batches(digits):
    """With a rate of zero the loss of the one epoch is the mean over the batches."""
    options = {"seed": 5, "steps": 7, "batch_size": 32}
    x, y = digits.x_train, digits.y_train
    model = training.train(build, x, y, loss=CROSS_ENTROPY, learning_rate=0.0, **options)
    seen = training.shuffled_batches(x, y, **options)
    expected = np.mean([float(CROSS_ENTROPY(b, model(a))) for a, b in seen])
    assert model.history.history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_reuse_of_the_compiled_model_equals_separate_trainings_bit_by_bit(digits):
    options = {"loss": CROSS_ENTROPY, "steps": 60}
    together = training.train_seeds(
        build_with_state, digits.x_train, digits.y_train, seeds=[0, 1], **options
    )
    for seed, model in enumerate(together):
        x, y = digits.x_train, digits.y_train
        alone = training.train(build_with_state, x, y, seed=seed, **options)
        assert equal(model, alone)
    assert not equal(*together)


def test_it_makes_exactly_the_number_of_updates_and_calls_the_callbacks(digits):
    counted = []
    count = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: counted.append(int(count.model.optimizer.iterations))
    )
    x, y = digits.x_train, digits.y_train
    options = {"steps": training.STEPS_PER_CALL + 3, "callbacks": [count]}
    training.train_seeds(build, x, y, loss=CROSS_ENTROPY, seeds=[0, 1], **options)
    assert counted == [training.STEPS_PER_CALL + 3] * 2


def test_one_step_is_the_step_of_adam(digits):
    """Adam's first update moves each weight by the rate against its gradient's sign."""
    recorder = Recorder()
    options = {"seed": 0, "steps": 1, "learning_rate": 0.01, "callbacks": [recorder]}
    x, y = digits.x_train, digits.y_train
    model = training.train(build, x, y, loss=CROSS_ENTROPY, **options)
    moved = np.abs(model.get_weights()[-1] - recorder.start[-1])
    # Adam's epsilon takes a little away where the gradient is small.
    np.testing.assert_allclose(moved, 0.01, rtol=0.05)


def test_it_learns_the_digits_and_reports_metrics(digits):
    x, y = digits.x_train, digits.y_train
    options = {"seed": 0, "steps": 300, "metrics": ["accuracy"]}
    model = training.train(build, x, y, loss=CROSS_ENTROPY, **options)
    assert np.mean(model(digits.x_test).numpy().argmax(axis=1) == digits.y_test) > 0.85
    assert model.history.history["accuracy"][0] > 0.5


def test_wrong_arguments_are_named(digits):
    x, y = digits.x_train, digits.y_train

    def run(x=x, y=y, build=build, **options):
        training.train(build, x, y, loss=CROSS_ENTROPY, seed=0, **options)

    with pytest.raises(ValueError, match=r"y must have one entry for each of 1000 .*got 999"):
        run(y=y[1:])
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        run(steps=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        run(batch_size=0)
    with pytest.raises(ValueError, match=r"len\(x\) must be at least 1, got 0"):
        run(x=x[:0], y=y[:0])
    with pytest.raises(ValueError, match=r"build must return a model that is built"):
        run(build=lambda: keras.Sequential([keras.layers.Dense(10)]))
