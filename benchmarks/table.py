"""Run the benchmarks one after the other and write the table of their figures, benchmarks/README.md.

    python benchmarks/table.py
    python benchmarks/table.py --only=noise_speed.py,cntk_speed.py
    python benchmarks/table.py --list

Every script runs in a process of its own on one core, with one thread. Its rows replace its earlier rows in
benchmarks/figures.json, so that a part of the table can be made anew; the others stay, with the machine that they are
from. A script that fails keeps its earlier rows and ends the command with code 1. Let nothing else run meanwhile: the
table names the load of the machine at the start.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy  # noqa: F401 - loads the BLAS library that `machine` names
import threadpoolctl
from absl import app, flags
from figures import FILE, times_faster

HERE = Path(__file__).parent
FIGURES, TABLE = HERE / "figures.json", HERE / "README.md"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
SCRIPTS = {
    "kernel_ridge_path.py": "--n=10000 --dtype=float32 --rival_ridges=5 "
    "--solvers=potrf,refined,band:1e-3,band,block_lanczos",
    "auto_grid.py": "",
    "ntk_speed.py": "--units=50000",
    "cntk_speed.py": "--rival --images=12 --rival_images=4 --batches=2,4 --repeats=1",
    "empirical_ntk_speed.py": "--rows=64",
    "feature_products.py": "",
    "gram_reading.py": "",
    "noise_speed.py": "",
    "training_speed.py": "--rows=3000",
    "kervolution_speed.py": "--kernels=gaussian,polynomial",
    "own_data_reading.py": "",
}
FLAGS = flags.FLAGS
flags.DEFINE_list("only", [], "scripts to run; empty: all")
flags.DEFINE_bool("list", False, "print the commands and run nothing")


def machine() -> str:
    """Return the processor, the BLAS library with its kernel, and the versions that rates depend on."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    [blas, *_] = [one for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
    return (f"{cpu}, one thread; {blas['internal_api']} {blas['version']} ({blas.get('architecture', '?')}); "
            f"Python {platform.python_version()}")  # fmt: skip


def run(script: str) -> list[dict]:
    """Run a benchmark on one core and return its rows; raises `CalledProcessError` if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        environment = {**os.environ, FILE: str(rows), **dict.fromkeys(THREADS, "1"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        subprocess.run(
            [sys.executable, HERE / script, *SCRIPTS[script].split()], env=environment, cwd=folder, check=True
        )
        return [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []


def rendered(figures: dict[str, dict]) -> str:
    """Return the text of benchmarks/README.md."""
    machines = sorted({one["machine"] for one in figures.values()})
    lines = [
        "# Benchmarks",
        "",
        "The newest figures of the scripts in this folder, each against the best rival that we know.",
        "`benchmarks/table.py` makes this page by running the scripts one after the other, or one of them with",
        "`--only=SCRIPT`. *Faster* is how many times ours is faster than the rival in the same run; *error* is the",
        "largest relative error of our answer, against float64 or against the rival's answer.",
        "",
        *(f"Machine {number}: {one}." for number, one in enumerate(machines, 1)),
        "",
        "| work | ours | best rival | faster | error | script, machine, date, load |",
        "|---|---|---|---|---|---|",
    ]
    for script, one in figures.items():
        where = f"{script}, {machines.index(one['machine']) + 1}, {one['date']}, {one['load']:.1f}"
        for row in one["rows"]:
            error = "" if row["error"] is None else f"{row['error']:.0e}"
            ours, theirs = (f"{_digits(row[whose])} {row['unit']}" for whose in ("ours", "theirs"))
            lines.append(
                f"| {row['work']} | {ours} | {row['rival']} {theirs} | {times_faster(row):.2f} | {error} | {where} |"
            )
    return "\n".join(lines) + "\n"


def _digits(value: float) -> str:
    """Return a number with three digits, or whole from 1,000 on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main(arguments: list[str]) -> None:
    if unknown := {*arguments[1:], *FLAGS.only} - {*SCRIPTS}:
        raise app.UsageError(f"--only takes {', '.join(SCRIPTS)}. Received: {', '.join(sorted(unknown))}.")
    chosen = FLAGS.only or list(SCRIPTS)
    if FLAGS.list:
        print("\n".join(f"python benchmarks/{script} {SCRIPTS[script]}".strip() for script in chosen))
        return
    where = machine()
    figures, failed = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}, []
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    for script in chosen:
        load = os.getloadavg()[0]
        print(f"+ {script} {SCRIPTS[script]} (load {load:.1f})", flush=True)
        try:
            rows = run(script)
        except subprocess.CalledProcessError as error:
            failed.append(f"{script} ended with code {error.returncode}")
            continue
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        figures[script] = {"machine": where, "date": today, "load": load, "rows": rows}
        figures = {name: figures[name] for name in SCRIPTS if name in figures}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        TABLE.write_text(rendered(figures))
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    app.run(main)
