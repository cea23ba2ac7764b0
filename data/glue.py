"""GLUE's TSV files as rows of token numbers: train.tsv and dev.tsv of any of its tasks, told apart by their columns.

The dev set serves as the test set: the labels of GLUE's own are not public (Wang et al., arXiv 1804.07461). Words are
cut by WordPiece where a vocabulary is given (BERT's vocab.txt); else the words of the train set are numbered.
"""

import collections
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.dataset import Dataset, Split, fingerprint
from data.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LONGEST_WORD = 100
TEXTS = (("sentence",), ("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"),
         ("#1 String", "#2 String"))  # fmt: skip
LABELS = ("label", "gold_label", "is_duplicate", "Quality", "score")
METRICS = {"mark": ("matthews",), "is_duplicate": ("f1",), "Quality": ("f1",), "score": ("pearson", "spearman")}
COLA = ("source", "label", "mark", "sentence")  # the one task without a header


class Table(NamedTuple):
    """Texts (one or two a row) and labels as they stand in the file."""

    texts: list[tuple[str, ...]]
    labels: list[str]
    scored: bool  # labels are numbers on a scale (STS-B)
    metrics: tuple[str, ...] = ()  # what GLUE reports for the task beside the accuracy


def read(path: Path) -> Table:
    """One TSV file of GLUE. Raises `UserError` for a file that is missing or of another kind."""
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n") if line.strip("\r\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}). Give the folder of a GLUE task.") from error
    lines = [[*line[:-1], line[-1].rstrip("\r")] for line in lines]
    if not lines:
        raise UserError(f"{path} is empty.")
    header, rows = (COLA, lines) if _is_cola(lines[0]) else (lines[0], lines[1:])
    columns = {name.lstrip("\ufeff"): place for place, name in enumerate(header)}
    texts = max((names for names in TEXTS if set(names) <= set(columns)), key=len, default=None)
    label = next((name for name in LABELS if name in columns), None)
    if texts is None or label is None:
        raise UserError(f"{path} has no columns of a GLUE task. Received: {', '.join(header)[:200]}.")
    short = [number for number, row in enumerate(rows, 2) if len(row) <= max(columns[name] for name in (*texts, label))]
    if short:
        raise UserError(f"{path}, line {short[0]} has too few columns. Received: {len(short)} such lines.")
    found = [tuple(row[columns[name]] for name in texts) for row in rows]
    metrics = next((METRICS[name] for name in METRICS if name in columns), ())
    return Table(found, [row[columns[label]] for row in rows], label == "score", metrics)


def _is_cola(first: list[str]) -> bool:
    return len(first) == len(COLA) and first[1] in ("0", "1")


def words(text: str) -> list[str]:
    """Lower case without accents; punctuation marks are words of their own, as BERT's uncased models have it."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return re.findall(r"\w+|[^\w\s]", plain)


class Vocabulary:
    """Pieces of words and their numbers, with `SPECIAL` among them."""

    def __init__(self, pieces: Sequence[str], *, whole_words: bool):
        self.numbers = {piece: number for number, piece in enumerate(pieces)}
        self.whole_words = whole_words
        missing = [piece for piece in SPECIAL if piece not in self.numbers]
        if missing:
            raise UserError(f"The vocabulary has no {', '.join(missing)}. Give BERT's vocab.txt.")

    @classmethod
    def from_file(cls, path: Path) -> "Vocabulary":
        """A file with a piece a line, "##" before those that go on a word."""
        try:
            return cls(path.read_text(encoding="utf-8").splitlines(), whole_words=False)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}). Give BERT's vocab.txt.") from error

    @classmethod
    def of_texts(cls, texts: Sequence[tuple[str, ...]], size: int) -> "Vocabulary":
        """The most frequent words, ties in the order of the alphabet; `size` of them with the special ones."""
        counts = collections.Counter(word for row in texts for text in row for word in words(text))
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[: max(size - len(SPECIAL), 0)]
        return cls([*SPECIAL, *frequent], whole_words=True)

    def cut(self, word: str) -> list[int]:
        """The numbers of the longest pieces of `word` from its left; that of [UNK] if one is not there."""
        unknown = [self.numbers["[UNK]"]]
        if self.whole_words or len(word) > LONGEST_WORD:
            return [self.numbers[word]] if word in self.numbers else unknown
        found, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            stop = next((s for s in range(len(word), start, -1) if prefix + word[start:s] in self.numbers), None)
            if stop is None:
                return unknown
            found.append(self.numbers[prefix + word[start:stop]])
            start = stop
        return found

    def row(self, texts: tuple[str, ...], length: int) -> list[int]:
        """[CLS] text [SEP] text [SEP], the longer text cut until it fits, filled up with [PAD]."""
        parts = [[number for word in words(text) for number in self.cut(word)] for text in texts]
        while sum(map(len, parts)) > length - 1 - len(parts):
            max(parts, key=len).pop()
        line = [self.numbers["[CLS]"]]
        for part in parts:
            line += [*part, self.numbers["[SEP]"]]
        return line + [self.numbers["[PAD]"]] * (length - len(line))


def load(folder: Path | str, length: int, size: int, vocabulary: Path | str = "") -> Dataset:
    """A GLUE task as token numbers (n, length), in float32 (exact below 2²⁴).

    Args:
        length: Tokens a row, of the model's input; 4 at least.
        size: Numbers that the model's embedding knows.
        vocabulary: A WordPiece vocabulary; "": the words of the train set.

    Raises `UserError` for files that are not there or not GLUE's, and for a vocabulary larger than `size`.
    """
    folder = Path(folder)
    if length < 4:
        raise UserError(f"A text takes 4 tokens at least. Received: a model of {length}.")
    train = read(folder / "train.tsv")
    matched = folder / "dev_matched.tsv"  # MNLI's
    test = read(matched if matched.is_file() else folder / "dev.tsv")
    known = Vocabulary.from_file(Path(vocabulary)) if vocabulary else Vocabulary.of_texts(train.texts, size)
    if len(known.numbers) > size:
        raise UserError(f"{vocabulary} has {len(known.numbers)} pieces, more than the model's embedding of {size}.")
    names = sorted(set(train.labels))
    splits = []
    for table in (train, test):
        x = np.array([known.row(texts, length) for texts in table.texts], np.float32)
        if not train.scored and set(table.labels) - set(names):
            raise UserError(f"{folder}: the dev set has labels that the train set has not: "
                            f"{', '.join(sorted(set(table.labels) - set(names)))}.")  # fmt: skip
        values = map(float, table.labels) if train.scored else map(names.index, table.labels)
        splits.append(Split(x, np.array([[value] for value in values], np.float32)))
    task, classes = ("regression", 0) if train.scored else ("classes", len(names))
    mark = fingerprint(*(array for split in splits for array in (split.x, split.y)))
    return Dataset(folder.name, 0, splits[0], None, splits[1], task, classes, None, "FMNIST", mark, train.metrics)
