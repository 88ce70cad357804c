"""The terms of a distiller's loss, as functions of what a training step has gathered."""

from keras import ops

from distill_lib import counting
from distill_lib.distiller.judged import answers_by_name, entry, loss_of, mask_of_answer


def wants_teacher(terms, given):
    """Return whether a term needs a signal of a teacher that is not among those given."""
    missing = [name for term in terms for name in term.lacks(given)]
    return any(name.startswith("teacher_") for name in missing)


def common_signals(loss, given, answer):
    """Return the signals that all terms share: what came with y, the answers, the mask."""
    outputs = answers_by_name(answer)
    signals = {f"student_{name}": output for name, output in outputs.items()} | given
    if isinstance(given.get("labels"), dict):
        del signals["labels"]
        if "logits" in given["labels"]:
            signals["labels"] = given["labels"]["logits"]
    loss = loss_of(loss, "logits")
    mask = mask_of_answer(loss, given.get("mask"), signals.get("labels"), outputs.get("logits"))
    return signals if mask is None else signals | {"mask": mask}


def term_value(term, knobs, signals, asked, sample_weight):
    """Return the value of a term; with live teachers, its mean over all that were asked."""
    stored = dict(signals)
    by_layer = stored.get("teacher_features")
    if isinstance(by_layer, dict):
        del stored["teacher_features"]
        if term.teacher_layer is not None or "teacher_features" in term.takes:
            name = f"teacher_features of {term.name}"
            stored["teacher_features"] = entry(by_layer, term.teacher_layer, name)
    if not asked:
        return term.value_of(stored, knobs, sample_weight)
    values = []
    for answer, found in asked:
        live = {f"teacher_{name}": one for name, one in answers_by_name(answer).items()}
        live["teacher_features"] = found[term.teacher_layer]
        mask = stored.get("mask")
        for name, one in live.items():
            live[name] = None if one is None else ops.stop_gradient(one)
            if term.uses(name):
                mask = counting.both(mask, counting.mask_of(one))
        own = {**live, **stored} if mask is None else {**live, **stored, "mask": mask}
        values.append(term.value_of(own, knobs, sample_weight))
    return sum(values) / len(values)
