"""The networks of the book: one strong teacher and small students of any width."""

import keras
from keras import layers

from distill_lib.data import asset


def build_teacher(widths=(32, 64, 128), input_shape=(28, 28, 1), class_count=10):
    """A convolutional network with two 3 x 3 convolutions at each of three resolutions.

    Args:
        widths: channels of each resolution; ``(32, 64, 128)`` has 289,066 parameters,
            896 of them the running statistics of batch normalisation.
        input_shape: rows, columns, channels of one image.
        class_count: number of outputs.

    Returns:
        an uncompiled ``keras.Model`` from images to logits ``(batch, class_count)``.
    """
    inputs = keras.Input(input_shape)
    x = inputs
    for stage, width in enumerate(widths):
        for step in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU(name=f"stage{stage}_relu{step}")(x)
        if stage < len(widths) - 1:
            x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(class_count, name="logits")(x), name="teacher")


def build_student(width=128, input_shape=(28, 28, 1), output_count=10):
    """A multilayer perceptron with one hidden layer, the book's small student.

    Args:
        width: neurons of the hidden layer, at least 1.
        input_shape: shape of one input without the batch; any rank, it is flattened.
        output_count: number of outputs: classes, or 1 for a regression.

    Returns:
        an uncompiled ``keras.Model`` from inputs to logits ``(batch, output_count)`` with
        the layers ``hidden`` (ReLU) and ``logits`` (no activation).
    """
    _check_widths("width", [width])
    inputs = keras.Input(input_shape)
    x = layers.Flatten(name="flat")(inputs)
    x = layers.Dense(width, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(output_count, name="logits")(x), name="student")


def build_small_cnn(widths=(8, 16), input_shape=(28, 28, 1), class_count=10):
    """A small convolutional student: one 3 x 3 convolution at each resolution.

    Args:
        widths: channels of each convolution, named ``conv0``, ``conv1``, ... .
        input_shape: rows, columns, channels of one image.
        class_count: number of outputs.

    Returns:
        an uncompiled ``keras.Model`` from images to logits ``(batch, class_count)``; the
        averaged features before the last layer are named ``pooled``.
    """
    _check_widths("widths", widths)
    inputs = keras.Input(input_shape)
    x = inputs
    for stage, width in enumerate(widths):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{stage}")(x)
        if stage < len(widths) - 1:
            x = layers.MaxPooling2D(name=f"pool{stage}")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(inputs, layers.Dense(class_count, name="logits")(x), name="small_cnn")


def load_teacher():
    """The shipped, trained :func:`build_teacher` for Fashion-MNIST.

    Returns:
        an uncompiled ``keras.Model`` from images ``(batch, 28, 28, 1)``, brightness 0 to 1,
        to logits ``(batch, 10)``. ``tools/make_assets.py`` holds the recipe.

    Raises:
        ValueError: the file's SHA-256 differs from the recorded one.
        FileNotFoundError: the file is missing.
    """
    loaded = keras.models.load_model(asset("teacher.keras"), compile=False)
    # A loaded model expects a list of one input, and warns on every plain array.
    teacher = keras.Model(loaded.inputs[0], loaded.outputs[0], name="teacher")
    teacher.trainable = False
    return teacher


def _check_widths(name, widths):
    if not widths or min(widths) < 1:
        raise ValueError(f"{name} must be at least 1 everywhere, got {widths}")
