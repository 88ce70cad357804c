"""What may change while a distiller trains: teacher, weights, and the knobs of its terms."""

import keras

from distill_lib.distiller import arguments, label_losses, objective
from distill_lib.features import ForwardPass
from distill_lib.terms import is_number


class Adjustable(keras.Model):
    """The part of a :class:`~distill_lib.distiller.Distiller` that a callback may change.

    Weights and knobs are variables, so that a change takes effect in the next step; whatever
    a compiled step has fixed is compiled anew.
    """

    def _set_up(self, teacher, terms, weights, student_weight):
        self.distillation_losses = tuple(terms)
        self.term_names = arguments.unique_names([term.name for term in terms])
        self._student_weight = _variable(student_weight, "student_loss_weight")
        self._needs_labels = student_weight > 0
        self._term_weights = [_variable(one, "distillation_loss_weight") for one in weights]
        self._knobs = [_own_knobs(term.knobs) for term in terms]
        self.adapters = [_own_adapter(term.adapter) for term in terms]
        self.set_teacher(teacher)

    def set_teacher(self, teacher):
        """Learn from another teacher (a model, a list of models, or ``None``) from now on."""
        models = arguments.checked_teachers(teacher, self.distillation_losses)
        layers = {term.teacher_layer for term in self.distillation_losses} - {None}
        # Not as attributes of their own: Keras would train and save what it finds in a model.
        self._teacher_passes = [ForwardPass(model, layers) for model in models]
        self._compile_steps_anew()

    def get_teacher(self):
        """Return the teacher: a model, a list of models, or ``None``."""
        models = [one.model for one in self._teacher_passes]
        return models[0] if len(models) == 1 else models or None

    def live_teachers(self, given):
        """Return the teachers, as passes, that are asked beside the signals given."""
        wanted = objective.wants_teacher(self.distillation_losses, given)
        return self._teacher_passes if wanted else []

    @property
    def teacher(self):
        """Refused, because Keras would train and save a model that is an attribute."""
        raise AttributeError("a Distiller has get_teacher() and set_teacher(model)")

    @teacher.setter
    def teacher(self, value):
        for one in keras.tree.flatten(value):
            self._tracker.untrack(one)  # Keras has already taken it for a layer of this model
        raise ValueError(f"teacher must be changed by set_teacher(model), got {value!r}")

    @property
    def student_loss_weight(self):
        """The number w in [0, 1]. What is assigned takes effect in the next step."""
        return float(self._student_weight)

    @student_loss_weight.setter
    def student_loss_weight(self, value):
        value = arguments.checked_student_weight(value)
        self._student_weight.assign(value)
        if self._needs_labels != (value > 0):
            self._needs_labels = value > 0
            self._compile_steps_anew()

    @property
    def distillation_loss_weights(self):
        """The weights of the terms. What is assigned takes effect in the next step."""
        return tuple(float(weight) for weight in self._term_weights)

    @distillation_loss_weights.setter
    def distillation_loss_weights(self, values):
        values = arguments.checked_weights(values, len(self._term_weights))
        for variable, value in zip(self._term_weights, values, strict=True):
            variable.assign(value)

    def get_knobs(self, term_name):
        """Return the present knobs of the term whose metric has this name, a dictionary."""
        knobs = self._knobs[arguments.index_of(term_name, self.term_names)]
        return {name: plain(value) for name, value in knobs.items()}

    def set_knobs(self, term_name, **numbers):
        """Change knobs of a term, such as its temperature; a callback may do so at any step.

        Args:
            term_name: The name of the term's metric, one of ``term_names``.
            **numbers: The new values by the names of the function's arguments.

        Raises:
            ValueError: If there is no such term or knob, or if a number is out of its range.
        """
        number = arguments.index_of(term_name, self.term_names)
        variables = {
            name: one
            for name, one in self._knobs[number].items()
            if isinstance(one, keras.Variable)
        }
        if unknown := sorted(numbers.keys() - variables.keys()):
            rule = f"knobs of {term_name} that can change are {sorted(variables)}"
            raise ValueError(f"{rule}, got {unknown}")
        if wrong := {name: one for name, one in numbers.items() if not is_number(one)}:
            raise ValueError(f"knobs of {term_name} must be numbers, got {wrong}")
        self.distillation_losses[number].check_knobs(numbers)
        for name, value in numbers.items():
            variables[name].assign(value)

    def _has_labels(self, given):
        has_loss = self._compile_loss is not None
        if self._needs_labels and not (has_loss and "labels" in given):
            missing = "labels in y" if has_loss else "a loss in compile"
            raise ValueError(f"student_loss_weight must be 0, or else give {missing}")
        if has_loss:
            label_losses.check_takes_logits(self.loss, self.student, self.distillation_losses)
            metrics = getattr(self._compile_metrics, "_user_metrics", None)
            label_losses.check_several_labels(self.loss, metrics, self.distillation_losses)
        return has_loss and "labels" in given

    def _has_all_signals(self, given):
        stored_only = not self._teacher_passes
        return not (stored_only and objective.wants_teacher(self.distillation_losses, given))

    def _compile_steps_anew(self):
        if getattr(self, "train_function", None) is not None:
            self.make_train_function(force=True)
        if getattr(self, "test_function", None) is not None:
            self.make_test_function(force=True)


def plain(value):
    """A knob as a plain number, or as it is if it is none."""
    return float(value) if isinstance(value, keras.Variable) else value


def _variable(value, name):
    return keras.Variable(float(value), trainable=False, name=name)


def _own_knobs(knobs):
    """The knobs of a term with a new variable for each number."""
    own = {}
    for name, value in knobs.items():
        own[name] = _variable(value, name) if is_number(value) else value
    return own


def _own_adapter(adapter):
    """A copy of a term's adapter, so that no two distillers train the same one."""
    if adapter is None:
        return None
    try:
        copy = adapter.__class__.from_config(adapter.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        rule = "be rebuilt by from_config(get_config())"
        raise ValueError(f"adapter must {rule}, got {adapter!r}: {error}") from error
    if adapter.built:
        copy.build_from_config(adapter.get_build_config())
        copy.set_weights(adapter.get_weights())
    return copy
