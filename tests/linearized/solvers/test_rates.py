"""The measured speed of the machine: positive, measured once, and again for another machine or a damaged file."""

import time

import numpy as np
import pytest

from linearized.base.blocks import at_most
from linearized.base.errors import UserError
from linearized.base.seals import write_json
from linearized.solvers import rates
from linearized.solvers.rates import FILE, Rates, identity, machine_rates, measured_rates

FAKE = Rates(*np.linspace(1e-11, 8e-11, 10).tolist())


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A cache of the test's own; gives the list of measurements that were made."""
    made = []
    monkeypatch.setenv("LINEARIZED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(rates, "measured_rates", lambda: made.append(1) or FAKE)
    return made


def test_rates_are_of_products_that_take_time():
    found = measured_rates()
    assert all(np.isfinite(found)) and all(rate >= 0 for rate in found)
    assert min(found.single, found.double, found.square, found.factor) > 0
    assert found.read + 4 * found.column > found.single  # two narrow products of a number take more than one of many
    assert found.step + found.turned > 0
    assert found.reduced + rates.SIDE * found.reduction > 0


def test_waiting_for_the_processor_is_not_measured():
    random = np.random.default_rng(0)
    asleep = rates._fastest(lambda: time.sleep(0.05))
    assert asleep < 0.02 < 0.05
    assert rates._fastest(lambda: random.standard_normal(10**5)) > 0


def test_rates_are_measured_once(measured, tmp_path):
    assert machine_rates() == machine_rates() == FAKE
    assert len(measured) == 1
    assert (tmp_path / "cache" / FILE).stat().st_size < 4096


@pytest.mark.parametrize("change", ["processor", "threads", "bits", "text", "empty", "missing rate", "no number"])
def test_rates_of_another_machine_or_a_damaged_file_are_measured_again(measured, tmp_path, monkeypatch, change):
    machine_rates()
    file = tmp_path / "cache" / FILE
    content = file.read_bytes()
    if change == "processor":
        monkeypatch.setattr(rates, "processor", lambda: "another")
    elif change == "threads":
        monkeypatch.setattr(rates, "cores", lambda: 999)
    elif change == "missing rate":
        write_json(file, {"machine": identity(), "rates": {"single": 1e-11}})
    elif change == "no number":
        write_json(file, {"machine": identity(), "rates": {**FAKE._asdict(), "read": "fast"}})
    else:
        file.write_bytes({"bits": content.replace(b"e-11", b"e-12", 1), "text": b"fast", "empty": b""}[change])
    assert machine_rates() == FAKE and len(measured) == 2
    assert machine_rates() == FAKE and len(measured) == 2  # and stored


def test_a_limit_of_cores_is_another_machine():
    before = identity()
    with at_most(1):
        assert identity()["cores"] == 1 and all(library.endswith(" 1") for library in identity()["blas"])
    assert identity() == before


def test_a_folder_that_cannot_be_written_only_costs_the_measurement(measured, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LINEARIZED_CACHE", str(tmp_path / "file" / "below"))
    assert machine_rates() == FAKE == machine_rates() and len(measured) == 2


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    from linearized.base.directories import cache

    monkeypatch.setenv("LINEARIZED_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache() == tmp_path / "own"
    monkeypatch.delenv("LINEARIZED_CACHE")
    assert cache() == tmp_path / "xdg" / "linearized"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache() == tmp_path / ".cache" / "linearized"
    monkeypatch.setenv("LINEARIZED_CACHE", "~nosuchuser/cache")
    with pytest.raises(UserError, match="LINEARIZED_CACHE"):
        cache()
