"""What is true of every setting of every command: something reads it, then it names the run; else it is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from kernel_gen import embed
from kernel_gen.jobs import gram_job as generate
from linearized.base.errors import UserError
from linearized.data import DATASETS
from linearized.data.dataset import Dataset, Split
from linearized.experiments import finetune_settings, train
from linearized.experiments import krr as kernel_fit
from linearized.experiments.compare import CompareSettings
from linearized.models import MODELS, declaration
from linearized.settings.config import bounds, parse
from linearized.settings.embedding_settings import FEATURES, EmbeddedRows
from linearized.settings.flags import field_type
from linearized.settings.gram_settings import KERNELS, KernelSettings
from linearized.settings.reads import ALWAYS, SET, when
from linearized.solvers import SOLVERS

FIXED = [name for name in KERNELS if not hasattr(KERNELS.load(name), "fit_level")]  # kernels that need no labels
COMMANDS = {
    "dataset": (train.TrainSettings, "dataset", list(DATASETS)),
    "train": (train.TrainSettings, "model", list(MODELS)),
    "solver": (train.TrainSettings, "solver", list(SOLVERS)),
    "kernel_fit": (kernel_fit.KernelFitSettings, "kernel", list(KERNELS)),
    "embedded": (kernel_fit.KernelFitSettings, "features", list(FEATURES)),
    "kernel_gen": (generate.GramJobSettings, "kernel", FIXED),
    "embed": (embed.EmbedSettings, "features", list(FEATURES)),
    "finetune": (finetune_settings.FinetuneSettings, "swap", list(finetune_settings.SWAPS)),
}
# What an entry needs to be valid at all, and small where models are built.
NEEDED = {
    **{swap: {"model": "x.keras", "dataset": "DIGITS"} for swap in finetune_settings.SWAPS},
    "CNTK": {"dataset": "PATCHES"}, "STAX": {"architecture": "serial(Dense(1), Elementwise(), Dense(1))"},
    "lanczos": {"model": "RF"}, "cg": {"model": "RF"}, "adam": {"model": "NN"}, "adamw": {"model": "NN"},
    "sgd": {"model": "NN"}, "newton_cg": {"model": "NN", "max_ncg_iters": 5},
}  # fmt: skip
OTHER = {  # a value that differs from the default and is valid, where the next number or choice is not
    "depth": 7, "resnet_depth": 18, "lambda_stages": "CCLL", "lambda_scope": 3, "noise_ind": "1", "reg_index": "1",
    "ridges": "1,2", "architecture": "serial(Dense(1), Elementwise(), Dense(2))", "validation": 0.25, "synth_n": 2**21,
    "weight_std": 1.5, "activation": "erf", "num_units": 8, "exp_name": "other", "num_train": 40, "num_test": 10,
    "lambda_heads": 2, "max_batch_size": 16, "synth_dim": 32, "momentum": "keras",
    "ntk_outputs": "sum", "variables": "kernel", "layer": "hidden",
    "trainable": "classifier", "vocabulary": "vocab.txt", "block": 7, "dense_layers": 4,
    "tangent_at": "0,end", "tangent_rows": "5", "image_shape": "2,2",  # of the 4 columns of the file for --data
    "base": "GAUSSIAN", "rfm_bandwidths": "1,2", "rfm_bases": "MATERN", "patch_cells": 1, "index_target": "1+2",
}  # fmt: skip
# What selects: its values are entries, not settings.
AT_WORK = {
    "model",
    "kernel",
    "features",
    "solver",
    "dataset",
    "swap",
    "data",
}  # what selects: its values are entries, not settings
# Files, addresses, and what is valid with few values of others: tested with the code that reads them.
ELSEWHERE = {"gram", "scheduler", "folder", "published_weights", "list", "ridge_grid", "loss", "target", "drop_columns",
             "image_size", "channels", "skip_bad", "noise", "noise_levels", "init", "linearize",
             "tangent_offset"}  # fmt: skip

OF_LABELS = {"base", "iterations", "rfm_diagonal", "rfm_centred", "rfm_power", "rfm_search", "rfm_bandwidths",
             "rfm_bases", "rfm_sample", "ansatz_model"}  # of kernels that are learned from labels  # fmt: skip
SPELLINGS = {"dense_layers"}  # settings that set another one, which names the run


@pytest.fixture(autouse=True, scope="module")
def files_of_our_own(tmp_path_factory):
    """A file for --data, under which several settings are read, and one for --model, whose rows may be of any shape."""
    folder = tmp_path_factory.mktemp("own")
    np.savez(folder / "table.npz", x=np.random.default_rng(0).normal(size=(60, 4)), y=np.arange(60) % 3)
    OTHER["data"] = str(folder / "table.npz")
    model = keras.Sequential([keras.Input((None,)), keras.layers.Activation("relu")])
    model.save(folder / "model.keras")
    NEEDED["EMPIRICAL"] = {"model": str(folder / "model.keras")}
    OTHER["ansatz_model"] = str(folder / "model.keras")


def other(field):
    """Return a valid value of a field that is not its default."""
    if field.name in OTHER and OTHER[field.name] in (field.metadata["choices"] or (OTHER[field.name],)):
        return OTHER[field.name] if field_type(field) is not int else int(OTHER[field.name])
    if field_type(field) is bool:
        return not field.default
    if field.metadata["choices"]:
        return [name for name in field.metadata["choices"] if name != field.default][-1]
    low, high = bounds(field)
    start = field.default if field.default is not None else low
    return type(start)(start + 1 if start + 1 <= high else (low + high) / 2)


def contexts(cls, flag, entry, name):
    """Yield settings that select an entry and meet one combination of the conditions under which a setting is read."""
    conditions = [cls.__dataclass_fields__[name].metadata["when"]]
    conditions += [
        declared[name] & (when(solver=chosen) if kind == "solver" and flag in ("kernel", "features") else ALWAYS)
        for kind, entries in cls.kinds().items()
        for chosen, declared in entries.items()
        if name in declared and (kind != flag or chosen == entry)
    ]
    base = {flag: entry, **NEEDED.get(entry, {})}
    yield base
    for condition in conditions:
        for needed in condition.alternatives:
            yield {**base, **met(cls, needed)}
            yield from ({**base, **met(cls, (*needed, *more))} for more in conditions[0].alternatives)


def met(cls, needed):
    """Return values that meet one alternative of a condition, and the conditions of the settings that it names."""
    values = {}
    for name, allowed in needed:
        field = cls.__dataclass_fields__[name]
        values |= met(cls, field.metadata["when"].alternatives[0])
        values[name] = other(field) if SET in allowed else allowed[0]
    return values


def settings_under(cls, flag, entry, field):
    """Return settings that select an entry, with another value of a field, under which it is read if that can be."""
    for base in contexts(cls, flag, entry, field.name):
        values = {**base, field.name: other(field)}
        if cls.draft(**values).reads(field.name) and accepted(cls, base):
            return values
    return {flag: entry, **NEEDED.get(entry, {}), field.name: other(field)}


def accepted(cls, values):
    try:
        cls(**values)
    except UserError:
        return False
    return True


CASES = [
    pytest.param(*COMMANDS[command], field, id=f"{command}-{field.name}")
    for command in COMMANDS
    for field in dataclasses.fields(COMMANDS[command][0])
    if field.name not in AT_WORK | ELSEWHERE
    and (command not in ("kernel_gen", "embed") or field.name not in kernel_fit.KernelFitSettings.__dataclass_fields__)
]


@pytest.mark.parametrize("cls, flag, entries, field", CASES)
def test_a_setting_names_the_run_where_it_is_read_and_is_refused_elsewhere(cls, flag, entries, field):
    name = field.name
    for entry in entries:
        values = settings_under(cls, flag, entry, field)
        if cls.draft(**values).reads(name):
            base = {key: value for key, value in values.items() if key != name} | (
                {name: NEEDED[entry][name]} if name in NEEDED.get(entry, {}) else {}
            )
            changed = cls(**values).key() != cls(**base).key()
            assert changed == (field.metadata["identity"] or name in SPELLINGS), (entry, values)
            continue
        with pytest.raises(UserError, match=f"--{name} is read "):
            cls(**values)
        words = [f"--{key}={value}" for key, value in values.items() if key != name]
        if field.default not in (None, ""):
            with pytest.raises(UserError, match=f"--{name} is read "):  # given with its default is given
                parse(cls, [*words, f"--{name}={field.default}"])


@pytest.mark.parametrize("cls, groups", [
    (train.TrainSettings, ("train", "solver")), (kernel_fit.KernelFitSettings, ("kernel_fit", "embedded")),
    (generate.GramJobSettings, ("kernel_gen",)), (embed.EmbedSettings, ("embed",)),
])  # fmt: skip
def test_every_setting_is_read_by_something(cls, groups):
    fields = [field for field in dataclasses.fields(cls) if field.name not in AT_WORK | ELSEWHERE]
    for field in fields:
        used = any(
            cls.draft(**settings_under(cls, COMMANDS[group][1], entry, field)).reads(field.name)
            for group in (*groups, "dataset") for entry in COMMANDS[group][2]
        )  # fmt: skip
        of_matrices = {"num_units", "law", "block", "weight_seed", "architecture", "device", "ntk_outputs",
                       "variables", "layer", "bandwidth", "smoothness", "patch_size", "patch_stride",
                       "patch_cells", "patch_whitening", *OF_LABELS}  # fmt: skip
        of_files = {"variables"}  # of models, by --linearize
        other = {embed.EmbedSettings: of_matrices, train.TrainSettings: of_files,
                 generate.GramJobSettings: OF_LABELS}.get(cls, ())  # fmt: skip
        assert used != (field.name in other), field.name


COMPARED = ("dataset", "train", "solver")  # whose settings `linearized compare` passes on


@pytest.mark.parametrize("command, field", [
    pytest.param(command, field, id=f"{command}-{field.name}")
    for command in COMPARED for field in dataclasses.fields(train.TrainSettings)
    if field.name not in AT_WORK | ELSEWHERE
])  # fmt: skip
def test_a_setting_of_a_comparison_is_that_of_its_models(command, field):
    """It names the comparison where the model reads it and it decides a result, and is refused where none reads it.

    Networks have Adam there by default, so that settings of another solver need its name.
    """
    cls, flag, entries = COMMANDS[command]
    for entry in entries:
        values = {"model": "RF", **settings_under(cls, flag, entry, field)}
        if "tangent_at" in values:
            values["reg_index"] = "0"
        model = values.pop("model")
        for given in (values, {"solver": "sgd", **values}):
            found = compared(model, given)
            trained = {"model": model, **given}
            if not cls.draft(**trained).uses_least_squares():
                trained = {"solver": "adam", "schedule": "cosine", **trained}
            if not cls.draft(**trained).reads(field.name):
                assert f"--{field.name} is read by none of" in found, (entry, given)
                continue
            if isinstance(found, str):  # such as crops of rows that are no images
                assert not accepted(cls, trained), (entry, given, found)
                continue
            needed = {name: value for name, value in NEEDED.get(entry, {}).items() if name == field.name}
            base = compared(model, {name: value for name, value in given.items() if name != field.name} | needed)
            assert found.reads(field.name)
            assert (found.key() != base.key()) == field.metadata["identity"], (entry, given)


def compared(model, values):
    """Settings of a comparison of a model with the linear fit, or the words that refuse them."""
    try:
        return CompareSettings(models=f"{model},linear", **values)
    except UserError as error:
        return str(error)


class Recorder:
    """Settings that note which of them are read."""

    def __init__(self, settings):
        self._settings, self.names = settings, set()

    @property
    def __class__(self):
        """The class of the settings, which the checks of types compare."""
        return type(self._settings)

    def __getattr__(self, name):
        if name in type(self._settings).__dataclass_fields__:
            self.names.add(name)
        return getattr(self._settings, name)


def tiny():
    random = np.random.default_rng(0)
    split = Split(random.standard_normal((6, 36)).astype(np.float32), np.arange(6, dtype=np.int64) % 3)
    return Dataset("TINY", 0, split, None, split, "classes", 3, (6, 6, 1), "SYNTH", "0" * 16)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_reads_what_it_declares_and_nothing_else(name):
    """One network is built of the settings under which most are read; no other setting is touched."""
    cls, declared = train.TrainSettings, set(declaration(name).reads)
    kernel = {"kervolution_kernel": "gaussian"} if "kervolution_kernel" in declared else {}
    deep = {"resnet_depth": 18} if "resnet_depth" in declared else {}
    recorder = Recorder(cls(model=name, num_units=4, **kernel, **deep))
    module = MODELS.load(name)
    module.build(recorder, tiny(), ridge=1e-3)
    if module.DECLARED.linear:
        module.problem(recorder, tiny(), 10**9)
    assert recorder.names - declared <= {"model"}
    assert declared - recorder.names <= {"published_weights", "resnet_width"}  # read by training, and by bottlenecks


@pytest.mark.parametrize("name", FIXED)
def test_a_kernel_reads_what_it_declares_and_nothing_else(name):
    declared, found = set(KernelSettings.kinds()["kernel"][name]), set()
    base = {"kernel": name, **{**NEEDED, "CNTK": {"head": "gap", "depth": 1}, "PATCH": {"patch_size": 2}}.get(name, {})}
    for more in {"RF": ({}, {"num_units": 8}), "EMPIRICAL": ({}, {"kind": "nngp"})}.get(name, ({},)):
        recorder = Recorder(KernelSettings(**base, **more))
        KERNELS.load(name).build(recorder, (4, 4, 1))
        found |= recorder.names
    assert found - {"kernel", "dtype"} == declared - {"dense_layers"}  # which becomes `num_layers`


@pytest.mark.parametrize("name", FEATURES)
def test_features_read_what_they_declare_and_nothing_else(name):
    declared = set(EmbeddedRows.kinds()["features"][name])
    recorder = Recorder(EmbeddedRows(features=name, dataset="PATCHES", embedding_dim=64,
                                     **({"head": "gap", "depth": 1} if name == "CNTK" else {})))  # fmt: skip
    FEATURES.load(name).build(recorder, (4, 4, 1), 16)
    assert recorder.names - {"kernel", "dtype"} == declared - {"dense_layers"}
