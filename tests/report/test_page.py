"""The page of results: what it says, that it stands alone, and how a real browser shows it."""

import html.parser
import io
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from linearized.base import seals
from linearized.base.errors import UserError
from linearized.cli import report as command
from linearized.report import page_parts
from linearized.report.page import cell, sort_key, write_page
from linearized.report.runs import find
from linearized.storage import results

from .. import warm_commands

ROOT = Path(__file__).resolve().parent.parent.parent
METRICS = ("test_accuracy", "test_loss")


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, ids, and whether every element is closed in its order."""

    EMPTY = ("meta", "link", "input", "path", "use", "rect")

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.stack = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.EMPTY:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def page(shared):
    """The page of the shared runs, which takes seconds to draw."""
    return write_page(find([shared]), shared.with_name("report.html"), folders=[shared], metrics=METRICS)


def test_everything_is_found(saved):
    runs = find([saved, saved / "NN_0"])  # a folder inside another is not read twice
    assert len(runs.table) == len(runs.records) == 9
    assert {Path(path).parent.name for path in runs.unreadable} == {"damaged", "lacking"}
    assert "is damaged" in runs.unreadable[str(saved / "damaged" / "result.json")]
    assert [(run.folder.name, run.files) for run in runs.unfinished] == [("stopped", ["unfinished/state.npz"])]
    assert sorted(runs.records[row]["title"].split(",")[0] for row, _ in runs.missed()) == ["NT", "NTK2"]
    assert not runs.bad_arrays and "arrays" not in runs.table
    assert runs.fingerprints()["runs"].sum() == runs.versions()["runs"].sum() == 9


def test_runs_whose_arrays_are_damaged_or_missing_are_on_the_page_and_in_the_table(saved, tmp_path):
    path = saved / "NN_0" / "arrays.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    (saved / "kernel_1" / "arrays.h5").unlink()
    runs = find([saved])
    reasons = {Path(runs.table["path"][row]).name: reason for row, reason in runs.bad_arrays.items()}
    assert sorted(reasons) == ["NN_0", "kernel_1"]
    assert "arrays.h5 is damaged" in reasons["NN_0"] and "arrays.h5 does not exist" in reasons["kernel_1"]
    assert [Path(path).name for path in runs.table["path"][runs.table["arrays"] != ""]] == ["NN_0", "kernel_1"]
    text = write_page(runs, tmp_path / "page.html", folders=[saved], metrics=METRICS).read_text()
    assert "2 with unreadable arrays" in text and text.count("cannot be read</td>") == 2
    assert "their scores stand" in text and "arrays.h5 is damaged" in text


def test_a_folder_without_results_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="no finished run"):
            find([folder])


def test_only_failures_make_a_page_too(saved, tmp_path):
    for path in saved.iterdir():
        if path.name not in ("damaged", "stopped"):
            shutil.rmtree(path)
    page = write_page(find([saved]), tmp_path / "report.html", folders=[saved], metrics=METRICS)
    assert "No run is finished" in page.read_text()
    assert "1 unreadable, 1 unfinished" in page.read_text()


def test_the_page_stands_alone_and_is_whole(page):
    text = page.read_text(encoding="utf-8")
    reader = Reader(text)
    assert not reader.stack
    assert len(reader.ids) == len(set(reader.ids))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert used
    assert {first or second for first, second in used} <= set(reader.ids)
    assert not {tag for tag, _ in reader.tags} & {"img", "iframe", "object", "base"}
    outside = [value for _, attributes in reader.tags for name, value in attributes.items()
               if name in ("src", "href", "data", "action") and not value.startswith(("#", "data:"))]  # fmt: skip
    assert outside == []
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "SYNTH<&>" not in text  # names of a result are text, never markup
    assert "SYNTH&lt;&amp;&gt;" in text


def test_the_page_gives_the_command_of_each_run(page):
    text = page.read_text(encoding="utf-8")
    assert "<dt>command</dt><dd>python train.py --model=RF --dataset=FMNIST</dd>" in text


def test_the_page_says_what_happened(page):
    text = page.read_text(encoding="utf-8")
    for said in ("validation accuracy", "by test accuracy", "residual, relative", "The loss was no longer finite.",
                 "unfinished/state.npz", "1 of 4 did not converge", "diverged", "0000000000000001", "weight_seed",
                 "tensorflow", "2 unreadable, 1 unfinished"):  # fmt: skip
        assert said in text, said
    drawings = [attributes for tag, attributes in Reader(text).tags if tag == "svg"]
    # two metrics of one data set (the other's run diverged), and of each run a panel a metric and the history
    assert len(drawings) == 2 + 4 * (2 + 1) + 2 * 1 + 2 * (3 + 1) + 1
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)


def test_values_are_shown_short_and_sorted_in_full():
    assert [cell(value) for value in (None, float("nan"), "", True, 3, 2.0, 0.123456, 1.5e-7, "x")] == [
        "–", "–", "–", "yes", "3", "2", "0.1235", "1.50e-07", "x",
    ]  # fmt: skip
    assert [sort_key(value) for value in (None, 0.123456, 1.5e-7, "x")] == ["none", "0.123456", "1.5e-07", "x"]


def test_many_runs_stay_small_and_are_the_same_from_one_process_and_from_two(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(page_parts, "RUNS_A_WORKER", 3)  # two processes, where there are two cores
    for run in range(6):
        make_run(tmp_path / "results" / str(run), "RF", "FMNIST", run % 3, run // 3, ridges=20)
    path = write_page(find([tmp_path]), tmp_path / "report.html", folders=[tmp_path], metrics=METRICS)
    assert path.stat().st_size < 6 * 100_000
    monkeypatch.setattr(page_parts, "MOST_WORKERS", 1)
    alone = write_page(find([tmp_path]), tmp_path / "alone.html", folders=[tmp_path], metrics=METRICS)
    made = re.compile(r"read \d+-\d+-\d+ \d+:\d+ UTC")
    assert made.sub("", alone.read_text()) == made.sub("", path.read_text())


@pytest.mark.parametrize(
    "arguments, name",
    [(["RESULTS", "--out=OUT/page.html"], "page.html"), (["--directory=RESULTS", "--out=OUT/noise.pdf"], "noise.pdf")],
)
def test_command(saved, tmp_path, arguments, name):
    words = [word.replace("RESULTS", str(saved)).replace("OUT", str(tmp_path)) for word in arguments]
    done = warm_commands.run(["-m", "linearized", "report", *words], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name).stat().st_size > 5000


def test_the_page_and_the_command_give_the_command_of_each_run(saved, tmp_path, capsys):
    """Of results of all formats; version 0.1 recorded no command."""
    path = saved / "RF_0_0" / "result.json"
    old = {**json.loads(path.read_text()), "format": 1}
    for name in ("command", "made_by", "digest"):
        del old[name]
    path.write_text(json.dumps(old))  # without a seal, as version 0.1 wrote it
    made_by_format_2 = results.load(saved / "NN_0")
    del made_by_format_2["made_by"]
    seals.write_json(saved / "NN_0" / "result.json", made_by_format_2 | {"format": 2})
    command.main(command.ReportSettings(directory=(str(saved),), out=str(tmp_path / "report.html")))
    printed = capsys.readouterr().out
    assert printed.count("python train.py --model=RF --dataset=FMNIST") == 3
    assert printed.count("not recorded") == 1 and printed.count("python train.py --model=NN") == 2
    text = (tmp_path / "report.html").read_text()
    assert text.count("python train.py --model=RF --dataset=FMNIST") == 3 and "not recorded" in text
    assert "linearized 0.2.0, commit c0ffee-dirty" in text and "hilbert, abacus, 2 cores, 24.0 GiB" in text
    assert "weight_seed 1" in text


@pytest.mark.parametrize("arguments, says", [(["--out=page.doc"], "--out must end in"),
                                             (["--metric=beauty"], "no beauty"),
                                             (["RESULTS", "more"], "more is no folder")])  # fmt: skip
def test_command_refuses(saved, tmp_path, arguments, says):
    words = [word.replace("RESULTS", str(saved)) for word in arguments]
    words += [] if "RESULTS" in arguments else [f"--directory={saved}"]
    done = warm_commands.run(["-m", "linearized", "report", *words], cwd=ROOT)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


# In a browser


@pytest.fixture
def browser(tmp_path):
    """Chromium without a window, with its logs on, and a folder of its own that is thrown away."""
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("no chromium and chromedriver here (apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
                 "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,1600",
                 f"--user-data-dir={tmp_path / 'browser'}"):  # fmt: skip
        options.add_argument(flag)
    options.binary_location = programs[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


def column(browser, name):
    """The cells of a column of the table of runs, from the top."""
    return browser.execute_script(
        "const table = document.querySelector('table.runs');"
        "const place = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === arguments[0]);"
        "return [...table.tBodies[0].rows].map(row => row.cells[place].textContent)", name,
    )  # fmt: skip


def click(browser, name):
    browser.find_element("xpath", f"//table[contains(@class, 'runs')]//th[text()='{name}']").click()


def test_a_browser_shows_the_page(page, browser):
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(run => run.open = true)")
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(svg => {const box = svg.getBoundingClientRect();"
        "const lines = [...svg.querySelectorAll('path')].map(path => path.getBoundingClientRect().width);"
        "return [box.width, box.height, Math.max(...lines)]})"
    )
    assert len(sizes) == 25
    assert np.min(sizes) > 100

    accuracy = [float(cell) for cell in column(browser, "test accuracy") if cell != "–"]
    click(browser, "test accuracy")
    assert [float(cell) for cell in column(browser, "test accuracy")] == sorted(accuracy)
    click(browser, "test accuracy")
    assert [float(cell) for cell in column(browser, "test accuracy")] == sorted(accuracy, reverse=True)
    click(browser, "leave-one-out loss")
    assert column(browser, "leave-one-out loss")[-1] == "–"  # what is not there comes last
    click(browser, "model")
    assert column(browser, "model") == sorted(column(browser, "model"))

    browser.find_element("id", "find").send_keys("rf fmnist")
    assert browser.find_element("id", "found").text == "4 of 9 runs"
    assert len(browser.find_elements("css selector", "details:not([hidden])")) == 4

    picture = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    assert browser.get_log("browser") == []
    asked = re.findall(r'"requestWillBeSent".*?"url":"([^"]+)"', " ".join(
        entry["message"] for entry in browser.get_log("performance")))  # fmt: skip
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("width, scheme", [(390, "light"), (390, "dark"), (1280, "dark")])
def test_a_phone_and_the_dark_show_it_too(page, browser, width, scheme):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})  # fmt: skip
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width  # only tables scroll sideways
    colour = "return getComputedStyle(document.querySelector('{}')).{}.match(/\\d+/g).slice(0, 3).map(Number)"
    ground, text = (np.array(browser.execute_script(colour.format(*of)))
                    for of in (("body", "backgroundColor"), ("figure svg text", "fill")))  # fmt: skip
    assert contrast(ground, text) > 7
    assert (ground.mean() < 128) == (scheme == "dark")


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_stay_inside_the_page_and_a_command_has_a_line_of_its_own(make_run, tmp_path, browser, width):
    path = make_run(tmp_path / "results" / "long", "KERV_CNN_" + "unbroken" * 12, "DATA_" + "unbroken" * 8, ridges=2)
    record = {**json.loads(path.read_text()), "format": 1}
    record["command"] = " ".join(["python", "-m", "linearized", "train", *(f"--flag_{i}=value" for i in range(12))])
    del record["digest"]
    path.write_text(json.dumps(record))
    page = write_page(find([tmp_path]), tmp_path / "page.html", folders=[tmp_path], metrics=METRICS)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})  # fmt: skip
    browser.get(page.as_uri() + "#run-0")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wider = "return [...document.querySelectorAll('summary, .facts li, header, dd')].filter((one) => " \
            "one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"  # fmt: skip
    assert browser.execute_script(wider) == []
    widths = "return ['.wide', 'dl'].map((one) => document.querySelector(one).getBoundingClientRect().width)"
    command, whole = browser.execute_script(widths)
    assert command == pytest.approx(whole, abs=1)


def contrast(first, second):
    """The contrast ratio of two sRGB colours, of the WCAG."""
    shares = np.stack([first, second]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    light, dark = sorted(linear @ [0.2126, 0.7152, 0.0722], reverse=True)[0], min(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


def test_runs_of_one_title_are_told_apart_by_their_seeds_and_captions_name_a_single_level(make_run, tmp_path):
    for seed in (3, 4):
        make_run(tmp_path / "results" / str(seed), "RF", "DIGITS", 2, seed)
    text = write_page(find([tmp_path]), tmp_path / "page.html", folders=[tmp_path], metrics=METRICS).read_text()
    summaries = re.findall("<summary>.*?</summary>", text)
    assert ["weight_seed 3" in line for line in summaries] == [True, False]
    assert ["weight_seed 4" in line for line in summaries] == [False, True]
    assert "DIGITS: test accuracy of the chosen ridge at noise level 2;" in text
    assert "against the noise level;" not in text
    make_run(tmp_path / "results" / "other level", "RF", "DIGITS", 5)
    text = write_page(find([tmp_path]), tmp_path / "page.html", folders=[tmp_path], metrics=METRICS).read_text()
    assert "DIGITS: test accuracy of the chosen ridge against the noise level;" in text


@pytest.mark.parametrize("width", [390, 1280])
def test_the_reason_of_an_unreadable_result_is_seen_beside_a_long_path(saved, tmp_path, browser, width):
    folder = saved / ("unbroken" * 12) / ("folder" * 20)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{")
    page = write_page(find([saved]), tmp_path / "page.html", folders=[saved], metrics=METRICS)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})  # fmt: skip
    browser.get(page.as_uri())
    inside = "const box = document.querySelector('#problems .scroll'); return box.scrollWidth - box.clientWidth"
    assert browser.execute_script(inside) <= 1


def test_a_malformed_record_is_listed_and_the_others_are_drawn(make_run, tmp_path, caplog):
    """Records without a part, with another kind of value, and arrays that are not histories."""
    root = tmp_path / "results"
    good = make_run(root / "good", "RF", ridges=2)
    record = {**json.loads(good.read_text()), "format": 1}
    del record["digest"]
    bad = {
        "no_solver": {**record, "solver": ...}, "dataset_list": {**record, "settings": {"dataset": ["FMNIST"]}},
        "text": {**record, "ridges": [{**record["ridges"][0], "test_loss": "0.5"}]}, "list": [1, 2],
        "position": {**record, "chosen": {"position": 7, "index": 0, "by": "x"}}, "model": {**record, "model": []},
    }  # fmt: skip
    for name, values in bad.items():
        (root / name).mkdir()
        plain = (
            {key: value for key, value in values.items() if value is not ...} if isinstance(values, dict) else values
        )
        (root / name / "result.json").write_text(json.dumps(plain))
    with h5py.File(root / "good" / "arrays.h5", "w") as file:
        file["history/000"], file["history/001"] = np.zeros((2, 2)), np.arange(1.0, 4.0)
    (root / "no_arrays").mkdir()
    (root / "no_arrays" / "result.json").write_text(json.dumps(record))
    runs = find([root])
    assert {Path(path).parent.name for path in runs.unreadable} == set(bad)
    assert all("\n" not in reason for reason in runs.unreadable.values())
    reasons = {Path(path).parent.name: reason for path, reason in runs.unreadable.items()}
    assert "solver is missing" in reasons["no_solver"] and "settings.dataset" in reasons["dataset_list"]
    assert len([line for line in caplog.messages if line.startswith("left out: ")]) == len(bad)
    text = write_page(runs, tmp_path / "page.html", folders=[root], metrics=METRICS).read_text()
    assert "6 unreadable" in text and all(name in text for name in bad)


def test_a_result_of_finetune_is_drawn(make_run, tmp_path):
    """It has no noise level, no unit of the ridge and, in version 0.1, no setting `dataset`."""
    path = make_run(tmp_path / "tuned", "RF", ridges=1)
    record = {**json.loads(path.read_text()), "format": 1, "settings": {"model": "vit.keras", "swap": "mlp"}}
    record["model"] = {"name": "vit"}
    del record["digest"], record["ridge_unit"], record["data"]["noise"], record["ridges"][0]["residual"]
    path.write_text(json.dumps(record))
    runs = find([tmp_path])
    assert list(runs.table["model"]) == ["vit"] and list(runs.table["dataset"]) == ["FMNIST"]
    assert "vit" in write_page(runs, tmp_path / "page.html", folders=[tmp_path], metrics=METRICS).read_text()


def with_tangents(record, units, seed=0):
    """Return a record with measurements of its tangent kernel after epochs 0 and 9."""

    def entry(epoch):
        names = [f"{who}_{what}" for who in ("network", "linearization", "linearization_offset", "last_layer")
                 for what in ("accuracy", "loss")]  # fmt: skip
        names += [f"{name}_{other}" for name in ("distance_from", "alignment_with", "features_alignment_with")
                  for other in ("start", "previous")]  # fmt: skip
        return {"epoch": epoch, "label_alignment": 0.5, "effective_rank": 9.0, "weight_change": {"hidden_1": 0.1},
                **dict.fromkeys(names, 0.5 + epoch / 100)}  # fmt: skip

    settings = {**record["settings"], "num_units": units, "seed": seed}
    tangents = {"rows": {"train": 20, "test": 10}, "epochs": [entry(0), entry(9)], "infinite_width": None}
    return {**record, "settings": settings, "tangents": tangents}


def test_tangent_kernels_are_drawn_for_each_run_and_against_the_width(tmp_path, make_run):
    for units in (16, 64):
        folder = make_run(tmp_path / f"N{units}", "NN", ridges=1, units=units).parent
        record = {**results.load(folder)}
        results.save(folder, with_tangents(record, units), results.load_arrays(folder))
    make_run(tmp_path / "plain", "NN", ridges=1)
    runs = find([tmp_path])
    text = write_page(runs, tmp_path / "page.html", folders=[tmp_path], metrics=["test_accuracy"]).read_text()
    measured = [row for row, record in enumerate(runs.records) if "tangents" in record]
    for row in range(3):
        for panel in ("scores", "kernel", "weights", "rank"):
            assert (f"tangents-{panel}-{row}-" in text) == (row in measured)
    assert "Against the width" in text and text.count('id="width-') > 0 and "width-1-" not in text
