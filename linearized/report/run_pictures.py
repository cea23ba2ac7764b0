"""Draw the pictures in a run's folder: losses and accuracies at its ridges, and the solver's history.

Example: python -m linearized.report.run_pictures --directory=storage/nn/test/DIGITS_RF_N4096_noise0_01234567
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linearized.report.ridge_plots import ridge_curves, training_curves
from linearized.report.style import save_figure
from linearized.settings.command import run_command
from linearized.settings.config import Settings, setting
from linearized.storage.results import load, load_arrays


def draw_run(folder: Path, record: Mapping[str, Any], *, again: bool, solver: str) -> None:
    """Draw `curves.png`, `tangents.png`, `features.png` and the solver's picture in a run's folder if they are missing.

    `tangents.png` is drawn for runs with `--tangent_at`, `features.png` for feature machines. The solver's picture is
    left out for runs without a history, such as a direct solution.

    Args:
        folder: Folder of the run.
        record: Content of the run's `result.json`, see `linearized.storage.results.load`.
        again: Whether to draw existing pictures again.
        solver: File name of the solver's picture.
    """
    if again or not (folder / "curves.png").is_file():
        save_figure(ridge_curves(record), folder / "curves.png")
    if record.get("tangents", {}).get("epochs") and (again or not (folder / "tangents.png").is_file()):
        from linearized.report.tangent_plots import lazy_to_rich  # imports pandas, which takes as long as the drawing

        save_figure(lazy_to_rich(record), folder / "tangents.png")
    if "feature_machine" in record and (again or not (folder / "features.png").is_file()):
        from linearized.report.feature_machine_plots import feature_machine

        arrays = load_arrays(folder, "feature_machine")
        picture = feature_machine(
            record, arrays["feature_machine/metric"], network=arrays.get("feature_machine/network")
        )
        save_figure(picture, folder / "features.png")
    if again or not (folder / solver).is_file():
        arrays = load_arrays(folder, "history")
        if any(len(history) for history in arrays.values()):
            save_figure(training_curves(record, arrays), folder / solver)


@dataclasses.dataclass(frozen=True)
class PictureSettings(Settings):
    """Settings of `python -m linearized.report.run_pictures`."""

    directory: str = setting("", "folder of a finished run, with its result.json")


def main(config: PictureSettings) -> None:
    """Draw the missing pictures in a run's folder."""
    folder = Path(config.directory)
    draw_run(folder, load(folder), again=False, solver="training.png")


if __name__ == "__main__":
    sys.exit(run_command(PictureSettings, __doc__, main))
