"""Train one of the models (NN, RF, NT, CNN, ...) on clean or noisy data, for one ridge or a whole grid.

    linearized train                                                    RF on the built-in digits, all ridges
    linearized train --model=RF --dataset=FMNIST --noise_ind=3          needs Fashion-MNIST (linearized data)
    linearized train --model=RF --dataset=NFMNIST --noise_ind=0,6,12    one run for each noise level
    linearized train --model=NN --dataset=FMNIST --reg_index=5 --max_cg_iters=50

Results are written to nn_dir of directories.txt: result.json, arrays.h5, model.keras (not with --no_model),
curves.png. Repeating a stopped command continues its run; repeating a finished one shows the result.
"""

import sys
from collections.abc import Sequence

from linearized.base.errors import UserError
from linearized.experiments.fit_results import Result
from linearized.experiments.train import run_levels
from linearized.experiments.train_settings import TrainSettings
from linearized.settings.command import run_command
from linearized.settings.model_files import LEFT_OUT


def main(config: TrainSettings) -> None:
    """Train a model at every noise level; print a table of ridges and draw curves for each level.

    Results that exist already are shown, not repeated.

    Raises:
        UserError: After the last level, if training diverged at every ridge of a level.
    """
    from linearized.base.terminal import say, say_written
    from linearized.experiments.table import print_table

    diverged = False
    for result in run_levels(config):
        print_table(result.record)
        _draw(result)
        say_written(result.folder)
        if not config.no_model and result.record["settings"].get("no_model"):
            say(LEFT_OUT)
        diverged |= all(entry["diverged"] for entry in result.record["ridges"])
    if diverged:
        raise UserError("Training diverged; the weights before that are kept. Lower --learning_rate and run again.")


def _draw(result: Result) -> None:
    from linearized.report.run_pictures import draw_run  # takes longer to import than the other modules together

    draw_run(result.folder, result.record, again=result.fresh, solver="training.png")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(TrainSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
