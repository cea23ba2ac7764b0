"""What the status tells of a folder in every state, and what --verify finds."""

import dataclasses

import numpy as np
import pytest

from kernel_gen import embed, status
from kernel_gen.features.network import Features
from kernel_gen.jobs import feature_job, shard_states, verification
from kernel_gen.jobs.gram_job import GramJobSettings as Config
from kernel_gen.jobs.job import open_job
from kernel_gen.jobs.partial import PartialShard
from kernel_gen.jobs.runner import run
from linearized.base.errors import UserError
from linearized.settings.command import run_command
from linearized.storage.files import held
from linearized.storage.manifest import load_manifest
from linearized.storage.shards import write_shard

SMALL = {"kernel": "POLYNOMIAL", "num_train": 90, "num_test": 20, "num_shards": 4}
FLAGS = [f"--{name}={value}" for name, value in SMALL.items()]


@pytest.fixture
def config(directories):
    """A finished matrix's settings."""
    config = Config(**SMALL)
    run(config)
    return config


def words(config):
    return [state.word for state in shard_states.states(config.path(), load_manifest(config.path()))]


def test_nothing_made_yet_is_told_with_the_command(directories, capsys):
    assert run_command(status.StatusSettings, "", status.main, FLAGS) == 2
    error = capsys.readouterr().err
    assert "python -m kernel_gen --kernel=POLYNOMIAL" in error and "--num_train=90" in error


def test_a_finished_matrix(config, capsys):
    assert run_command(status.StatusSettings, "", status.main, FLAGS) == 0
    text = capsys.readouterr().out
    assert "4 shards: 4 finished" in text and "pairs/s" in text and "make what" not in text
    assert run_command(status.StatusSettings, "", status.main, [f"--folder={config.path()}"]) == 0
    assert capsys.readouterr().out == text


def test_each_state_has_its_word(config):
    folder, job = config.path(), open_job(config)
    paths = [job.path(shard) for shard in range(4)]
    paths[0].unlink()
    content = bytearray(paths[1].read_bytes())
    content[-8] ^= 16
    paths[1].write_bytes(content)
    other = dataclasses.replace(job.manifest, fingerprint="0123456789abcdef")
    write_shard(folder, other, 2, lambda band: np.zeros(other.shape(band)))
    assert words(config) == ["missing", "damaged", "foreign", "finished"]
    text = shard_states.report(folder)
    assert "1 damaged, 1 finished, 1 foreign, 1 missing" in text
    assert "shard 2: foreign, its fingerprint is 0123456789abcdef" in text
    assert f"compute the unfinished shards with: {job.manifest.command}" in text
    with PartialShard(paths[0], job.manifest, 0, job.tiles(0)) as partial:
        tile = partial.todo[0]
        partial.write(tile, job.work.task(job.manifest, tile)())
        share = f"{1 / len(partial.todo):.0%} of its tiles"
    assert words(config)[0] == "begun" and share in shard_states.report(folder)
    with held(job.lock(0)):
        assert words(config)[0] == "at work"
    assert words(config)[0] == "begun"
    run(config)
    assert words(config) == ["finished"] * 4
    assert "set aside, not used: shard_0001.h5.damaged, shard_0002.h5.foreign" in shard_states.report(folder)


def test_status_changes_nothing(config):
    before = {path: path.stat().st_mtime_ns for path in config.path().iterdir()}
    shard_states.report(config.path())
    verification.verify(config.path())
    assert before == {path: path.stat().st_mtime_ns for path in config.path().iterdir()}


def test_features(directories, monkeypatch, capsys):
    config = feature_job.EmbedSettings(features="RF", embedding_dim=32, num_train=300, num_test=20, num_shards=2)
    flags = ["--features=RF", "--embedding_dim=32", "--num_train=300", "--num_test=20"]
    assert run_command(status.StatusSettings, "", status.main, flags) == 2
    assert "holds no embedding. Make it with: python -m kernel_gen.embed --" in capsys.readouterr().err
    run(config)
    assert run_command(status.StatusSettings, "", status.main, [*flags, "--verify"]) == 0
    text = capsys.readouterr().out
    assert "32 features of RF on DIGITS" in text and "2 shards: 2 finished" in text and "rows/s" in text
    assert "verified: 32 rows of features recomputed" in text
    assert verification.verify(config.path(), count=5) == (10, 0.0)
    whole = Features.__call__
    monkeypatch.setattr(Features, "__call__", lambda self, x: np.float32(1.01) * whole(self, x))
    assert run_command(status.StatusSettings, "", status.main, [f"--folder={config.path()}", "--verify"]) == 2
    assert "Rows of features of" in (said := capsys.readouterr().err) and "differ by 9.9e-03" in said  # 0.01 / 1.01
    (config.path() / "shard_0001.h5").unlink()
    assert "1 finished, 1 missing" in shard_states.report(config.path())


@pytest.mark.parametrize("dtype, worst", [("float32", 1e-5), ("float64", 1e-12)])
def test_verify_finds_rounding_alone(directories, dtype, worst):
    config = Config(**SMALL, dtype=dtype, validation=10.0)
    run(config)
    compared, error = verification.verify(config.path(), count=12)
    assert compared > 2 * 12 * 12 and error < worst


def test_verify_finds_wrong_entries_under_right_checksums(config, monkeypatch, capsys):
    from kernel_gen.kernels.polynomial import PolynomialKernel

    right = PolynomialKernel.block
    for path in config.path().glob("*.h5"):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(PolynomialKernel, "block", lambda *pair, **same: np.float32(1.01) * right(*pair, **same))
        run(config)
    assert words(config) == ["finished"] * 4
    assert run_command(status.StatusSettings, "", status.main, [*FLAGS, "--verify"]) == 2
    assert "differ by 1.0e-02" in capsys.readouterr().err


def test_verify_of_what_is_finished(config):
    job = open_job(config)
    for shard in (0, 2, 3):
        job.path(shard).unlink()
    assert verification.verify(config.path())[1] < 1e-5
    job.path(1).unlink()
    with pytest.raises(UserError, match="nothing to verify"):
        verification.verify(config.path())


def test_verify_refuses_changed_data(config, monkeypatch):
    monkeypatch.setattr("linearized.data.source.RECIPE", 99)
    with pytest.raises(UserError, match="is not what"):
        verification.verify(config.path())


def everything(folder):
    return [path.name for path in folder.rglob("*") if "cache" not in str(path)]


@pytest.mark.parametrize("flags", [["--shard=99"], ["--degree=40", "--offset=1e6"]], ids=["shard", "overflow"])
def test_a_refused_matrix_leaves_nothing(directories, flags, capsys):
    assert run_command(Config, "", lambda config: run(config), [*FLAGS, *flags]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert set(everything(directories)) <= {"data_dir"}


def test_a_refused_shard_of_a_matrix_that_is_there_leaves_it_alone(config):
    before = sorted(everything(config.path()))
    with pytest.raises(UserError, match="out of range"):
        run(dataclasses.replace(config, shard=99))
    assert sorted(everything(config.path())) == before


def test_a_refused_embedding_leaves_nothing(directories, monkeypatch):
    settings = embed.EmbedSettings(features="RF", embedding_dim=16, num_train=30, num_test=10, shard=77)
    with pytest.raises(UserError, match="out of range"):
        run(settings)
    assert set(everything(directories)) <= {"data_dir"}
    whole = Features.__call__
    monkeypatch.setattr(Features, "__call__", lambda self, x: whole(self, x) * np.nan)
    with pytest.raises(UserError, match="features of train row 0 are not finite"):
        run(dataclasses.replace(settings, shard=-1))
    assert set(everything(directories)) <= {"data_dir"}


def test_the_status_removes_what_a_job_left_that_was_killed_at_its_start(directories, capsys):
    folder = Config(**SMALL, degree=7).path()
    (folder / ".writing-dead").mkdir(parents=True)
    (folder / ".writing-dead" / "gram.json").write_bytes(b"{")
    (folder / "gram.lock").write_text("")
    assert status.command([*FLAGS[:-1], "--degree=7"]) == 2
    assert "holds no Gram matrix" in capsys.readouterr().err
    assert not folder.exists()


def test_the_status_removes_what_killed_jobs_left(config):
    folder = config.path()
    (folder / "shard_0001.lock").write_text("")
    (folder / ".writing-dead").mkdir()
    (folder / ".writing-dead" / "shard_0001.h5").write_bytes(b"half")
    (folder / "shard_0002.part").write_bytes(b"begun before it was finished by another command")
    with held(folder / "shard_0003.lock"):
        shard_states.report(folder)
        assert {"shard_0003.lock"} == {path.name for path in folder.iterdir()} - {"gram.json"} - {
            f"shard_{shard:04d}.h5" for shard in range(4)
        }
