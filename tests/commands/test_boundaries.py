"""Whatever Dask, Slurm, a missing extra, a child process or a stream raises ends in one line; strangers are refused."""

import asyncio
import contextlib
import io
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from linearized.base import accelerators, extras
from linearized.base.errors import TryLater, UserError
from linearized.base.extras import checked_address, refuse_unreachable, require
from linearized.cli import report as report
from linearized.cli.launch import command as launch_main
from linearized.cluster import clients
from linearized.cluster.clients import told
from linearized.experiments import krr as kernel_fit
from linearized.kernel_ridge import gram_source as gram_files
from linearized.launch.grid import combinations
from linearized.launch.launch_settings import LaunchSettings
from linearized.launch.launchers import local, slurm
from linearized.launch.plan import plan
from linearized.settings.command import run_command

ROOT = Path(__file__).resolve().parents[2]


def test_an_interface_that_is_not_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert launch_main(["--launcher=slurm", "--interface=nosuch0", "--", "true"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: There is no network interface nosuch0.") and err.count("\n") == 1
    assert all(name in err for name in psutil.net_if_addrs())


def test_whatever_a_library_raises_at_the_start_is_one_line():
    for error in (RuntimeError("Cluster failed"), TypeError("no\nsuch"), OSError(98, "Address already in use")):
        with pytest.raises(UserError, match=r"The workers cannot start: .*\. Take fewer\.") as caught, \
                told("The workers cannot start", "Take fewer."):  # fmt: skip
            raise RuntimeError("Cluster failed to start") from error
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"^ours$"), told("x", "y"):
        raise UserError("ours")


def test_workers_beyond_memory_are_refused():
    with pytest.raises(UserError, match="Lower --workers"), local.client(LaunchSettings(workers=10_000)):
        pass


@pytest.mark.parametrize("name, flags", [
    ("dask", ["--", "true"]), ("cryptography", ["--", "true"]),
    ("dask_jobqueue", ["--launcher=slurm", "--", "true"]),
    ("distributed", ["--launcher=address", "--scheduler=tcp://127.0.0.1:1", "--", "true"]),
])  # fmt: skip
def test_a_missing_extra_is_one_line_that_names_it(monkeypatch, capsys, tmp_path, name, flags):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setitem(sys.modules, name, None)  # as Python treats a module that cannot be imported
    if name == "cryptography":
        monkeypatch.setattr(clients, "configure", lambda *arguments: None)
    assert launch_main([f"--logs={tmp_path}", *flags]) == 2
    err = capsys.readouterr().err
    assert "needs the extra [cluster]" in err and '"linearized[cluster]"' in err and err.count("\n") == 1


@pytest.mark.parametrize("driver, devices, hidden, warned", [
    (True, ["cpu:0"], None, True), (True, ["cpu:0", "gpu:0"], None, False), (True, ["cpu:0"], "-1", False),
    (False, ["cpu:0"], None, False),
])  # fmt: skip
def test_a_gpu_that_the_framework_does_not_see_is_told_with_the_extra(
    tmp_path, monkeypatch, caplog, driver, devices, hidden, warned
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    if driver:
        (tmp_path / "nvidia3").touch()
    monkeypatch.setattr(accelerators, "DEVICES", tmp_path)
    assert accelerators.may_have_accelerator() == driver or sys.platform != "linux"
    extras.warn_of_unused_gpu("tensorflow", devices)
    assert ('pip install "linearized[cuda]"' in caplog.text) == warned
    extras.warn_of_unused_gpu("jax", devices)
    assert ('"jax[cuda12]"' in caplog.text) == warned


def test_a_scheduler_needs_its_extra_and_an_address_that_answers(monkeypatch):
    for address, words in (("foo", "such as tcp"), ("tcp://h:0", "such as tcp"), ("tcp://h:70000", "such as tcp"),
                           ("http://h:1", "such as tcp")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            checked_address(address)
    assert checked_address("tls://[::1]:8786") == "tls://[::1]:8786"
    with pytest.raises(UserError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1: .*refused"):
        refuse_unreachable("tcp://127.0.0.1:1")
    with pytest.raises(UserError, match=r"No Dask scheduler answers at tcp://nosuchhost\.invalid:1"):
        refuse_unreachable("tcp://nosuchhost.invalid:1")
    with pytest.raises(UserError, match="TLS credentials"):
        refuse_unreachable("tls://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed.security", None)
    with pytest.raises(UserError, match=r"extra \[cluster\]"):
        kernel_fit.run(kernel_fit.KernelFitSettings(scheduler="tcp://127.0.0.1:1"))
    with pytest.raises(UserError, match=r"needs the extra \[notebooks\]"):
        require("no_such_module", "notebooks", "This")


async def _identity(address, **how):
    """Ask a scheduler who it is. Not by a `Client`: one that fails may stop its event loop within another's start."""
    from distributed.core import connect

    comm = await connect(address, timeout=5, **how)
    try:
        await comm.write({"op": "identity", "reply": True})
        return await comm.read()
    finally:
        comm.abort()


def test_a_strangers_client_is_refused():
    from distributed.security import Security

    with local.client(LaunchSettings(workers=1, dashboard=0)) as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:") and client.submit(sum, [1, 2]).result() == 3
        own = client.security.get_connection_args("client")
        assert asyncio.run(_identity(address, **own))["type"] == "Scheduler"
        strangers = Security.temporary().get_connection_args("client")
        for other, how in ((address, strangers), (address.replace("tls://", "tcp://"), {})):
            with pytest.raises(OSError):
                asyncio.run(_identity(other, **how))


def test_keys_for_slurm_jobs_are_private_and_do_not_stay(tmp_path):
    (tmp_path / ".tls-left").mkdir()
    with slurm._credentials_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        with slurm._credentials_folder(tmp_path) as other:
            assert folder.is_dir() and other != folder
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content, words", [
    (b"echo \xff\n", "line 1: commands must be UTF-8"), (b"true\necho '\n", "line 2"),
])  # fmt: skip
def test_commands_from_a_stream_that_cannot_be_read_are_one_line(monkeypatch, content, words):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
    with pytest.raises(UserError, match=words):
        plan((), False, "-")


def test_a_listing_that_is_no_text_is_one_line():
    words = (sys.executable, "-c", r"import sys; sys.stdout.buffer.write(b'\xff\n')")
    with pytest.raises(UserError, match="must be UTF-8"):
        plan(words, True, None)


@pytest.mark.parametrize("axes", [["a=0:999999999"], ["a=0:99999999999999999999"], ["a=0:1000", "b=0:1000"]])
def test_grids_beyond_all_bounds_are_refused_before_they_are_made(axes):
    with pytest.raises(UserError, match="at most 100000"):
        combinations(("true",), axes)
    assert len(combinations(("true",), ["a=0:1000", "b=0:100"])) == 100_000


def test_a_childs_error_is_told_once(capsys):
    code = "import sys; print('working', file=sys.stderr); print('error: no such thing', file=sys.stderr); sys.exit({})"
    for number, kind in ((2, UserError), (75, TryLater)):
        with pytest.raises(kind, match="no such thing") as caught:
            gram_files.run_child([sys.executable, "-c", code.format(number)], "it")
        assert caught.value.code == number
        assert capsys.readouterr().err == "working\n"


def reported(*words):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = run_command(report.ReportSettings, "", report.main, words, words="directory")
    return code, said.getvalue()


def test_report_takes_folders_anywhere_and_suggests_the_metric(tmp_path, monkeypatch):
    from linearized.report import page, runs

    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    seen = []
    found = [{"title": "RF"}]
    monkeypatch.setattr(runs, "find", lambda folders: seen.append(folders) or runs.Runs(table, found, {}, []))
    monkeypatch.setattr(page, "write_page", lambda *_, **__: tmp_path / "x.html")
    import pandas as pd

    table = pd.DataFrame({"test_accuracy": [0.5], "test_loss": [1.0]})
    assert reported(str(one), f"--out={tmp_path}/x.html", str(two))[0] == 0
    assert seen == [[one, two]]
    code, said = reported("--metric=accuracy", f"--out={tmp_path}/x.html", str(one))
    assert code == 2 and "Did you mean test_accuracy?" in said
