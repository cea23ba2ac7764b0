"""Rows of the table of figures: benchmarks tell theirs by `record`, and table.py collects them.

A script runs as before on its own. Under table.py the environment variable BENCHMARK_ROWS names a file, to which each
row is appended as a line of JSON.
"""

import json
import os
import sys
from pathlib import Path

FILE = "BENCHMARK_ROWS"  # environment variable with the file of rows
TIMES, RATES = ("s", "ms"), ("GFLOP/s", "GB/s", "rows/s")


def record(work: str, ours: float, rival: str, theirs: float, unit: str = "s", error: float | None = None) -> None:
    """Append a row to the table, if a table is being made.

    Args:
        work: What is computed, with its sizes.
        ours: Our time or rate.
        rival: Name of the best rival in the same run.
        theirs: Its time or rate.
        unit: One of `TIMES`, where less is better, or of `RATES`, where more is.
        error: Largest relative error of our answer; None where there is no answer to compare.

    Raises:
        ValueError: If the unit is neither a time nor a rate.
    """
    if unit not in TIMES + RATES:
        raise ValueError(f"A unit is one of {', '.join(TIMES + RATES)}. Received: {unit}.")
    if not os.environ.get(FILE):
        return
    row = {"script": Path(sys.argv[0]).name, "work": work, "ours": float(ours), "rival": rival,
           "theirs": float(theirs), "unit": unit, "error": error and float(error)}  # fmt: skip
    with Path(os.environ[FILE]).open("a") as file:
        file.write(json.dumps(row) + "\n")


def times_faster(row: dict) -> float:
    """Return how many times ours is faster than the rival in a row."""
    ratio = row["ours"] / row["theirs"]
    return ratio if row["unit"] in RATES else 1 / ratio
