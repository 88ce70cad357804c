"""Answers that belong to another example, another token, or to nobody."""

import numpy as np


def stored_by_batch(x, teacher_logits, seed, batch_size=32):
    """Batches of inputs and of the teacher's stored answers to them."""
    generator, count = np.random.default_rng(seed), len(x) // batch_size

    def shuffled(array, order):
        return np.split(array[order[: count * batch_size]], count)

    stored = shuffled(teacher_logits, generator.permutation(len(x)))
    inputs = shuffled(x, generator.permutation(len(x)))
    return list(zip(inputs, stored, strict=True))


def shifted_too_far(tokens, logits):
    """Each token beside the logits that predicted it."""
    return tokens[:, 1:], logits[:, 1:]


def nothing_but_the_top(logits, count):
    """Logits made of `count` stored numbers for each example."""
    kth = np.sort(logits, axis=1)[:, -count, None]
    return np.where(logits >= kth, logits, -1e30).astype("float32")
