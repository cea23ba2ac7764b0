"""Run commands on the workers of a Dask cluster: processes of this machine, Slurm jobs, or any Dask scheduler.

    linearized launch --workers=2 --expand -- python -m kernel_gen --kernel=CNTK --num_shards=250
    linearized launch --launcher=slurm --workers=16 --gres=gpu:1 --time=08:00:00 --expand -- python -m kernel_gen ...
    linearized launch --launcher=address --scheduler=tcp://10.0.0.1:8786 --commands=todo.txt
    linearized launch --gpus=0,1 --commands=- < todo.txt
    linearized launch --grid=noise_ind=0:15 --grid=model=RF,NT,NN -- python train.py --dataset=NFMNIST

The words after -- are one command. With --grid, it is run once for each combination of flags; with --expand, it is
called with --list, and the commands that it prints, one per line, are run. A failed command is tried again and stops no
other. Commands skip finished work, so a rerun continues where this one was stopped. Each command has one log file in
--logs. The exit code is 2 if any command failed.
"""

import sys
from collections.abc import Sequence

from linearized.launch.launch_settings import LaunchSettings
from linearized.launch.plan import plan
from linearized.launch.session import refuse_failures, run_all
from linearized.settings.command import run_command


def launch(settings: LaunchSettings, words: tuple[str, ...] = ()) -> None:
    """Run the commands of a launch on workers, and print a table of their outcomes.

    Args:
        settings: Settings of the launch.
        words: Command line after `--`; may be empty.

    Raises:
        UserError: If any command failed.
    """
    commands = plan(words, settings.expand, settings.commands, settings.grid)
    if not commands:
        print("nothing is left to run.")
        return
    refuse_failures(run_all(settings, commands))


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the launch with these arguments (None: the command line of this process), and return its exit code.

    Words after `--` are the command to run, not flags of the launch.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    words = tuple(arguments[cut + 1 :])
    return run_command(LaunchSettings, __doc__, lambda settings: launch(settings, words), arguments[:cut])


if __name__ == "__main__":
    sys.exit(command())
