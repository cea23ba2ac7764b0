"""BERT's words and pieces, against values worked out from the definition of its tokenizer."""

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.data.sources.wordpiece import LONGEST_WORD, SPECIAL, Vocabulary, has_capitals, words


def written(path, pieces, end="\n"):
    path.write_bytes(end.join([*pieces, ""]).encode())
    return path


@pytest.mark.parametrize(
    "text, uncased, cased",
    [
        ("Trée, GOOD!", ["tree", ",", "good", "!"], ["Trée", ",", "GOOD", "!"]),
        ("中文abc字", ["中", "文", "abc", "字"], ["中", "文", "abc", "字"]),
        ("かな 한글", ["かな", None], ["かな", "한글"]),  # NFD takes hangul apart
        ("a_b $5 €5 ^~`", ["a", "_", "b", "$", "5", "€5", "^", "~", "`"], None),
        ("a\u2028b\u00a0c\u3000d", ["a", "b", "c", "d"], None),
        ("a\u200bb\x00c\ufffdd\x07e\tf", ["abcde", "f"], None),
        ("don't “quoted” — x", ["don", "'", "t", "“", "quoted", "”", "—", "x"], None),
        ("[SEP]", ["[", "sep", "]"], ["[", "SEP", "]"]),
        ("İ", ["i"], ["İ"]),
        ("", [], []),
    ],
)
def test_words_are_cut_as_bert_cuts_them(text, uncased, cased):
    for expected, found in ((uncased, words(text)), (cased, words(text, cased=True))):
        if expected is not None and None not in expected:
            assert found == expected


def test_lines_end_at_line_feeds_alone(tmp_path):
    pieces = [*SPECIAL, "\u2028", "a\x0bc", "b", "\x85", "d"]
    for end in ("\n", "\r\n"):
        known = Vocabulary.from_file(written(tmp_path / "vocab.txt", pieces, end))
        assert [known.numbers[piece] for piece in pieces] == list(range(9)) and known.size == 9


def test_numbers_are_those_of_lines_with_blank_and_repeated_ones(tmp_path):
    known = Vocabulary.from_file(written(tmp_path / "vocab.txt", [*SPECIAL, "", "a", "a", "b"]))
    assert known.cut("a") == [6] and known.cut("b") == [7] and known.size == 8


def test_longest_pieces_from_the_left():
    known = Vocabulary([*SPECIAL, "riv", "##er", "river", "##s", "a", "##a"], whole_words=False)
    assert known.cut("river") == [6] and known.cut("rivers") == [6, 7] and known.cut("rivera") == [6, 9]
    assert known.cut("rivet") == [1] and known.cut("er") == [1]
    assert known.cut("a" * LONGEST_WORD) == [8] + [9] * (LONGEST_WORD - 1) and known.cut("a" * (LONGEST_WORD + 1)) == [
        1
    ]


def test_two_chinese_characters_are_two_pieces():
    known = Vocabulary([*SPECIAL, "中", "文"], whole_words=False)
    assert known.row(("中文",), 6) == [2, 4, 5, 3, 0, 0]


def test_casing_is_read_from_the_vocabulary_or_given():
    pieces = [*SPECIAL, "[MASK]", "[unused1]", "Paris", "paris", "é"]
    assert has_capitals(pieces) and not has_capitals([piece for piece in pieces if piece != "Paris"])
    assert not has_capitals([*SPECIAL, "中", "1", "!"])
    automatic, uncased = (Vocabulary(pieces, whole_words=False, casing=casing) for casing in ("auto", "uncased"))
    assert automatic.row(("Paris é",), 5) == [2, 6, 8, 3, 0]
    assert uncased.row(("Paris é",), 5) == [2, 7, 1, 3, 0]
    assert Vocabulary([*pieces[:6], "paris"], whole_words=False, casing="cased").row(("Paris",), 4) == [2, 1, 3, 0]


def test_the_longer_text_is_cut_and_the_second_of_equal_ones():
    known = Vocabulary([*SPECIAL, *"abcdef"], whole_words=False)
    assert known.row(("a b c d", "e"), 6) == [2, 4, 5, 3, 8, 3]
    assert known.row(("a b c", "d e f"), 8) == [2, 4, 5, 6, 3, 7, 8, 3]
    assert known.row(("a b c d",), 4) == [2, 4, 5, 3]


def test_a_vocabulary_of_texts_counts_words():
    known = Vocabulary.of_texts([("b a", "b"), ("B!",)], 6)
    assert list(known.numbers) == [*SPECIAL, "b", "!"]
    assert list(Vocabulary.of_texts([("b a", "b"), ("B!",)], 6, "cased").numbers) == [*SPECIAL, "b", "!"]
    assert "B" in Vocabulary.of_texts([("b a", "b"), ("B!",)], 9, "cased").numbers


@pytest.mark.parametrize("content, message", [(b"\xff\xfe\x00", "UTF-8"), (b"a\nb\n", r"lacks \[PAD\], \[UNK\]"),
                                              (b"", "lacks")])  # fmt: skip
def test_no_vocabulary_is_one_line_with_its_name(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"vocab\.txt .*{message}"):
        Vocabulary.from_file(tmp_path / "vocab.txt")


def test_random_text_never_leaves_the_vocabulary():
    random = np.random.default_rng(0)
    known = Vocabulary([*SPECIAL, "a", "##b"], whole_words=False)
    for _ in range(200):
        text = "".join(chr(c) for c in random.integers(0, 0x3000, 30))
        assert set(known.row((text,), 12)) <= set(range(6))
