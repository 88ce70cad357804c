"""The run of one group of students: pieces of updates, checks between them, evaluations."""

from dataclasses import dataclass

import numpy as np

from distill_lib.training.batches import Data, batch_rows
from distill_lib.training.optimizers import Recipe
from distill_lib.training.row_checks import not_finite_in
from distill_lib.training.stopping import Progress

STEPS_PER_CALL = 50  # updates in one call into TensorFlow; Ctrl-C acts between calls


@dataclass
class Run:
    """What holds for all students of one :func:`~distill_lib.training.train_many`."""

    data: Data
    loss: callable
    recipe: Recipe
    builds: list
    seeds: list
    subsets: list
    steps: int
    batch_size: int
    knobs: dict
    validation: Data | None
    validation_loss: callable
    evaluate_every: int
    patience: int | None

    def train(self, program, starts, numbers, bar):
        """Train the students of these numbers; return their weights and their curves."""
        program.load(starts, numbers)
        progress = Progress(len(numbers), self.patience)
        rows = [self._rows(number) for number in numbers]
        begin = 0
        for end in filter(self._is_end, range(1, self.steps + 1)):
            progress.losses.append(program.train([own[begin:end] for own in rows]))
            self._check_losses(progress, numbers, begin)
            bar.add(end - begin)
            begin = end
            if self._is_evaluated(end):
                progress.evaluate(end, program.validate(), program.values())
            if not progress.active.any():
                bar.add(self.steps - end)
                break
        program.optimizer.finalize_variable_values(program.weights)  # averages, if it has them
        weights = program.values() if progress.weights is None else progress.weights
        self._check_weights(weights, numbers)
        return weights, progress.curves()

    def _rows(self, number):
        """Return the rows of each batch of one student."""
        subset = self.subsets[number]
        order = batch_rows(len(subset), self.seeds[number], self.steps, self.batch_size)
        return subset[order].astype("int32")

    def _is_end(self, step):
        """Return whether a piece of updates ends after this one."""
        return step % STEPS_PER_CALL == 0 or step == self.steps or self._is_evaluated(step)

    def _is_evaluated(self, step):
        is_due = step % self.evaluate_every == 0 or step == self.steps
        return self.validation is not None and is_due

    def _check_losses(self, progress, numbers, begin):
        """Refuse a loss that is not finite; name step and seed and, where it is one, signal."""
        wrong = ~np.isfinite(progress.losses[-1]) & progress.active
        if not wrong.any():
            return
        step, k = np.argwhere(wrong)[0]
        number, value = numbers[k], progress.losses[-1][step, k]
        rows = self._rows(number)[begin + step]
        rule = f"loss must stay finite, got {value} at step {begin + step}"
        cause = not_finite_in(self.data, number, rows) or "try a smaller learning_rate"
        raise ValueError(f"{rule} of the student of seed {self.seeds[number]}: {cause}")

    def _check_weights(self, weights, numbers):
        for k, number in enumerate(numbers):
            if not all(np.isfinite(values[k]).all() for values in weights):
                rule = f"weights must stay finite, got nan or inf by step {self.steps}"
                seed = f"of the student of seed {self.seeds[number]}"
                raise ValueError(f"{rule} {seed}: try a smaller learning_rate")
