"""Reader of GLUE's text classification tasks: the files train.tsv and dev.tsv become rows of token numbers.

A task is recognised by the columns of its files. The dev set is used as the test set, because the labels of GLUE's test
sets are not public (Wang et al., arXiv 1804.07461). Words are cut by WordPiece if a vocabulary is given (BERT's
vocab.txt); otherwise the words of the train set are numbered.

The files have irregular rows. Rows without a label (empty, or "-" where SNLI's and MNLI's annotators did not agree) and
rows with another number of columns than the header (QQP) are dropped, counted, and reported in the dataset's notes. A
`UserError` is raised if more than 1 % of the rows (`ODD_SHARE`) have another number of columns, for a score that is not
a number, and for a train label that does not belong to the task (see `_check_labels`).
"""

import collections
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.reading import read_lines
from linearized.data.dataset import Dataset, Split, fingerprint
from linearized.data.sources.wordpiece import Vocabulary

TEXTS = (("sentence",), ("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"),
         ("#1 String", "#2 String"))  # fmt: skip
LABELS = ("label", "gold_label", "is_duplicate", "Quality", "score")
METRICS = {"mark": ("matthews",), "is_duplicate": ("f1",), "Quality": ("f1",), "score": ("pearson", "spearman")}
COLA = ("source", "label", "mark", "sentence")  # the only task without a header
DEV_FILES = ("dev_matched.tsv", "dev.tsv")  # the first is MNLI's
UNLABELLED = ("", "-")
BINARY = ("0", "1")  # the labels of the tasks that report Matthews' correlation or F1
INFERENCE = (("entailment", "not_entailment"), ("entailment", "neutral", "contradiction"))
ODD_SHARE = 0.01  # of the rows of a file; QQP's train.tsv has 0.00003
LARGEST = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class TaskTable(NamedTuple):
    """The labelled rows of one file of a GLUE task.

    Attributes:
        texts: One or two texts for each row.
        labels: Labels as in the file, stripped of blanks.
        scored: Whether labels are numbers on a scale, as in STS-B.
        metrics: The metrics that GLUE reports for the task besides the accuracy.
        lines: The line of each row in the file, counted from 1.
        dropped: Numbers of rows that were left out, by reason: "unlabelled", "odd_columns" (another number of columns).
    """

    texts: list[tuple[str, ...]]
    labels: list[str]
    scored: bool
    metrics: tuple[str, ...]
    lines: list[int]
    dropped: dict[str, int]


def read(path: Path) -> TaskTable:
    """Read one TSV file of GLUE.

    Raises `UserError` for a file that is missing, is not UTF-8, has other columns than GLUE's tasks, has no labelled
    row or too many rows with another number of columns, and for a score that is not a finite number. The message states
    the number of the line if one line is wrong.
    """
    lines = read_lines(path, "Give the folder of a GLUE task.")
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f"{path} is empty. Give the folder of a GLUE task.")
    header = rows[0][1]
    texts, label = _columns(header)
    if texts is None or label is None:
        if not any(len(row) == len(COLA) and row[1] in ("0", "1") for _, row in rows[:20]):
            raise UserError(f"{path} has no columns of a GLUE task. Received: {', '.join(header)[:200]}.")
        header, (texts, label) = list(COLA), _columns(COLA)
    else:
        rows = rows[1:]
    places, label_place = [header.index(name) for name in texts], header.index(label)
    good, odd, unlabelled = [], [], 0
    for number, row in rows:
        if len(row) <= max(*places, label_place) or any(row[len(header) :]):
            odd.append((number, len(row)))
        elif row[label_place].strip() in UNLABELLED:
            unlabelled += 1
        else:
            good.append((number, row))
    if len(odd) > ODD_SHARE * len(rows):
        raise UserError(f"{path}, line {odd[0][0]} has {odd[0][1]} columns instead of {len(header)}, and {len(odd)} of "
                        f"{len(rows)} rows are like it; at most {ODD_SHARE:.0%} are dropped.")  # fmt: skip
    if not good:
        raise UserError(f"{path} holds no labelled row ({unlabelled} without a label). Give a file with labels.")
    labels = [row[label_place].strip() for _, row in good]
    numbers = [number for number, _ in good]
    metrics = next((METRICS[name] for name in METRICS if name in header), ())
    scored = label == "score" or (not metrics and _are_scores(labels))
    if scored:
        _check_scores(path, numbers, labels)
        metrics = METRICS["score"]
    dropped = {"unlabelled": unlabelled, "odd_columns": len(odd)}
    return TaskTable(
        [tuple(row[place] for place in places) for _, row in good], labels, scored, metrics, numbers, dropped
    )


def _columns(header: list[str] | tuple[str, ...]) -> tuple[tuple[str, ...] | None, str | None]:
    """Find the columns of texts and of labels in a file of GLUE, by their names.

    Args:
        header: Names of all columns.

    Returns: The names of the one or two columns of texts, and the name of the column of labels; None where there is
        none.
    """
    texts = max((names for names in TEXTS if set(names) <= set(header)), key=len, default=None)
    return texts, next((name for name in LABELS if name in header), None)


def _are_scores(labels: list[str]) -> bool:
    """Return whether labels are scores rather than classes: all are numbers, and at least one is not whole.

    The function is called if the names of the columns do not determine this.
    """
    values = [float(label) for label in labels if _NUMBER.fullmatch(label)]
    return len(values) == len(labels) and not all(value.is_integer() for value in values)


def _check_scores(path: Path, lines: list[int], labels: list[str]) -> None:
    for line, label in zip(lines, labels, strict=True):
        if not _NUMBER.fullmatch(label) or abs(float(label)) > LARGEST:
            raise UserError(f"{path}, line {line}: expected a score, a finite number. Received: {label[:50]!r}.")


def load(folder: Path | str, length: int, size: int, vocabulary: Path | str = "", casing: str = "auto") -> Dataset:
    """Load a GLUE task as token numbers (n, length), in float32 (exact below 2²⁴).

    The dataset's notes state how many rows were dropped, and whether capitals were kept.

    Args:
        folder: Folder of the task.
        length: Number of tokens in a row of the model's input, at least 4.
        size: Number of different tokens that the model's embedding has.
        vocabulary: File of a WordPiece vocabulary; "": the words of the train set.
        casing: "cased" keeps capitals and accents, "uncased" removes them, "auto" keeps them if the vocabulary has
            capitals; "auto" without a vocabulary is "uncased".

    Raises `UserError` for files that are missing or not GLUE's, for train labels that the task does not have (see
    `_check_labels`), for dev labels that the train set lacks, for a train set with one label, and for a vocabulary
    larger than `size`.
    """
    folder = Path(folder)
    if length < 4:
        raise UserError(f"A text takes 4 tokens at least. Received: a model of {length}.")
    dev = next((folder / name for name in DEV_FILES if (folder / name).exists()), folder / DEV_FILES[-1])
    tables = {folder / "train.tsv": read(folder / "train.tsv"), dev: read(dev)}
    train = tables[folder / "train.tsv"]
    _check_labels(folder / "train.tsv", train)
    known = Vocabulary.from_file(vocabulary, casing) if vocabulary else Vocabulary.of_texts(train.texts, size, casing)
    if known.size > size:
        raise UserError(f"{vocabulary} has {known.size} pieces, more than the model's embedding of {size}.")
    names = sorted(set(train.labels))
    if len(names) < 2 and not train.scored:
        raise UserError(f"{folder / 'train.tsv'} has the one label {names[0]!r}; two are needed at least.")
    splits, notes = [], {"casing": "cased" if known.cased else "uncased"}
    for (path, table), kind in zip(tables.items(), ("train", "test"), strict=True):
        x = np.array([known.row(texts, length) for texts in table.texts], np.float32)
        splits.append(Split(x, _targets(path, table, None if train.scored else names)))
        notes |= {f"{kind}_rows_{reason}": count for reason, count in table.dropped.items() if count}
        if any(table.dropped.values()):
            logging.warning("%s: dropped %d rows without a label and %d rows with another number of columns; %d are "
                            "left.", path, *table.dropped.values(), len(x))  # fmt: skip
    logging.info("Words are cut by %s, %s.", vocabulary or "the train set's own words", notes["casing"])
    task, classes = ("regression", 0) if train.scored else ("classes", len(names))
    mark = fingerprint(names if classes else [], *(array for split in splits for array in (split.x, split.y)))
    return Dataset(folder.resolve().name, 0, splits[0], None, splits[1], task, classes, None, "FMNIST", mark,
                   metrics=train.metrics, notes=notes)  # fmt: skip


def _check_labels(path: Path, table: TaskTable) -> None:
    """Raise `UserError` for the first label that does not belong to the task; the message states its line.

    Files with the columns of CoLA, MRPC or QQP must have the labels 0 and 1. All other columns, such as "sentence" and
    "label", are used by several tasks and may be those of a user's own task. They do not determine the labels. A label
    in such a file is refused only if it is rare and differs in kind from the others (see `_rare_foreign`). Scores, as
    in STS-B, are not checked here.

    Args:
        path: The file, for the error message.
        table: Rows of the file.
    """
    if table.scored:
        return
    if table.metrics:
        foreign, expected = {label for label in table.labels if label not in BINARY}, " or ".join(BINARY)
    else:
        foreign, expected = _rare_foreign(table.labels)
    for line, label in zip(table.lines, table.labels, strict=True):
        if label in foreign:
            raise UserError(f"{path}, line {line}: expected the label {expected}. Received: {label[:50]!r}.")


def _rare_foreign(labels: list[str]) -> tuple[set[str], str]:
    """Find rare labels that differ in kind from all others, in a file whose columns do not determine the labels.

    There are two cases: the other labels are all numbers (at least two different ones), or the other labels are exactly
    the labels of an inference task, such as "entailment" and "not_entailment". Labels are rare if all of them together
    occur on a single row, or on at most 1 % of the rows (`ODD_SHARE`).

    Args:
        labels: Label of each row.

    Returns: The rare labels, and the end of the error message, which states what was expected; an empty set and "" if
        there are none.
    """
    counts, present = collections.Counter(labels), set(labels)
    kinds = [({label for label in present if _NUMBER.fullmatch(label)}, "to be a number, as the others are")]
    kinds += [(set(names), " or ".join(names)) for names in INFERENCE if set(names) <= present]
    for known, expected in kinds:
        foreign = present - known
        if 0 < sum(counts[label] for label in foreign) <= max(1, ODD_SHARE * len(labels)) and len(known) > 1:
            return foreign, expected
    return set(), ""


def _targets(path: Path, table: TaskTable, names: list[str] | None) -> np.ndarray:
    """Return the targets of the rows of one file as a float32 column (n, 1).

    Args:
        path: The file, for error messages.
        table: Rows of the file.
        names: Labels in the order of their class numbers; None: labels are scores.

    Raises `UserError` for a label that is not in `names`, and for an invalid score.
    """
    if names is None:
        _check_scores(path, table.lines, table.labels)
        return np.array([[float(label)] for label in table.labels], np.float32)
    for line, label in zip(table.lines, table.labels, strict=True):
        if label not in names:
            raise UserError(f"{path}, line {line}: the train set lacks the label {label[:50]!r}. It has: "
                            f"{', '.join(names)[:200]}.")  # fmt: skip
    return np.array([[names.index(label)] for label in table.labels], np.float32)
