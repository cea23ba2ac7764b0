"""Which commands are run; and how far and how they ended, in words."""

import io
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from linearized.base.errors import UserError
from linearized.cli.launch import command as main
from linearized.launch.commands import CommandResult
from linearized.launch.launchers.slurm import lifetime_words, limit_seconds
from linearized.launch.plan import parse_lines, plan
from linearized.launch.sweep_progress import Report, line
from linearized.launch.table import print_table, shared_words
from linearized.launch.task import ProcessOutcome, log_name, log_path
from linearized.storage import results

WORDS = st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=8), min_size=1, max_size=4)


@given(st.lists(WORDS, max_size=5))
def test_lines_come_back_as_the_words_they_were_made_of(commands):
    lines = [text for words in commands for text in ("", "# a comment", shlex.join(words))]
    assert parse_lines(lines, "file") == [tuple(words) for words in commands]


def test_a_command_is_taken_as_it_is_and_only_once(tmp_path):
    assert plan(("a", "--b=c d"), expand=False, source=None) == [("a", "--b=c d")]
    file = tmp_path / "todo"
    file.write_text("a 1\nb 2 # second\n\na 1\n")
    assert plan((), expand=False, source=str(file)) == [("a", "1"), ("b", "2")]


def test_expand_asks_the_command(tmp_path, monkeypatch):
    script = tmp_path / "shards.py"
    script.write_text(
        "import sys\nif '--list' in sys.argv:\n    [print(f'python x.py --shard={i}') for i in range(3)]\n"
    )
    assert plan(("python", str(script)), expand=True, source=None) == [
        ("python", "x.py", f"--shard={i}") for i in range(3)
    ]


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"echo 1\necho 2\n")))
    assert plan((), expand=False, source="-") == [("echo", "1"), ("echo", "2")]


@pytest.mark.parametrize(
    "words, expand, source, said",
    [
        ((), False, None, "neither"),
        (("a",), False, "file", "both"),
        ((), True, "file", "do not go with"),
        ((), False, "/no/such/file", "/no/such/file does not exist. Give a file of commands"),
        (("false",), True, None, "false --list ended with code 1"),
        (("no-such-command",), True, None, "Cannot run no-such-command"),
    ],
)
def test_bad_sources(words, expand, source, said):
    with pytest.raises(UserError, match=said):
        plan(words, expand, source)


def test_bad_quotes_name_the_line():
    with pytest.raises(UserError, match="todo, line 2: No closing quotation"):
        parse_lines(["a", "b 'c"], "todo")


def test_nothing_to_do_and_bad_flags(capsys):
    assert main(["--expand", "--", "true"]) == 0
    assert "nothing is left" in capsys.readouterr().out
    assert main(["--launcher=slrm", "--", "true"]) == 2
    assert "Did you mean slurm" in capsys.readouterr().err


def test_logs_lie_beside_what_a_command_makes_else_in_the_storage(tmp_path, monkeypatch):
    shard = ("python", "-m", "kernel_gen", f"--folder={tmp_path / 'gram'}", "--shard=3")
    assert log_path(shard) == tmp_path / "gram" / "logs" / log_name(shard)
    assert log_path(shard, tmp_path / "here").parent == tmp_path / "here"
    monkeypatch.delenv("LINEARIZED_STORAGE", raising=False)
    assert log_path(("true",)).parent == Path("storage/logs").resolve()
    monkeypatch.setenv("LINEARIZED_STORAGE", str(tmp_path / "elsewhere"))
    assert log_path(("true",)).parent == tmp_path / "elsewhere" / "logs"


def test_log_names_show_the_end_and_differ():
    names = {log_name(("python", "-m", "x" * 200, f"--shard={i}")) for i in range(20)}
    assert len(names) == 20 and all(len(name) < 80 and "--shard=" in name for name in names)
    assert log_name(("a b",)) != log_name(("a", "b"))
    assert "/" not in log_name(("/a/b/", "c/"))


def test_progress_line():
    assert "left" not in line(Report(done=0, failed=0, running=0, workers=0), 10, 5.0)
    assert "waiting for workers" in line(Report(done=0, failed=0, running=0, workers=0), 10, 5.0)
    text = line(Report(done=3, failed=1, running=2, workers=2), 10, 40.0)
    assert text == "3 of 10 done, 2 running on 2 workers, 1 failed, 0:00:40, 0:01:00 left"


def test_table_shows_failures_of_many():
    codes = {7: 1, 8: None, 9: 137}
    results = [CommandResult((f"c{i}",), ProcessOutcome(codes.get(i, 0), 2.0, ""), 1, f"log{i}") for i in range(150)]
    out = io.StringIO()
    print_table(results, 3661.0, Console(file=out, width=120))
    text = out.getvalue()
    assert all(
        word in text for word in ("c7", "code 1", "c8", "worker died", "c9", "SIGKILL", "147 of 150 done in 1:01:01")
    )
    assert "c10" not in text and "log8" in text and "succeeded are not listed" in text


def test_rows_show_what_differs_and_the_metrics_of_results(tmp_path):
    def saved(name, accuracy):
        record = {
            "title": "", "settings": {}, "model": {}, "seconds": 0.1,
            "data": {"name": "X", "fingerprint": "", "dim": 1, "n_train": 1},
            "solver": {"name": "cg", "step": "", "history": ""}, "chosen": {"position": 1, "index": 1, "by": "test"},
            "ridges": [{"index": i, "ridge": 1.0, "converged": True, "diverged": False, "iterations": 1,
                        "test_loss": 0.25, "test_accuracy": value} for i, value in enumerate((0.1, accuracy))],
        }  # fmt: skip
        results.save(tmp_path / name, record, {})
        return str(tmp_path / name)

    written = [(saved("a", 0.9),), (saved("b", 0.8), saved("c", 0.75)), (str(tmp_path / "none"),), ()]
    commands = [("python", "train.py", "--dataset=NFMNIST", "--num_train=2000", f"--model=RF{i}") for i in range(4)]
    ended = [
        CommandResult(argv, ProcessOutcome(i // 3, 2.0, "", found), 1, f"logs/{i}.log")
        for i, (argv, found) in enumerate(zip(commands, written, strict=True))
    ]
    out = io.StringIO()
    print_table(ended, 5.0, Console(file=out, width=80, force_terminal=True, color_system=None))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "python train.py --dataset=NFMNIST --num_train=2000"
    rows = [line for line in lines if "model=RF" in line and "│" in line]
    assert [row.strip("│").split("│")[2].strip() for row in rows] == ["0.9000", "0.7500..0.8000", "", ""]
    assert "0.2500" in rows[0] and "code 1" in rows[3] and "tries" not in out.getvalue()
    assert lines[-3:-1] == ["logs of failed commands in logs:", "  3.log"]
    assert lines[-1] == "3 of 4 done in 0:00:05, 2.0 s each"


@pytest.mark.parametrize(
    "commands, shared, names",
    [
        (["a --x=1 c", "a --x=2 c"], ["a", "c"], ["x=1", "x=2"]),
        (["a --x=1"], [], ["a --x=1"]),
        (["a b", "a"], [], ["a b", "a"]),
        (["a b b", "b a"], [], ["a b b", "b a"]),
        (["a", "b"], [], ["a", "b"]),
        ([], [], []),
    ],
)
def test_shared_words(commands, shared, names):
    assert shared_words([tuple(command.split()) for command in commands]) == (shared, names)


def test_time_limits():
    assert limit_seconds("1-02:03:04") == 93784
    assert limit_seconds("00:05:00") == 300
    for time, said in (("90", "HH:MM:SS"), ("4 hours", "HH:MM:SS"), ("00:04:59", "at least 5 minutes")):
        with pytest.raises(UserError, match=said):
            limit_seconds(time)


@pytest.mark.parametrize("time", ["00:05:00", "00:20:00", "04:00:00", "2-00:00:00"])
def test_workers_end_before_their_jobs(time):
    _, lifetime, _, stagger = lifetime_words(time)
    latest = int(lifetime[:-1]) + int(stagger[:-1])
    assert int(lifetime[:-1]) - int(stagger[:-1]) > 0 and latest <= limit_seconds(time) - 60


@pytest.mark.parametrize(
    "flags, reader",
    [
        (["--launcher=plain", "--dashboard=0"], "local, slurm"),
        (["--gres=gpu:1"], "slurm"),
        (["--scheduler=tcp://127.0.0.1:1"], "address"),
        (["--launcher=slurm", "--gpus=0"], "local, plain"),
    ],
)
def test_a_flag_that_the_launcher_does_not_read_is_refused(flags, reader, capsys):
    assert main([*flags, "--", "true"]) == 2
    assert f"is read by --launcher={reader}." in capsys.readouterr().err
