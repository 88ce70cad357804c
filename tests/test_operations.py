"""Multiply-adds against values worked out by hand and against published ones."""

import keras
import numpy as np
import pytest
from keras import layers

from distill_lib.compress import quantise_int8
from distill_lib.evaluate import operation_count


def count(layer, *shapes, **options):
    """The multiply-adds of one call of a layer on inputs of these shapes."""
    inputs = [keras.Input(shape, **options) for shape in shapes]
    return operation_count(keras.Model(inputs, layer(*inputs)))


def test_operations_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, (1, 3), groups=2)(x)
    x = layers.Dense(7)(x)
    x = layers.Dropout(0.9)(layers.Flatten()(x))
    model = keras.Model(inputs, keras.Sequential([layers.Dense(5)])(x))
    conv = 4 * 4 * 4 * (3 * 3 * 3)
    grouped = 4 * 2 * 6 * (1 * 3 * 2)
    dense = 4 * 2 * 6 * 7 + (4 * 2 * 7) * 5
    assert operation_count(model) == conv + grouped + dense


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Dense(7), (5,), 5 * 7),
        (layers.Dense(7), (4, 5), 4 * 5 * 7),
        (layers.Conv1D(6, 3, dilation_rate=2), (10, 4), 6 * (3 * 4 * 6)),
        (layers.Conv1D(6, 3, groups=2, padding="same"), (10, 4), 10 * (3 * 2 * 6)),
        (layers.Conv3D(6, 2, strides=2), (4, 4, 6, 3), 2 * 2 * 3 * (8 * 3 * 6)),
        # Each of the 10 or 25 positions of the input meets the whole kernel.
        (layers.Conv1DTranspose(6, 3, strides=2), (10, 4), 10 * (3 * 4 * 6)),
        (layers.Conv2DTranspose(6, 3, strides=2), (5, 5, 4), 25 * (9 * 4 * 6)),
        (layers.Conv3DTranspose(6, 2), (2, 3, 4, 5), 24 * (8 * 5 * 6)),
        (layers.DepthwiseConv1D(3, depth_multiplier=2), (10, 4), 8 * (3 * 4 * 2)),
        (layers.DepthwiseConv2D(3, strides=2), (9, 9, 4), 16 * (9 * 4)),
        (layers.SeparableConv1D(6, 3), (10, 4), 8 * (3 * 4 + 4 * 6)),
        (
            layers.SeparableConv2D(6, 3, strides=2, depth_multiplier=2),
            (9, 9, 4),
            16 * (9 * 8 + 8 * 6),
        ),
        (layers.Conv2D(6, 3, data_format="channels_first"), (4, 9, 9), 49 * (9 * 4 * 6)),
        (layers.Conv1DTranspose(6, 3, data_format="channels_first"), (4, 9), 9 * (3 * 4 * 6)),
        (layers.EinsumDense("abc,cd->abd", (None, 7)), (4, 5), 4 * 5 * 7),
        (layers.EinsumDense("...x,xyz->...yz", (2, 3)), (4, 5), 4 * 5 * 2 * 3),
        (layers.EinsumDense("abcd,cde->abe", (4, 7)), (4, 2, 3), 4 * 2 * 3 * 7),
        (layers.EinsumDense("abc,bcd->abd", (4, 7)), (4, 5), 4 * 5 * 7),
        (layers.EinsumDense("abc,cd->ad", 7), (4, 5), 4 * 5 * 7),
        (layers.SimpleRNN(7), (4, 5), 4 * (5 * 7 + 7 * 7)),
        (layers.LSTM(7, return_sequences=True), (4, 5), 4 * 4 * (5 * 7 + 7 * 7)),
        (layers.GRU(7), (4, 5), 4 * 3 * (5 * 7 + 7 * 7)),
        (layers.Bidirectional(layers.GRU(7)), (4, 5), 2 * 4 * 3 * (5 * 7 + 7 * 7)),
        (layers.TimeDistributed(layers.Dense(7)), (4, 5), 4 * 5 * 7),
        (layers.TimeDistributed(layers.Conv2D(2, 3)), (4, 5, 5, 3), 4 * 9 * (9 * 3 * 2)),
        (
            layers.TimeDistributed(keras.Sequential([keras.Input((5,)), layers.Dense(7)])),
            (4, 5),
            4 * 5 * 7,
        ),
        (layers.BatchNormalization(), (4, 5), 0),
        (layers.LayerNormalization(), (4, 5), 0),
        (layers.PReLU(), (4, 5), 0),
        (layers.MaxPooling1D(), (4, 5), 0),
    ],
)
def test_each_layer_by_hand(layer, shape, expected):
    assert count(layer, shape) == expected


def test_an_embedding_is_looked_up():
    assert count(layers.Embedding(100, 8), (6,), dtype="int32") == 0


@pytest.mark.parametrize("by_name", [False, True])
def test_attention_by_hand(by_name):
    """5 queries of width 8 over 6 tokens of width 7; 2 heads, keys of 4, values of 3."""
    query, value = keras.Input((5, 8)), keras.Input((6, 7))
    layer = layers.MultiHeadAttention(2, 4, value_dim=3)
    answer = layer(value=value, query=query) if by_name else layer(query, value)
    projections = 5 * 8 * (2 * 4) + 6 * 7 * (2 * 4) + 6 * 7 * (2 * 3) + 5 * (2 * 3) * 8
    products = 2 * 5 * 6 * 4 + 2 * 5 * 6 * 3
    assert operation_count(keras.Model([query, value], answer)) == projections + products


def test_a_mask_does_not_change_the_count():
    x, mask = keras.Input((5, 8)), keras.Input((5, 5), dtype="bool")
    layer = layers.MultiHeadAttention(2, 4)
    counts = [
        operation_count(keras.Model([x, mask], layer(x, x, attention_mask=mask))),
        operation_count(keras.Model(x, layer(x, x, use_causal_mask=True))),
    ]
    assert counts == [4 * 5 * 8 * 8 + 2 * 5 * 5 * 8] * 2


def test_a_gate_of_attention_is_one_more_projection_of_the_queries():
    query, value = keras.Input((5, 8)), keras.Input((6, 7))
    counts = []
    for use_gate in (False, True):
        layer = layers.MultiHeadAttention(2, 4, value_dim=3, use_gate=use_gate)
        counts.append(operation_count(keras.Model([query, value], layer(query, value))))
    assert counts[1] - counts[0] == 5 * 8 * (2 * 3)


def test_attention_along_one_axis():
    """Axis 2 of (3, 4): each of 12 tokens attends to 4."""
    x = keras.Input((3, 4, 8))
    layer = layers.MultiHeadAttention(2, 4, attention_axes=2)
    expected = 4 * 12 * 8 * 8 + 2 * 12 * 4 * 8
    assert operation_count(keras.Model(x, layer(x, x))) == expected


def test_integers_are_counted_as_floats():
    x = keras.Input((5, 8))
    dense = layers.Dense(4)(layers.MultiHeadAttention(2, 4)(x, x))
    model = keras.Model(x, layers.EinsumDense("abc,cd->abd", (5, 3))(dense))
    expected = 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8 + 5 * 8 * 4 + 5 * 4 * 3
    assert operation_count(model) == expected
    assert operation_count(quantise_int8(model)) == expected


def test_packed_integers_are_counted_by_their_number():
    """Two numbers of 4 bits share a byte; the kernels look half as large."""
    x = keras.Input((5, 8))
    model = keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x))
    expected = operation_count(model)
    model.quantize("int4", filters=lambda layer: type(layer) is layers.EinsumDense)
    assert operation_count(model) == expected


def test_grouped_attention_by_hand():
    """4 heads of width 3 share the keys and values of 2."""
    query, value = keras.Input((5, 8)), keras.Input((6, 8))
    answer = layers.GroupQueryAttention(3, 4, 2)(query, value)
    projections = 2 * 5 * 8 * (4 * 3) + 2 * 6 * 8 * (2 * 3)
    products = 2 * 4 * 5 * 6 * 3
    assert operation_count(keras.Model([query, value], answer)) == projections + products


def test_a_shared_layer_counts_at_every_call():
    shared, inner_input = layers.Dense(4), keras.Input((4,))
    inner = keras.Model(inner_input, shared(shared(inner_input)))
    x = keras.Input((3, 4))
    model = keras.Model(x, inner(inner(shared(x)[:, 0])))
    shared(keras.Input((9, 4)))  # a call outside the model
    assert operation_count(model) == (3 + 2 + 2) * 16


def test_a_shared_layer_counts_by_the_sizes_of_each_call():
    shared = layers.Conv1D(2, 3)
    long, short = keras.Input((9, 4)), keras.Input((5, 4))
    model = keras.Model([long, short], [shared(long), shared(short)])
    assert operation_count(model) == (7 + 3) * (3 * 4 * 2)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("MobileNetV2", 300),  # Sandler et al., 2018, table 4
        ("MobileNet", 569),  # Howard et al., 2017, table 4
        ("EfficientNetB0", 390),  # Tan and Le, 2019, table 2
    ],
)
def test_published_networks(name, millions):
    model = getattr(keras.applications, name)(weights=None)
    assert operation_count(model) / 1e6 == pytest.approx(millions, rel=0.012)


class Doubled(layers.Dense):
    def call(self, inputs):
        return super().call(super().call(inputs))


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=shape[-1:])

    def call(self, inputs):
        return inputs * self.scale

    def compute_output_shape(self, shape):
        return shape


def product_in_a_wrapper(x):
    """A model without weights, once for each step."""
    step = keras.Input((2, 2))
    inner = keras.Model(step, keras.ops.matmul(step, step))
    return layers.TimeDistributed(inner)(layers.Reshape((3, 2, 2))(x))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Doubled(4), "Doubled"),
        (Scale(), "Scale"),
        (layers.SpectralNormalization(layers.Dense(4)), "SpectralNormalization"),
        (layers.TimeDistributed(Scale()), "Scale"),
        (layers.RNN(layers.LSTMCell(4)), "RNN"),
        (product_in_a_wrapper, "Matmul"),
        (lambda x: layers.Dot(2)([x, x]), "Dot"),
        (lambda x: layers.Attention()([x, x]), "Attention"),
        (lambda x: keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))), "Matmul"),
        (lambda x: keras.ops.einsum("abc,adc->abd", x, x), "Einsum"),
    ],
)
def test_what_cannot_be_counted_is_named(call, name):
    with pytest.raises(ValueError, match=f"can be counted, got .* of the class {name}$"):
        count(call, (3, 4))


def test_operations_of_an_unknown_size_are_refused():
    for layer, shape in (
        (layers.Conv2D(4, 3, name="open"), (None, None, 3)),
        (layers.LSTM(4, name="open"), (None, 3)),
        (layers.TimeDistributed(layers.Dense(4), name="open"), (None, 3)),
    ):
        with pytest.raises(ValueError, match=r"layer 'open' must have known sizes, got \(None"):
            count(layer, shape)


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        def build(self, shape):
            self.dense = layers.Dense(3)
            self.dense.build(shape)

        def call(self, inputs):
            return self.dense(inputs)

    own = Own()
    own(np.zeros((1, 4)))
    for model in (own, keras.Sequential([layers.Dense(3)])):
        with pytest.raises(ValueError, match="must be a built Functional or Sequential, got"):
            operation_count(model)
    with pytest.raises(ValueError, match=r"of the class Own$"):
        count(own, (4,))
