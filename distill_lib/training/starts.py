"""The starting weights of many students, without building a Keras model for each of them.

Keras takes the seed of each random initialiser from Python's generator while a model is built.
Which number of that generator it took is found in one model; with another seed the same
initialiser takes the number at the same place. A second model, which is built, must confirm it.
"""

import copy
import random

import keras
import numpy as np
from keras import ops

DRAWS = 1000  # numbers of Python's generator among which the first model's seeds are looked for


def starting_weights(builds, seeds):
    """Return the weights that ``keras.utils.set_random_seed(seed); build()`` gives for each.

    Equal pairs are built once. Where the weights do not come from initialisers alone, every
    model is built.

    Returns:
        Lists of arrays as :func:`weights_of` gives them, the first model, and the models that
        had to be built because their weights cannot be drawn, by number.
    """
    first = new_student(builds[0], seeds[0])
    draw, is_confirmed, built = _Draw(first, seeds[0]), False, {}
    keys = [(id(build), seed) for build, seed in zip(builds, seeds, strict=True)]
    known = {keys[0]: draw.first}
    for number, key in enumerate(keys):
        if key in known:
            continue
        build, seed = builds[number], seeds[number]
        can_draw = draw.is_possible and build is builds[0]
        if can_draw and is_confirmed:
            known[key] = draw.weights(seed)
            continue
        model = new_student(build, seed)
        known[key] = weights_of(model)
        if can_draw and same(draw.weights(seed), known[key]):
            is_confirmed = True
        else:
            draw.is_possible, built[number] = False, model
    return [known[key] for key in keys], first, built


def new_student(build, seed):
    """Build one student from its seed; ``ValueError`` unless it is built and can learn."""
    keras.utils.set_random_seed(seed)
    student = build()
    if not student.built or not student.trainable_variables:
        rule = "a built model (give it a keras.Input) with trainable weights"
        raise ValueError(f"build must return {rule}, got {student.name!r}")
    return student


def variables_of(model):
    """Return the variables of a model that training changes: the trainable ones first."""
    return model.trainable_variables + model.non_trainable_variables


def weights_of(model):
    """Return the values of :func:`variables_of`."""
    return [variable.numpy() for variable in variables_of(model)]


def same(one, other):
    """Return whether two lists hold equal arrays."""
    return len(one) == len(other) and all(map(np.array_equal, one, other))


class _Draw:
    """Draws the weights of a model anew, as if it were built from another seed."""

    def __init__(self, model, seed):
        known, numbers = dict(_initialisers(model)), _numbers(seed, DRAWS)
        self.first = weights_of(model)
        self.initialisers = [known.get(id(variable)) for variable in variables_of(model)]
        self.is_possible = None not in self.initialisers
        self.places = []  # of an initialiser's seed among the numbers, or None
        for initialiser in self.initialisers:
            own = getattr(initialiser, "seed", None)
            self.places.append(numbers.index(own) if own in numbers else None)
        self.count = 1 + max((place for place in self.places if place is not None), default=0)

    def weights(self, seed):
        """Return the starting weights under another seed."""
        numbers, found = _numbers(seed, self.count), []
        for first, initialiser, place in zip(
            self.first, self.initialisers, self.places, strict=True
        ):
            if place is None:  # no random numbers, or the same under every seed
                found.append(first)
                continue
            initialiser = copy.copy(initialiser)
            initialiser.seed = numbers[place]
            found.append(ops.convert_to_numpy(initialiser(first.shape, dtype=first.dtype.name)))
        return found


def _numbers(seed, count):
    """Return the first numbers that Keras takes from Python's generator."""
    generator = random.Random(seed)
    return [generator.randint(1, int(1e9)) for _ in range(count)]


def _initialisers(layer):
    """Give pairs of a variable's identity and its initialiser, by Keras's names for both."""
    for inner in getattr(layer, "layers", []):
        yield from _initialisers(inner)
    if not hasattr(layer, "layers"):
        for variable in layer.variables:
            initialiser = getattr(layer, f"{variable.name}_initializer", None)
            if callable(initialiser):
                yield id(variable), initialiser
