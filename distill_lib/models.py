"""The networks of the book: one strong teacher and small students of any width.

Builders return uncompiled models from inputs ``(batch, *input_shape)`` to the layer
``logits``, ``(batch, class_count)``, and raise ``ValueError`` for widths below 1.
"""

import keras
from keras import layers

from distill_lib.data import asset


def build_teacher(widths=(32, 64, 128), input_shape=(28, 28, 1), class_count=10):
    """A convolutional network, at each resolution two layers of 3 x 3 of the given width.

    289,066 parameters, 896 of them statistics of batch normalisation. Layers that a hint can
    use: ``stage0_relu0``, ``stage0_relu1``, ``stage1_relu0``, ..., and ``pooled``.
    """
    x = inputs = keras.Input(input_shape)
    for stage, width in enumerate(_positive("widths", widths)):
        x = layers.MaxPooling2D()(x) if stage else x
        for step in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU(name=f"stage{stage}_relu{step}")(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D(name="pooled")(x))
    return keras.Model(inputs, layers.Dense(class_count, name="logits")(x), name="teacher")


def build_student(width=128, input_shape=(28, 28, 1), output_count=10):
    """A perceptron on flattened inputs with one layer ``hidden`` (ReLU); 1 output regresses."""
    _positive("width", [width])
    inputs = keras.Input(input_shape)
    x = layers.Flatten(name="flat")(inputs)
    x = layers.Dense(width, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(output_count, name="logits")(x), name="student")


def build_small_cnn(widths=(8, 16), input_shape=(28, 28, 1), class_count=10):
    """A small student: at each resolution one layer of 3 x 3, ``conv0``, ...; ``pooled``."""
    x = inputs = keras.Input(input_shape)
    for stage, width in enumerate(_positive("widths", widths)):
        x = layers.MaxPooling2D(name=f"pool{stage - 1}")(x) if stage else x
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{stage}")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, layers.Dense(class_count, name="logits")(x), name="small_cnn")


def load_teacher():
    """The shipped :func:`build_teacher`, trained on Fashion-MNIST and frozen.

    ``tools/run/make_assets.py`` holds the recipe. Errors: as :func:`distill_lib.data.asset`.
    """
    loaded = keras.models.load_model(asset("teacher.keras"), compile=False)
    # A loaded model expects a list of one input, and warns on every plain array.
    teacher = keras.Model(loaded.inputs[0], loaded.outputs[0], name="teacher")
    teacher.trainable = False
    return teacher


def _positive(name, widths):
    if not widths or min(widths) < 1:
        raise ValueError(f"{name} must be at least 1 everywhere, got {widths}")
    return widths
