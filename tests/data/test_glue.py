"""GLUE's files as they are published, odd rows included."""

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.data.sources.glue import load, read
from linearized.data.sources.wordpiece import SPECIAL

HEADER = "index\tsentence1\tsentence2\tlabel"
SCORES = "index\tsentence1\tsentence2\tscore"


def write(folder, train, dev, dev_name="dev.tsv"):
    folder.mkdir(exist_ok=True)
    for name, lines in (("train.tsv", train), (dev_name, dev)):
        (folder / name).write_bytes(("\n".join(lines) + "\n").encode())
    return folder


def rows(labels, start=0):
    return [f"{number}\ta tree {number}\tno stone\t{label}" for number, label in enumerate(labels, start)]


@pytest.mark.parametrize("lines, texts, labels, scored, metrics", [
    ("gj04\t1\t\tOur friends.\ngj04\t0\t*\tHe go", [("Our friends.",), ("He go",)], ["1", "0"], False, ("matthews",)),
    ("sentence\tlabel\nhide \"new\t0", [("hide \"new",)], ["0"], False, ()),
    ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tA b\tC d\r", [("A b", "C d")], ["1"], False, ("f1",)),
    ("id\tquestion1\tquestion2\tis_duplicate\n0\tA\tB\t0", [("A", "B")], ["0"], False, ("f1",)),
    ("index\tquestion\tsentence\tlabel\n0\tQ?\tS\tentailment", [("Q?", "S")], ["entailment"], False, ()),
    ("index\tgenre\tsentence1\tsentence2\tscore\n0\tx\tA\tB\t2.5", [("A", "B")], ["2.5"],
     True, ("pearson", "spearman")),
    ("sentence1\tsentence2\tlabel\tidx\nA\tB\t2.5\t0\nC\tD\t3\t1", [("A", "B"), ("C", "D")], ["2.5", "3"],
     True, ("pearson", "spearman")),
    ("index\tsentence1\tsentence2\tlabel1\tgold_label\n0\tA\tB\tneutral\tno", [("A", "B")], ["no"],
     False, ()),
    ("\ufeffsentence\tlabel\r\na\u2028b\x85c\t0\r\n\r\n d \t 1\r\n", [("a\u2028b\x85c",), (" d ",)], ["0", "1"],
     False, ()),
], ids=["CoLA", "SST-2", "MRPC", "QQP", "QNLI", "STS-B", "scores called label", "MNLI", "line ends"])  # fmt: skip
def test_the_tasks_of_glue_are_told_apart(tmp_path, lines, texts, labels, scored, metrics):
    (tmp_path / "train.tsv").write_bytes((lines + "\n").encode())
    table = read(tmp_path / "train.tsv")
    assert table[:4] == (texts, labels, scored, metrics)
    assert not any(table.dropped.values())


def test_rows_without_a_label_are_dropped_counted_and_recorded(tmp_path, caplog):
    folder = write(tmp_path / "SNLI", [HEADER, *rows(["yes", "-", "no", "", "yes"])], [HEADER, *rows(["no", "-"])])
    with caplog.at_level("WARNING", logger="absl"):
        dataset = load(folder, 12, 30)
    assert dataset.num_classes == 2 and (len(dataset.train), len(dataset.test)) == (3, 1)
    assert dataset.train.y.tolist() == [1, 0, 1]
    assert dataset.notes == {"casing": "uncased", "train_rows_unlabelled": 2, "test_rows_unlabelled": 1}
    assert "train.tsv: dropped 2 rows without a label and 0 rows" in caplog.text


def test_an_empty_score_is_dropped_and_counted(tmp_path):
    dataset = load(write(tmp_path / "STS-B", [SCORES, *rows(["1.5", "", "2"])], [SCORES, *rows(["5.0"])]), 12, 30)
    assert dataset.task == "regression" and dataset.train.y[:, 0].tolist() == [1.5, 2.0]
    assert dataset.notes["train_rows_unlabelled"] == 1


@pytest.mark.parametrize("odd", ["7\tlost", "7\ta\tb\tc\tyes\tmore"])
def test_rows_of_other_columns_are_dropped_up_to_a_hundredth(tmp_path, odd):
    good = rows(["yes", "no"] * 100)
    table = read(write(tmp_path / "QQP", [HEADER, *good[:50], odd, *good[50:], odd], [HEADER]) / "train.tsv")
    assert len(table.labels) == 200 and table.dropped == {"unlabelled": 0, "odd_columns": 2}
    write(tmp_path / "QQP", [HEADER, *good[:50], odd, odd, odd, *good[50:]], [HEADER])
    with pytest.raises(UserError, match=r"train\.tsv, line 52 has \d columns instead of 4, and 3 of 203 rows"):
        read(tmp_path / "QQP" / "train.tsv")


def test_columns_that_are_empty_beyond_the_header_do_not_count(tmp_path):
    write(tmp_path / "RTE", [HEADER, *(row + "\t\t" for row in rows(["yes", "no"]))], [HEADER])
    assert read(tmp_path / "RTE" / "train.tsv").labels == ["yes", "no"]


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "good", "1e99", "1_0", "\u0663"])
@pytest.mark.parametrize("place", ["train", "dev"])
def test_a_score_that_is_no_number_is_refused_with_its_line(tmp_path, score, place):
    good, bad = [SCORES, *rows(["1", "2"])], [SCORES, *rows(["1"]), "", *rows([score])]
    folder = write(tmp_path / "STS-B", *((bad, good) if place == "train" else (good, bad)))
    with pytest.raises(UserError, match=rf"{place}\.tsv, line 4: expected a score, a finite number. Received: '"):
        load(folder, 12, 30)


@pytest.mark.parametrize("header, row", [([], "gj04\t{}\t\tGood."), (["sentence\tlabel"], "Good.\t{}")])
def test_line_numbers_are_those_of_the_file(tmp_path, header, row):
    good = [*header, row.format(0), row.format(1), "", row.format(1)]
    bad = len(good) + 1
    folder = write(tmp_path / "CoLA", [*good, "one column"], good)
    with pytest.raises(UserError, match=rf"train\.tsv, line {bad} has 1 columns"):
        read(folder / "train.tsv")
    write(folder, good, [*good, row.format(9)])
    with pytest.raises(UserError, match=rf"dev\.tsv, line {bad}: the train set lacks the label '9'\. It has: 0, 1\."):
        load(folder, 12, 30)


COLA_ROW = "gj04\t{}\t\tGood."
SINGLE, QUESTIONS = "Good.\t{}", "0\tA\tB\t{}"
TASK_LABELS = {
    "CoLA": ([], COLA_ROW, "01", ["Z", "2", "-1", "0.5"]),
    "QQP": (["id\tquestion1\tquestion2\tis_duplicate"], QUESTIONS, "01", ["Z", "2"]),
    "MRPC": (["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"], "{}\t7\t8\tA b\tC d", "01", ["Z", "2"]),
    "SST-2": (["sentence\tlabel"], SINGLE, "01", ["Z", "nan"]),
    "RTE": ([HEADER], QUESTIONS, ["entailment", "not_entailment"], ["Z", "neutral"]),
    "MNLI": (["index\tsentence1\tsentence2\tgold_label"], QUESTIONS, ["entailment", "neutral", "contradiction"],
             ["Z", "0"]),
    "scores called label": ([HEADER], QUESTIONS, ["1.5", "2.5"], ["Z"]),
}  # fmt: skip


@pytest.mark.parametrize("task, bad", [(task, bad) for task, case in TASK_LABELS.items() for bad in case[3]])
@pytest.mark.parametrize("place", [0, 2])
def test_a_label_of_the_train_set_that_is_not_the_tasks_is_refused_with_its_line(tmp_path, task, bad, place):
    header, row, labels, _bad = TASK_LABELS[task]
    good = [row.format(label) for label in labels] * 2
    folder = write(tmp_path / "task", [*header, *good], [*header, *good])
    assert load(folder, 12, 30).num_classes == (0 if "scores" in task else len(labels))
    write(folder, [*header, *good[:place], row.format(bad), *good[place:]], [*header, *good])
    line = len(header) + place + 1
    with pytest.raises(UserError, match=rf"train\.tsv, line {line}: expected the label .*Received: '{bad}'\."):
        load(folder, 12, 30)


@pytest.mark.parametrize("labels", [
    ["0", "1", "2", "0"], ["0", "a", "0", "a"], ["entailment", "contradiction", "unknown"], ["0", "0", "a"],
    ["entailment", "neutral", "contradiction"] + ["unknown"] * 2,
])  # fmt: skip
def test_labels_of_a_task_of_ones_own_are_classes(tmp_path, labels):
    folder = write(tmp_path / "own", [HEADER, *rows(labels)], [HEADER, *rows(labels)])
    assert load(folder, 12, 30).num_classes == len(set(labels))


@pytest.mark.parametrize(
    "train, dev, message",
    [
        ([], [HEADER], r"train\.tsv is empty"),
        ([HEADER, *rows("ab")], [HEADER], r"dev\.tsv holds no labelled row"),
        ([HEADER, *rows("ab")], [HEADER, *rows("--")], r"dev\.tsv holds no labelled row \(2 without a label\)"),
        ([HEADER, *rows("ab")], [], r"dev\.tsv is empty"),
        ([HEADER, *rows("aa")], [HEADER, *rows("a")], "one label 'a'"),
        (["a\tb", "c\td"], [HEADER], r"no columns of a GLUE task\. Received: a, b"),
        ([SCORES, *rows("12")], [HEADER, *rows(["a", "b"])], r"dev\.tsv, line 2: expected a score"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, train, dev, message):
    with pytest.raises(UserError, match=message):
        load(write(tmp_path / "task", train, dev), 12, 30)


def test_bytes_that_are_no_text_and_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"train\.tsv does not exist"):
        load(tmp_path, 12, 30)
    write(tmp_path, [HEADER, *rows("ab")], [HEADER, *rows("ab")])
    (tmp_path / "dev.tsv").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=r"dev\.tsv is damaged or not a text file in UTF-8"):
        load(tmp_path, 12, 30)
    with pytest.raises(UserError, match="4 tokens at least"):
        load(tmp_path, 3, 30)


def test_mnli_is_scored_on_its_matched_dev_set(tmp_path):
    write(tmp_path, [HEADER, *rows("ab")], [HEADER, *rows("aab")], "dev_matched.tsv")
    write(tmp_path, [HEADER, *rows("ab")], [HEADER, *rows("a")], "dev_mismatched.tsv")
    assert len(load(tmp_path, 12, 30).test) == 3


def test_a_vocabulary_and_its_casing_change_the_tokens(tmp_path):
    folder = write(tmp_path / "RTE", [HEADER, *rows("ab")], [HEADER, *rows("ab")])
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a", "tree", "no", "stone", "Tree"]) + "\n")
    own, given = load(folder, 12, 30), load(folder, 12, 30, tmp_path / "vocab.txt")
    assert given.train.x[0].tolist() == [2, 4, 5, 1, 3, 6, 7, 3, 0, 0, 0, 0]
    assert given.notes["casing"] == "cased" and own.fingerprint != given.fingerprint
    assert load(folder, 12, 30, tmp_path / "vocab.txt", "uncased").notes["casing"] == "uncased"
    assert given.train.x.dtype == np.float32 and given.num_classes == 2
    with pytest.raises(UserError, match=r"vocab\.txt has 9 pieces, more than the model's embedding of 8"):
        load(folder, 12, 8, tmp_path / "vocab.txt")
