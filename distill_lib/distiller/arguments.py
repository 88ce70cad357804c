"""What a distiller is given: checked, and refused with a sentence that says what to write."""

import keras
import numpy as np

from distill_lib.activations import check_gives_logits
from distill_lib.features import as_functional
from distill_lib.signals.checks import check_not_probabilities
from distill_lib.signals.stored import StoredSignal
from distill_lib.terms import DistillationTerm, is_number

INSTEAD = {
    "LogitsDistillation": "DistillationTerm(soft_target_loss, temperature=3.0)",
    "FeatureDistillation": "DistillationTerm(hint_loss, student_layer=..., teacher_layer=...)",
}


def checked_terms(terms):
    """Return the terms as a list; what is no term is refused, with what to write instead."""
    terms = list(terms) if isinstance(terms, (list, tuple)) else [terms]
    for term in terms:
        if not isinstance(term, DistillationTerm):
            name = type(term).__name__
            given = getattr(term, "__name__", "function") if callable(term) else repr(term)
            instead = INSTEAD.get(name, f"DistillationTerm({given}, ...)")
            raise ValueError(
                f"distillation_losses must be DistillationTerms, got {term!r}: write {instead}"
            )
    return terms


def check_student(student, terms):
    """Refuse what is no model, and probabilities where a term takes logits."""
    _check_model("student", student)
    if any(term.uses("student_logits") and not term.takes_everything for term in terms):
        check_gives_logits("student", student)


def checked_teachers(teacher, terms):
    """Return a list of teachers; what is no model, or gives probabilities, is refused."""
    teachers = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
    if teacher is None:
        return []
    for one in teachers:
        _check_model("teacher", one)
        if any(term.uses("teacher_logits") and not term.takes_everything for term in terms):
            check_gives_logits("teacher", one)
    return teachers


def checked_weights(weights, count):
    """Return ``count`` weights from 0; ``None`` is 1 for each."""
    weights = [1.0] * count if weights is None else weights
    is_list = isinstance(weights, (list, tuple, np.ndarray)) and len(weights) == count
    if not is_list or not all(is_number(one) and 0 <= one < np.inf for one in weights):
        rule = f"be {count} finite numbers from 0 like distillation_losses"
        raise ValueError(f"distillation_loss_weights must {rule}, got {weights}")
    return [float(one) for one in weights]


def checked_student_weight(weight):
    """Return a number in [0, 1]."""
    if not (is_number(weight) and 0 <= weight <= 1):
        raise ValueError(f"student_loss_weight must lie in [0, 1], got {weight}")
    return float(weight)


def unique_names(names):
    """Return the names, numbered where one occurs more than once."""
    return [
        f"{name}_{number}" if names.count(name) > 1 else name
        for number, name in enumerate(names, start=1)
    ]


def index_of(term_name, names):
    """Return the number of the term with this name."""
    if term_name not in names:
        raise ValueError(f"term_name must be one of {names}, got {term_name!r}")
    return names.index(term_name)


def signals_in(y, terms):
    """Return y as signals by name: its own names, or ``{"labels": y}``.

    Raises:
        ValueError: If there is a name that neither the loss nor a term uses.
    """
    if y is None:
        return {}
    if not isinstance(y, dict):
        return {"labels": y}
    names = {"labels", "mask"}
    for term in terms:
        names |= term.takes - term.knobs.keys()
    names = {name for name in names if not name.startswith("student_")}
    if not any(name in names or name.startswith("teacher_") for name in y):
        return {"labels": y}  # labels by output
    unused = sorted(y.keys() - names)
    takes_everything = any(term.takes_everything for term in terms)
    is_students = any(name.startswith("student_") for name in y)
    if is_students or (unused and not takes_everything):
        raise ValueError(f"y must hold only what is used, {sorted(names)}, got {unused}")
    return y


def weights_like(y, sample_weight):
    """Return the weights by name where y is a dictionary; else Keras takes none of tokens."""
    if not isinstance(y, dict) or sample_weight is None or isinstance(sample_weight, dict):
        return sample_weight
    return keras.tree.map_structure(lambda _: sample_weight, y)


def checked_validation(data):
    """Return ``validation_data`` with weights by name, and refuse what ``fit`` refuses in y."""
    if not isinstance(data, (list, tuple)):
        return data
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    check_stored(y)
    return keras.utils.pack_x_y_sample_weight(x, y, weights_like(y, sample_weight))


def check_stored(y):
    """Refuse stored signals that Keras cannot batch, and probabilities given as logits."""
    for name, array in y.items() if isinstance(y, dict) else ():
        if isinstance(array, StoredSignal):
            rule = "be an array: write fit(signals.as_dataset(x, y)) for compact forms"
            raise ValueError(f"{name} must {rule}, got {array!r}")
        if name == "teacher_logits" and isinstance(array, np.ndarray):
            check_not_probabilities(name, array)


def logits_shape(student):
    """Return the shape of the student's logits, or ``None`` if it hides its graph."""
    functional = as_functional(student)
    if functional is None:
        return None
    output = functional.output
    return output["logits"].shape if isinstance(output, dict) else output.shape


def _check_model(name, model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name} must be a keras.Model, got {model!r}")
