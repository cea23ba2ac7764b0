"""Predict the error of kernel ridge regression from the kernel's spectrum, and compare it with measurements.

    linearized theory                                                    NTK on the built-in digits
    linearized theory --kernel=NTK --dataset=FMNIST --pool=6000 --num_test=4000
    linearized theory --kernel=LAPLACE --dataset=NFMNIST --noise_ind=6 --pool=6000 --sizes=250,500,1000,2000
    linearized theory --data=table.csv --draws=0                         predictions alone

The eigenvalues of K/N on a pool of N rows and the target's coefficients predict the test loss at any n and ridge; fits
on random draws of n rows measure it on the pool's other rows and on the test rows. The table also has leave-one-out and
generalised cross-validation, which use the train rows alone; prefer leave-one-out. Predictions beyond n = N/3 are
marked. Results are written to rkhs_dir of directories.txt: theory.json, theory.h5, theory.png; see docs/theory.md.
Repeating the command shows the result, and computes the noise levels that are missing.
"""

import sys
from collections.abc import Sequence

from linearized.experiments.theory import TheorySettings, run_levels
from linearized.settings.command import run_command


def main(config: TheorySettings) -> None:
    """Predict and measure errors at every noise level; draw a picture and print a table for each level.

    Results that exist already are shown, not repeated.
    """
    from linearized.base.terminal import say_written
    from linearized.experiments.theory import load_arrays
    from linearized.experiments.theory_table import print_theory
    from linearized.report.style import save_figure
    from linearized.report.theory_plots import theory_figure

    for result in run_levels(config):
        picture = result.folder / "theory.png"
        if result.fresh or not picture.is_file():
            save_figure(theory_figure(result.record, load_arrays(result.folder)), picture)
        print_theory(result.record)
        say_written(result.folder)


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (None: the command line of this process), and return its exit code."""
    return run_command(TheorySettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
