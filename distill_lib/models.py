"""The networks of the book: one strong teacher and small students of any width."""

import keras
from keras import layers


def build_teacher(widths=(32, 64, 128), input_shape=(28, 28, 1), class_count=10):
    """A convolutional network with two 3 x 3 convolutions at each of three resolutions.

    Args:
        widths: channels of each resolution; ``(32, 64, 128)`` has 288,554 parameters.
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
