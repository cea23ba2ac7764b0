import time

from absl import logging as absl_logging

from linearized.experiments import step_progress


def test_off_a_terminal_it_logs_how_far_and_how_long(monkeypatch):
    lines = []
    monkeypatch.setattr(absl_logging, "info", lambda text, *values: lines.append(text % values))
    monkeypatch.setattr(step_progress, "LOG_EVERY", 0.05)
    with step_progress.progress_line("RF by cg", 10_000) as report:
        for done in range(41, 61):  # a resumed run
            time.sleep(0.01)
            report(done, "residual 1e-2")
    assert 2 <= len(lines) <= 10
    assert lines[0].startswith("RF by cg: 4")
    seconds_left = float(lines[-1].split("at most ")[-1].split()[0])
    assert 90 < seconds_left < 2000  # 9,940 steps of a hundredth of a second, or more on a busy machine


def test_on_a_terminal_nothing_is_left_behind(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with step_progress.progress_line("RF by cg", 3) as report:
        report(1, "residual 1e-2")
        report(3, "residual 1e-4")
    shown = capsys.readouterr().err
    assert "RF by cg" in shown
    assert shown.rstrip("\n").endswith("\x1b[2K")  # the line is wiped
