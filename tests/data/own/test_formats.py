"""Every format of --data: equal to the same arrays given directly, and one entry of the registry."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import dump_svmlight_file, load_breast_cancer

import linearized
from linearized.base.errors import UserError
from linearized.data.own import formats
from linearized.data.own.arrays import OwnArrays, Reader
from linearized.data.own.formats import content_digest, format_of
from linearized.settings import memory
from linearized.settings.data_settings import DataSettings
from linearized.settings.own_settings import FORMATS, OwnDataSettings


def table():
    x, y = load_breast_cancer(return_X_y=True)
    return x[:120, :6].astype(np.float32), y[:120]


def npz(folder, x, y):
    np.savez(folder / "a.npz", X=x, y=y)
    return "a.npz"


def npy(folder, x, y):
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return f"{folder}/x.npy,{folder}/y.npy"


def frame(x, y):
    return pd.DataFrame(x, columns=[f"column {number}" for number in range(x.shape[1])]).assign(target=y)


def csv(folder, x, y, suffix="csv", separator=","):
    frame(x, y).to_csv(folder / f"a.{suffix}", index=False, sep=separator, float_format="%.9g")
    return f"a.{suffix}"


def parquet(folder, x, y):
    pytest.importorskip("pyarrow")
    frame(x, y).to_parquet(folder / "a.parquet")
    return "a.parquet"


def h5(folder, x, y):
    with h5py.File(folder / "a.h5", "w") as file:
        file["some/data/features"], file["some/data/labels"] = x, y
    return "a.h5:some/data"


def mat(folder, x, y):
    scipy.io.savemat(folder / "a.mat", {"X": x, "y": y[:, None]})
    return "a.mat"


def mat73(folder, x, y):
    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        file["X"], file["y"] = x.T, y[None, :].astype(float)
    with (folder / "a.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return "a.mat"


def libsvm(folder, x, y):
    dump_svmlight_file(x, y, str(folder / "a.scale"), zero_based=False)
    return "a.scale"


def libsvm_from_0(folder, x, y):
    dump_svmlight_file(x, y, str(folder / "s"), comment="scikit-learn's default: columns from 0")
    return "s"


WRITERS = {
    "npz": npz, "npy": npy, "csv": csv, "tsv": lambda *given: csv(*given, "tsv", "\t"), "parquet": parquet, "h5": h5,
    "semicolons": lambda *given: csv(*given, "csv", ";"), "mat": mat, "mat 7.3": mat73, "libsvm": libsvm,
    "libsvm from 0": libsvm_from_0,
}  # fmt: skip


@pytest.mark.parametrize("suffix, separator", [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_two_tables_are_the_train_and_the_test_rows(tmp_path, suffix, separator):
    x, y = table()
    for name, rows, columns in (("train", slice(80), 1), ("test", slice(80, 120), -1)):
        frame(x[rows], y[rows]).iloc[:, ::columns].to_csv(tmp_path / f"{name}.{suffix}", index=False, sep=separator)
    text = f"{tmp_path}/train.{suffix},{tmp_path}/test.{suffix}"
    found = DataSettings(data=text).described().load(0)
    expected = linearized.from_arrays(x[:80], y[:80], x[80:], y[80:])
    for split, rows in expected.splits().items():
        np.testing.assert_allclose(found.splits()[split].x, rows.x, rtol=1e-6)
        np.testing.assert_array_equal(found.splits()[split].y, rows.y)
    before = content_digest(OwnDataSettings.draft(data=text))
    csv(tmp_path, x[80:] + 1, y[80:], suffix, separator)
    (tmp_path / f"a.{suffix}").rename(tmp_path / f"test.{suffix}")
    assert content_digest(OwnDataSettings.draft(data=text)) != before


def test_tables_that_do_not_go_together_are_refused(tmp_path):
    x, y = table()
    csv(tmp_path, x, y)
    (tmp_path / "a.csv").rename(tmp_path / "b,c.csv")  # one file
    assert len(DataSettings(data=f"{tmp_path}/b,c.csv").described().load(0).train) == 96
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    frame(x, y).to_csv(one, index=False)
    frame(x, y).rename(columns={"column 1": "column x"}).to_csv(other, index=False)
    with pytest.raises(UserError, match=r"must have the same columns\. In one of them alone: column 1, column x\."):
        DataSettings(data=f"{one},{other}").described().load(0)
    with pytest.raises(UserError, match=r"takes one table, or two: .* Received: 3"):
        DataSettings(data=f"{one},{one},{one}").described().load(0)
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        DataSettings(data=f"{one},{tmp_path}/none.csv").described().load(0)


def path_of(folder, text):
    return text if text.startswith("/") else str(folder / text)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_equals_the_same_arrays_given_directly(tmp_path, name):
    x, y = table()
    config = DataSettings(data=path_of(tmp_path, WRITERS[name](tmp_path, x, y)), validation=10, seed=3)
    found = config.described().load(**config.row_settings())
    expected = linearized.from_arrays(x, y, validation=10, seed=3)
    assert (found.task, found.class_names, found.image_shape) == ("binary", ("0", "1"), None)
    for split, rows in expected.splits().items():
        np.testing.assert_allclose(found.splits()[split].x, rows.x, rtol=1e-6)
        np.testing.assert_array_equal(found.splits()[split].y, rows.y)


@pytest.mark.parametrize("name", [name for name in FORMATS if name in WRITERS])
def test_a_format_fits_its_own_texts_and_its_digest_is_that_of_the_content(tmp_path, name):
    x, y = table()
    digests = []
    for folder, values in (("one", x), ("two", x), ("three", x + 1)):
        (tmp_path / folder).mkdir()
        text = path_of(tmp_path / folder, WRITERS[name](tmp_path / folder, values, y))
        assert format_of(text) == name and isinstance(FORMATS.load(name), Reader)
        options = OwnDataSettings.draft(data=text)
        assert isinstance(FORMATS.load(name).read(text, options), OwnArrays)
        digests.append(content_digest(options))
    assert digests[0] != digests[2] and (digests[0] == digests[1] or name == "mat")  # which holds the time


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_alone_reads_is_a_flag_that_others_refuse(tmp_path, name):
    assert set(FORMATS.load(name).reads) <= set(OwnDataSettings.own())
    x, y = table()
    text = path_of(tmp_path, npz(tmp_path, x, y))
    for flag in FORMATS.load(name).reads:
        with pytest.raises(UserError, match=f"--{flag} is read by --data="):
            DataSettings(data=text, **{flag: {"channels": "grey", "skip_bad": True}.get(flag, "column")})


def test_a_test_part_of_libsvm_lies_beside_it(tmp_path):
    x, y = table()
    x[90:, 5] = 0  # the last column is empty there
    dump_svmlight_file(x[:90], y[:90], str(tmp_path / "a"), zero_based=False)
    dump_svmlight_file(x[90:], y[90:], str(tmp_path / "a.t"), zero_based=False)
    dataset = DataSettings(data=str(tmp_path / "a")).described().load()
    np.testing.assert_allclose(dataset.test.x, x[90:], rtol=1e-6)


def test_columns_of_libsvm_count_from_0_if_either_part_has_a_column_0(tmp_path):
    x, y = table()
    x[:90, 0] = 0  # the train part alone reads as if columns counted from 1
    dump_svmlight_file(x[:90], y[:90], str(tmp_path / "a"))
    dump_svmlight_file(x[90:], y[90:], str(tmp_path / "a.t"))
    dataset = DataSettings(data=str(tmp_path / "a")).described().load()
    np.testing.assert_allclose(dataset.train.x, x[:90], rtol=1e-6)
    np.testing.assert_allclose(dataset.test.x, x[90:], rtol=1e-6)


@pytest.mark.parametrize("kind", ["npz", "npy", "h5"])
def test_python_objects_are_refused_with_how_to_save_them(tmp_path, kind):
    x, y = np.ones((4, 2)), np.array(["a", "b", "a", "b"], dtype=object)
    if kind == "npz":
        np.savez(tmp_path / "a.npz", x=x, y=y)
        text, words = tmp_path / "a.npz", r"holds Python objects .*The array 'y' .*\.astype\(str\)"
    elif kind == "npy":
        text, words = npy(tmp_path, x, y), r"y.npy holds Python objects .*\.astype\(str\)"
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = x
            file.create_dataset("y", shape=(4,), dtype=h5py.vlen_dtype(np.int32))
        text, words = tmp_path / "a.h5", "y holds neither numbers nor text"
    with pytest.raises(UserError, match=words) as caught:
        DataSettings(data=str(text)).described()
    assert "damaged" not in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("labels", [np.array(["ä".encode(), b"b"] * 10),
                                    np.array(["ä".encode(), b"b"] * 10, dtype=object)])  # fmt: skip
def test_labels_of_bytes_are_utf_8_text(labels):
    assert linearized.from_arrays(np.ones((20, 2)), labels).class_names == ("b", "ä")
    with pytest.raises(UserError, match="bytes that are no UTF-8 text"):
        linearized.from_arrays(np.ones((20, 2)), np.array([b"\xff", b"b"] * 10))


@pytest.mark.parametrize("files, words", [
    ([], "is an empty folder. Put the pictures of each class into a folder"),
    (["1.png", "2.png", "note.txt"], "has 2 pictures and no class folders"),
    (["note.txt", "cat/"], "no class folders with pictures, no idx files .*it has cat, note.txt. Name a file in it"),
])  # fmt: skip
def test_a_folder_without_class_folders_is_told_what_is_missing(tmp_path, files, words):
    for name in files:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    with pytest.raises(UserError, match=words):
        DataSettings(data=str(tmp_path))


def test_a_path_as_a_published_name_points_to_own_data(tmp_path):
    for name in ("own.npz", str(tmp_path), "sklearn:iris"):
        with pytest.raises(UserError, match=f"Unknown dataset.*--data={name}"):
            DataSettings(dataset=name)
    with pytest.raises(UserError, match="Did you mean FMNIST") as caught:
        DataSettings(dataset="FMNSIT")
    assert "--data=" not in str(caught.value)


def test_several_targets_and_dropped_columns_of_a_table(tmp_path):
    x, y = table()
    frame(x, y).assign(other=x[:, 0] / 7, id=[f"patient {row}" for row in range(120)]).to_csv(
        tmp_path / "a.csv", index=False
    )
    settings = {"data": str(tmp_path / "a.csv"), "target": "column 0,other", "drop_columns": "id,target"}
    dataset = DataSettings(**settings).described().load()
    assert (dataset.task, dataset.num_outputs, dataset.dim) == ("regression", 2, 5)
    np.testing.assert_allclose(dataset.train.y[:, 0] / 7, dataset.train.y[:, 1], rtol=1e-5)


def test_images_with_labels_in_a_mat_file_of_the_street_view_house_numbers_layout(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 3, 20), np.uint8)
    scipy.io.savemat(tmp_path / "a.mat", {"X": images, "y": (np.arange(20) % 10 + 1)[:, None]})
    dataset = DataSettings(data=str(tmp_path / "a.mat"), task="classes", test_fraction=0.5).described().load()
    assert dataset.image_shape == (8, 8, 3) and dataset.class_names == tuple(map(str, range(1, 11)))
    rows = np.moveaxis(images, -1, 0).reshape(20, -1) / np.float32(255)
    assert any(np.array_equal(dataset.train.x[0], row) for row in rows)


BAD = {
    "no header": ("5.1,3.5,0\n4.9,3.0,1\n", {}, "has no header: its first line is 5.1, 3.5, 0"),
    "no target": ("a,b\n1,2\n3,4\n", {}, "Name the column to predict with --target.*It has: a, b|has: a, b"),
    "unknown target": ("age,town\n1,2\n3,4\n", {"target": "twon"}, "Did you mean town"),
    "one class": ("a,target\n1,no\n3,no\n5,no\n", {}, "all 3 labels are no"),
    "missing": ("a,b,target\n1,,0\n3,2,1\n5,7,0\n4,3,1\n", {}, r"1 row \(0; counted from 0\), columns b"),
    "missing label": ("a,target\n1,x\n3,\n5,y\n", {}, r"labels are missing in 1 row \(1;"),
    "two columns": ("a,a,target\n1,2,x\n3,4,y\n", {}, "two columns 'a'"),
    "only a header": ("a,target\n", {}, "no row below its header"),
    "empty": ("", {}, "empty first line"),
    "ragged": ("a,target\n1,2\n1,2,3,4\n", {}, "damaged or not a table"),
    "longer rows": ("a,target\n1,2,3\n1,3,4\n", {}, "more values than its header has names"),
    "not UTF-8": (b"a,target\n\xff\xfe\xfd,1\n2,3\n", {}, "damaged or not a table"),
    "nothing but the target": ("target\n1\n0\n", {}, "no column beside the target"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_one_clear_line(tmp_path, name):
    content, settings, words = BAD[name]
    (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words) as caught:
        DataSettings(data=str(tmp_path / "a.csv"), **settings).described().load()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("count", [60_000, pytest.param(500_000, marks=pytest.mark.slow)])
def test_a_large_npy_is_mapped_and_only_the_rows_in_use_take_memory(tmp_path, count):
    """A sparse file of 240 MB or 2 GB; digesting it takes time and no memory."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(count, 1000))
    del x
    np.save(tmp_path / "y.npy", np.arange(count) % 2)
    program = (
        "import resource, sys; from linearized.data.loading import load_rows; "
        "from linearized.settings.data_settings import DataSettings; import linearized.data.own.source\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"rows = load_rows(DataSettings(data='{tmp_path}/x.npy,{tmp_path}/y.npy', num_train=1000, num_test=100), 0)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(rows.train), rows.dim)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    kibibytes, rows, dim = map(int, done.stdout.split())
    assert (rows, dim) == (1000, 1000) and kibibytes < 100 * 1024, kibibytes


@pytest.mark.parametrize("kind", ["npz", "npy", "h5", "mat", "mat 7.3", "parquet", "libsvm", "pictures"])
def test_what_unpacks_to_more_than_the_machines_memory_is_refused_by_name(tmp_path, kind, monkeypatch):
    x, y = np.zeros((30_000, 10)), np.zeros(30_000)
    x[:2, -1], y[::2] = 1, 1
    if kind == "npz":
        np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
        text = f"{tmp_path}/a.npz"
    elif kind == "h5":
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("x", data=x, compression="gzip")
            file["y"] = y
        text = f"{tmp_path}/a.h5"
    elif kind == "pictures":
        for name in "ab":
            (tmp_path / "all" / name).mkdir(parents=True)
            Image.new("RGB", (1000, 300)).save(tmp_path / "all" / name / "1.png")
        text = f"{tmp_path}/all"
    elif kind == "mat":
        scipy.io.savemat(tmp_path / "a.mat", {"X": x, "y": y}, do_compression=True)
        text = f"{tmp_path}/a.mat"
    else:
        text = path_of(tmp_path, WRITERS[kind](tmp_path, x, y[:, None] if kind == "mat 7.3" else y))
    if kind in ("npz", "parquet"):
        assert Path(text).stat().st_size < 200_000
    monkeypatch.setattr(memory, "total_bytes", lambda: 200_000)
    named = {"npy": "y.npy", "pictures": "all, 2 pictures", "libsvm": "a.scale"}.get(kind, Path(text).name)
    with pytest.raises(UserError, match=rf"{named}.* needs .* GiB of memory at least, and this machine has"):
        DataSettings(data=text)


def test_settings_look_at_many_files_once_and_see_changes_later(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.arange(8.0).reshape(4, 2), y=[0, 1, 0, 1])
    reader, seen, now = FORMATS.load("npz"), [], [100.0]
    whole = type(reader).digest

    def slow(self, text, options):
        seen.append(text)
        now[0] += 2.0  # seconds that it takes
        return whole(self, text, options)

    monkeypatch.setattr(type(reader), "digest", slow)
    monkeypatch.setattr(formats.time, "monotonic", lambda: now[0])
    options = OwnDataSettings(data=str(tmp_path / "a.npz"))
    first = content_digest(options)
    assert content_digest(options) == first and len(seen) == 1
    np.savez(tmp_path / "a.npz", x=np.ones((4, 2)), y=[0, 1, 0, 1])
    now[0] += 2.0 * formats.PATIENCE + 1
    assert content_digest(options) != first and len(seen) == 2


@pytest.mark.parametrize("name", ["a.csv", "a.libsvm", "images-idx3-ubyte,labels-idx1-ubyte", "cifar-10-python.tar.gz"])
def test_a_file_above_its_formats_limit_is_refused_before_it_is_digested(tmp_path, name, monkeypatch):
    text = ",".join(str(tmp_path / one) for one in name.split(","))
    for path in map(Path, text.split(",")):
        with path.open("wb") as file:  # a sparse file, which takes no space on disk
            file.truncate(2**40)
    monkeypatch.setattr(formats.hashlib, "blake2b", None)
    with pytest.raises(UserError, match="has 1,099,511,627,776 bytes, more than the"):
        content_digest(OwnDataSettings(data=text))
