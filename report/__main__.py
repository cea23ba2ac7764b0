"""Draws the metric of each run's chosen ridge against the noise level, from all results of models and kernels.

Example: python -m report --directory=storage/nn --metric=test_accuracy --out=noise.png
"""

import dataclasses
import sys
from pathlib import Path

from absl import logging

from data.command import run_command
from data.config import Settings, setting
from data.directories import directory
from data.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Settings of `python -m report`."""

    directory: str = setting("", "folder with results, searched through; empty: nn_dir and rkhs_dir")
    metric: str = setting("test_accuracy", "a column of the table of results, such as test_accuracy or test_loss")
    out: str = setting("noise.png", "the picture to write: .png, .pdf or .svg")


def main(config: Config) -> None:
    """Reads the results, draws, writes."""
    import pandas as pd

    from data.results import collect
    from report import plots

    folders = [Path(config.directory)] if config.directory else [directory("nn_dir"), directory("rkhs_dir")]
    tables = [table for table in map(collect, folders) if not table.empty]
    if not tables:
        raise UserError(
            f"{' and '.join(map(str, folders))} hold no finished run. Make one with: python train.py --model=RF"
        )
    table = pd.concat(tables, ignore_index=True)
    if config.metric not in table or not table[config.metric].notna().any():
        raise UserError(f"The results have no {config.metric}. Columns: {', '.join(map(str, table.columns))}.")
    if Path(config.out).suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--out must end in .png, .pdf or .svg. Received: {config.out!r}.")
    path = plots.save_figure(plots.noise_curves(table.dropna(subset=[config.metric]), metric=config.metric), config.out)
    logging.info("%d runs drawn in %s", len(table), path)


if __name__ == "__main__":
    sys.exit(run_command(Config, __doc__, main))
