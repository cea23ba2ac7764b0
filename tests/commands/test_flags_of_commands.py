"""Every flag of every command: bounds that hold, one meaning where commands share it, one line for what is refused.

`python tests/commands/test_flags_of_commands.py` tries all values on all flags and prints how many ended how.
"""

import collections
import contextlib
import dataclasses
import importlib
import io
import re
import sys
import time
from pathlib import Path

from linearized.settings.command import run_command
from linearized.settings.config import bounds
from linearized.settings.flags import field_type

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "linearized/cli/train.py": "linearized.experiments.train:TrainSettings",
    "linearized/cli/theory.py": "linearized.experiments.theory_settings:TheorySettings",
    "linearized/cli/krr.py": "linearized.experiments.krr:KernelFitSettings",
    "kernel_gen/__main__.py": "kernel_gen.jobs.gram_job:GramJobSettings",
    "kernel_gen/embed.py": "kernel_gen.embed:EmbedSettings",
    "kernel_gen/status.py": "kernel_gen.status:StatusSettings",
    "kernel_gen/import_npy.py": "kernel_gen.import_npy:ImportSettings",
    "linearized/experiments/compare.py": "linearized.experiments.compare:CompareSettings",
    "linearized/experiments/finetune.py": "linearized.experiments.finetune_settings:FinetuneSettings",
    "linearized/cli/launch.py": "linearized.launch.launch_settings:LaunchSettings",
    "linearized/cli/report.py": "linearized.cli.report:ReportSettings",
    "linearized/report/reproduce.py": "linearized.report.reproduce:ReproduceSettings",
    "linearized/report/comparison.py": "linearized.report.comparison:ComparisonSettings",
    "linearized/report/run_pictures.py": "linearized.report.run_pictures:PictureSettings",
    "linearized/cli/data.py": "linearized.cli.data:ShowDataSettings",
}
BAD_NUMBERS = ("1" + "0" * 30, "1e30", "-1", "nan", "inf", "", "0x1", "1" * 5000, "1,2", " 3", "1_000", "None")
BAD_TEXTS = ("", " ", "\n", "a" * 5000, "../../x", "~nosuchuser/x", "/dev/zero", "0:999999999999", "1,,2", "-1", "nan",
             "\udcff", "☃", "x:y=z", "1e308", "(" * 300, "'", "a=0:999999999")  # fmt: skip
REASONS = {  # why a value of `BAD_NUMBERS` is allowed
    ("learning_rate", "1e30"): "a rate that diverges is refused after the first epoch, by the loss",
    ("learning_rate", "1" + "0" * 30): "the same",
    ("job_id", "-1"): "none", ("shard", "-1"): "all shards", ("offset", "-1"): "a polynomial's c has either sign",
    ("kervolution_offset", "-1"): "the same; refused for other models than KERV_CNN",
}  # fmt: skip
DIFFERENT = {  # flags of one name that differ between commands, and why
    "activation": "finetune's SNNKs have the activations that random features exist for",
    "block": "the published draws differ: models draw all weights at once, Gram matrices 50,000 columns at a time",
    "data": "finetune takes folders of images and of GLUE tasks; others any data in the place of --dataset",
    "dataset": "finetune takes a folder by default",
    "depth": "kernels also count the convolutions of networks without pools",
    "directory": "one folder of a comparison, or several of results",
    "exp_name": "the default separates fine-tuning from training",
    "features": "kernel_fit takes the kernel itself by default",
    "kernel": "the kernel of a Gram matrix, or the one that finetune puts in the place of a convolution",
    "law": "the published defaults differ between models and Gram matrices",
    "learning_rate": "finetune has one schedule",
    "max_batch_size": "compare has a budget of its own for networks",
    "max_cg_iters": "compare has a budget of its own for networks",
    "memory": "launch passes a job's memory to Slurm, in Slurm's notation",
    "model": "finetune takes a file",
    "noise_ind": "one matrix, one embedding and one fine-tuned model are of one level; fits take several",
    "num_layers": "a kernel may have no hidden layer",
    "num_test": "a figure has its own number of rows at each scale",
    "num_train": "the rows of theory are a pool; finetune says which rows of a folder of images are first",
    "num_units": "networks have units, and only the kernel RF has a width, 0 if infinite",
    "out": "a file, or a folder of pictures",
    "preprocess": "compare standardises own data that are no images",
    "ridges": "the grids of krr have names",
    "reg_index": "compare takes two ridges of a network's grid",
    "scale": "the size of a published figure, or the scale of a kernel's inputs",
    "schedule": "compare has a budget of its own for networks",
    "seed": "finetune also draws projections and splits folders",
    "seeds": "compare has one run of each model by default, a figure as many as its scale",
    "solver": "solvers of models, and of kernel ridge regression",
    "subset": "theory takes a random pool, because the first rows of a data set may be easier than the others",
    "validation": "finetune has one ridge to score",
    "workers": "launch runs commands on workers, krr blocks of rows, by default in its own process",
}


def settings_class(command):
    module, _, name = COMMANDS[command].partition(":")
    return getattr(importlib.import_module(module), name)


def fields():
    """Every flag of every command, as (command, class, field)."""
    for command in COMMANDS:
        cls = settings_class(command)
        yield from ((command, cls, field) for field in dataclasses.fields(cls))


def tried(cls, words):
    """(exit code, None if the settings are accepted; what stands on stderr; seconds of the processor)."""
    accepted, said, start = [], io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(said):
        code = run_command(cls, "", accepted.append, words)
    return None if accepted else code, said.getvalue(), time.process_time() - start


def cases():
    """(command, class, field, value) of all bad values."""
    for command, cls, field in fields():
        if bounds(field) is not None:
            values = BAD_NUMBERS
        elif field_type(field) is bool:
            values = ("maybe", "", "2", "nan")
        else:
            values = BAD_TEXTS
        yield from ((command, cls, field, value) for value in values)


def counted():
    """Try every case: how many ended how, and what went wrong, a line each."""
    counts, wrong = collections.Counter(), []
    for command, cls, field, value in cases():
        name = f"{command} --{field.name}={value[:40]!r}"
        try:
            code, said, seconds = tried(cls, [f"--{field.name}={value}"])
        except BaseException as error:  # noqa: BLE001 - a traceback is what is looked for
            wrong.append(f"{name}: {type(error).__name__}: {error}")
            counts["traceback"] += 1
            continue
        counts["accepted" if code is None else f"exit {code}"] += 1
        if seconds > 2:
            wrong.append(f"{name}: {seconds:.1f} s")
        number = bounds(field) is not None or field_type(field) is bool
        if number and code is None and (field.name, value) not in REASONS:
            wrong.append(f"{name}: accepted")
        if code is not None and (code != 2 or said.count("\n") > 2 + said.count("\n  ") or len(said) > 4000):
            wrong.append(f"{name}: {code}, {said!r}")
        if code is not None and number and (field.name, value) not in REASONS and f"--{field.name}" not in said:
            wrong.append(f"{name}: another flag is named: {said}")
    return counts, wrong


def test_every_command_is_listed():
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")
             if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks") and ".venv" not in path.parts
             and re.search(r"run_command\(\w+Settings", path.read_text())}  # fmt: skip
    assert found == set(COMMANDS)


def test_bad_values_of_all_flags_end_in_one_line():
    counts, wrong = counted()
    assert wrong == []
    assert counts["traceback"] == 0 and sum(counts.values()) > 500


def test_a_flag_that_commands_share_means_the_same():
    found = collections.defaultdict(dict)
    for command, _, field in fields():
        choices = field.metadata["choices"]
        about = (field_type(field), field.metadata["help"], bounds(field), tuple(choices or ()), field.default)
        found[field.name].setdefault(about, []).append(command)
    differ = {name for name, meanings in found.items() if len(meanings) > 1}
    assert differ == set(DIFFERENT), {name: found[name] for name in differ - set(DIFFERENT)}


def test_every_flag_has_a_line_of_help_that_starts_like_a_definition():
    for command, _, field in fields():
        text = field.metadata["help"]
        assert 3 < len(text) < 250 and not text.endswith("."), (command, field.name, text)


if __name__ == "__main__":
    counts, wrong = counted()
    print("\n".join(wrong))
    print(f"{sum(counts.values())} values: {dict(counts)}")
    sys.exit(bool(wrong))
