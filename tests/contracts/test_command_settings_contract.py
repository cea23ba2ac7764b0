"""Commands whose settings name no run read each of their settings; what single launchers read, the others refuse.

Launchers start real workers, so that what they read is found in the text of their modules.
"""

import inspect
import re
import sys

import pytest

from kernel_gen.status import StatusSettings
from linearized.base.errors import UserError
from linearized.cli.data import ShowDataSettings
from linearized.cli.launch import launch
from linearized.cli.report import ReportSettings
from linearized.launch import LAUNCHERS, launchers, session
from linearized.launch.launch_settings import LaunchSettings, WhereSettings
from linearized.launch.launchers import devices
from linearized.report.reproduce import ReproduceSettings
from linearized.settings.config import parse

OF_LAUNCHERS = {name for entry in LAUNCHERS for name in LAUNCHERS.load(entry).READS}


def named(*sources):
    """The settings that the text of modules or functions reads."""
    return set(re.findall(r"\b(?:settings|config|self)\.(\w+)", "".join(map(inspect.getsource, sources))))


@pytest.mark.parametrize("cls", [ShowDataSettings, ReportSettings, ReproduceSettings, StatusSettings])
def test_the_module_of_a_command_reads_its_own_settings(cls):
    assert set(cls.own()) <= named(sys.modules[cls.__module__])


def test_launch_reads_its_own_settings_and_its_session_those_of_all_launchers():
    assert set(LaunchSettings.own()) <= named(launch)
    read = named(session, launchers).union(*(named(LAUNCHERS.load(name)) for name in LAUNCHERS))
    assert set(WhereSettings.own()) - OF_LAUNCHERS <= read


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_reads_what_it_declares(name):
    module = LAUNCHERS.load(name)
    text = inspect.getsource(module)
    called = [devices] * ("devices_of" in text) + [LAUNCHERS.load("plain")] * ("plain.client" in text)
    assert named(module, *called) & OF_LAUNCHERS == set(module.READS)


@pytest.mark.parametrize("words", [
    ["--launcher=address", "--scheduler=tcp://127.0.0.1:1", "--workers=3"], ["--gpus=0,1", "--workers=3"],
    ["--launcher=plain", "--gpus=0", "--workers=2"], ["--launcher=plain", "--dashboard=1"],
    ["--launcher=slurm", "--gpus=0"], ["--time=01:00:00"],
])  # fmt: skip
@pytest.mark.parametrize("cls", [LaunchSettings, ReproduceSettings])
def test_what_a_launcher_does_not_read_is_refused(cls, words):
    name = words[-1].partition("=")[0]
    with pytest.raises(UserError, match=f"{name} is read "):
        parse(cls, words)
