"""FitNets hints with Keras's own ``fit``: a second output that predicts teacher features.

The projector (the paper's regressor) lives outside the student: only the training model
has it, and saving the student saves nothing of it.
"""

import keras
from keras import layers


def projector(student_features_shape, teacher_channels):
    """A linear map from the student's channels to the teacher's (Romero et al., 2015).

    Args:
        student_features_shape: shape with the batch axis first: ``(batch, channels)``,
            ``(batch, steps, channels)`` or ``(batch, rows, columns, channels)``.
        teacher_channels: channels of the teacher's layer.

    Returns:
        a Keras layer named ``"projector"``: ``Dense`` for vectors and sequences, a 1 x 1
        ``Conv2D`` for maps. Rows and columns are left as they are.

    Raises:
        ValueError: any other number of axes.
    """
    axes = len(student_features_shape)
    if axes in (2, 3):
        return layers.Dense(teacher_channels, name="projector")
    if axes == 4:
        return layers.Conv2D(teacher_channels, 1, name="projector")
    raise ValueError(
        "student_features_shape must have 2, 3 or 4 axes with the batch, "
        f"got {tuple(student_features_shape)}"
    )


def with_hint_output(student, layer_name, teacher_channels):
    """Build the model that trains a student with a hint from cached teacher features.

    It shares the student's layers: ``fit`` on it trains the student, in one forward pass::

        training = with_hint_output(student, "hidden", teacher_channels=128)
        training.compile(
            "adam",
            loss={
                "logits": CachedTeacherLoss(mixed_loss, temperature=4.0),
                "hint": CachedTeacherLoss(hint_loss),
            },
            loss_weights={"logits": 1.0, "hint": 0.1},
        )
        training.fit(x, {"logits": pack_targets(y, signals.logits), "hint": signals.features})
        student.save("student.keras")

    Args:
        student: a functional or sequential ``keras.Model`` with one input.
        layer_name: the student's layer that gets the hint.
        teacher_channels: channels of the teacher's features.

    Returns:
        a ``keras.Model`` with the outputs ``{"logits": ..., "hint": ...}``.

    Raises:
        ValueError: no layer of that name, or features that no projector fits.
    """
    features = student.get_layer(layer_name).output
    hint = projector(features.shape, teacher_channels)(features)
    outputs = {"logits": student.outputs[0], "hint": hint}
    return keras.Model(student.inputs[0], outputs, name=f"{student.name}_with_hint")


def without_hint(training_model):
    """Return the student inside a model made by :func:`with_hint_output`.

    For use where the student itself was not kept. The weights are shared, not copied.
    """
    inputs, outputs = training_model.inputs[0], training_model.output
    return keras.Model(inputs, outputs["logits"], name="student")
