"""Kernel ridge regression with any kernel, for a whole grid of ridges, at one noise level or several.

    linearized krr                                                       NTK on the built-in digits
    linearized krr --kernel=NTK --num_layers=1 --dataset=FMNIST --num_train=5000 --noise_ind=3
    linearized krr --kernel=RF --dataset=NFMNIST --num_train=5000 --noise_ind=0,6,12
    linearized krr --kernel=RFM --base=laplace --iterations=8            a kernel that learns features
    linearized krr --gram=storage/cntk/FOLDER --dataset=PATCHES          uses existing shards

A missing Gram matrix is computed by `python -m kernel_gen`. Results are written to rkhs_dir of directories.txt:
result.json, arrays.h5, curves.png. Repeating a stopped command continues its run; repeating a finished one shows the
result.
"""

import sys
from collections.abc import Sequence

from linearized.experiments.fit_results import Result
from linearized.experiments.krr import run_levels
from linearized.experiments.krr_settings import KernelFitSettings
from linearized.settings.command import run_command


def main(config: KernelFitSettings) -> None:
    """Fit a kernel at every noise level; print a table of ridges and draw curves for each level.

    Several noise levels also get a table with one row per level. Results that exist already are shown, not repeated.
    """
    from linearized.base.terminal import say_written
    from linearized.experiments.iteration_table import print_iterations
    from linearized.experiments.table import print_levels, print_table

    finished = []
    for result in run_levels(config):
        print_table(result.record)
        if "feature_machine" in result.record:
            print_iterations(result.record)
        _draw(result)
        say_written(result.folder)
        finished.append(result.record)
    if len(finished) > 1:
        print_levels(finished)


def _draw(result: Result) -> None:
    from linearized.report.run_pictures import draw_run  # takes longer to import than the other modules together

    draw_run(result.folder, result.record, again=result.fresh, solver="solver.png")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(KernelFitSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
