"""A start is what the seed and ``build`` give, whether a model was built for it or not."""

import keras
import numpy as np
import pytest
from keras import layers
from students import build

from distill_lib import models
from distill_lib.training.starts import new_student, same, starting_weights, weights_of


def with_dropout():
    inputs = keras.Input((5,))
    x = layers.Dropout(0.5)(layers.Dense(4)(inputs))
    return keras.Model(inputs, layers.Dense(3)(x))


def nested():
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.BatchNormalization()])
    fixed = keras.initializers.HeNormal(seed=3)
    inputs = keras.Input((5,))
    x = layers.Dense(3, kernel_initializer="orthogonal", use_bias=False)(inner(inputs))
    x = layers.Dense(3, kernel_initializer=fixed, bias_initializer="random_normal")(x)
    return keras.Model(inputs, layers.LayerNormalization()(x))


def disturbed():
    model = build()
    model.layers[1].kernel.assign(np.random.normal(size=(5, 4)))  # noqa: NPY002
    return model


def prepared(model=build()):  # noqa: B008
    return keras.models.clone_model(model)


DRAWN = {
    "dense": build,
    "nested": nested,
    "convolutional": lambda: models.build_small_cnn((2, 3), (8, 8, 1)),
    "clone": prepared,
}
BUILT = {"dropout": with_dropout, "disturbed": disturbed}


@pytest.mark.parametrize("name", DRAWN | BUILT)
def test_every_start_is_that_of_its_seed(name):
    make, calls = (DRAWN | BUILT)[name], []

    def counted():
        calls.append(1)
        return make()

    seeds = [7, 0, 3, 7, 12]
    found, first, built = starting_weights([counted] * 5, seeds)
    for own, seed in zip(found, seeds, strict=True):
        assert same(own, weights_of(new_student(make, seed)))
    assert same(weights_of(first), found[0])
    assert len(calls) == (2 if name in DRAWN else 4)
    assert sorted(built) == ([] if name in DRAWN else [1, 2, 4])


def test_each_build_of_a_list_is_used():
    constant = [lambda k=k: keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, kernel_initializer=keras.initializers.Constant(k))]
    ) for k in range(3)]  # fmt: skip
    found, _, built = starting_weights(constant, [0, 0, 0])
    assert [own[0][0, 0] for own in found] == [0, 1, 2]
    assert sorted(built) == [1, 2]
