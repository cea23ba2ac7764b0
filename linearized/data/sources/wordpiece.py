"""Conversion of texts to BERT's tokens: texts are cut into words, and words into the longest pieces of a vocabulary.

Words end at blanks, punctuation and Chinese characters. This follows `tokenization.py` of BERT (Devlin et al., arXiv
1810.04805), with the maximum word length of Transformers' `BertTokenizer`, 100 characters. It differs from BERT in one
point: if the user does not state whether capitals and accents are kept, they are kept if the vocabulary has capitals.
"""

import collections
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from linearized.base.errors import UserError
from linearized.base.reading import read_lines

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LONGEST_WORD = 100  # characters; longer words become [UNK]
CASINGS = ("auto", "cased", "uncased")
CAPITALS = 0.01  # share of cased pieces with capitals above which a vocabulary is cased; BERT's has .3, uncased ones 0
# Blocks of Chinese characters, as BERT counts them; Japanese kana and Korean hangul are cut like other words.
_CHINESE = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
            (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # fmt: skip


def words(text: str, *, cased: bool = False) -> list[str]:
    """Return the words of a text, in which punctuation marks and Chinese characters are words of their own.

    Control characters and U+FFFD are removed.

    Args:
        text: The text.
        cased: Whether capitals and accents are kept; otherwise both are removed.
    """
    spaced = "".join(f" {c} " if _is_chinese(c) else _clean(c) for c in text)
    if not cased:
        spaced = "".join(c for c in unicodedata.normalize("NFD", spaced.lower()) if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _is_punctuation(c) else c for c in spaced).split()


def _clean(character: str) -> str:
    if character in " \t\n\r":
        return " "
    category = unicodedata.category(character)
    if character == "\ufffd" or category.startswith("C"):
        return ""
    return " " if category == "Zs" else character


def _is_chinese(character: str) -> bool:
    return character >= "\u3400" and any(low <= ord(character) <= high for low, high in _CHINESE)


def _is_punctuation(character: str) -> bool:
    """Return whether a character is a punctuation mark by BERT's rule; such marks are words of their own.

    These are the printable ASCII characters except letters, digits and the blank, and all characters of Unicode's
    categories P*. Other symbols, such as "€", are parts of words.
    """
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


class Vocabulary:
    """A numbered list of words and pieces of words, which converts texts to token numbers.

    Attributes:
        numbers: Dictionary from a piece to its token number.
        size: Number of pieces in the list. Token numbers range from 0 to `size` - 1.
        whole_words: Whether each word of a text is one token ([UNK] if the list lacks the word); otherwise words are
            cut into pieces.
        cased: Whether capitals and accents of a text are kept.
    """

    def __init__(self, pieces: Sequence[str], *, whole_words: bool, casing: str = "auto", name: str = "The vocabulary"):
        """Number the pieces in their order; a duplicate piece gets the last of its numbers, as in BERT.

        Args:
            pieces: The pieces, including those of `SPECIAL`.
            whole_words: Whether each word of a text is one token; otherwise words are cut into pieces.
            casing: "cased" keeps capitals and accents of a text, "uncased" removes them, "auto" keeps them if pieces
                have capitals.
            name: Name of the vocabulary, for errors.

        Raises `UserError` if one of `SPECIAL`, such as [PAD], is missing.
        """
        self.numbers = {piece: number for number, piece in enumerate(pieces)}
        self.size, self.whole_words = len(pieces), whole_words
        self.cased = has_capitals(pieces) if casing == "auto" else casing == "cased"
        missing = [piece for piece in SPECIAL if piece not in self.numbers]
        if missing:
            raise UserError(f"{name} lacks {', '.join(missing)}. Give BERT's vocab.txt, a piece on each line.")

    @classmethod
    def from_file(cls, path: Path | str, casing: str = "auto") -> "Vocabulary":
        """Read a vocabulary file with one piece per line; the piece on line k has the number k - 1.

        Pieces that continue a word begin with "##".

        Args:
            path: File of the vocabulary.
            casing: "cased" keeps capitals and accents of a text, "uncased" removes them, "auto" keeps them if pieces
                have capitals.

        Raises `UserError` for a file that cannot be read, is not UTF-8, or lacks one of `SPECIAL`, such as [PAD].
        """
        lines = read_lines(path, "Give BERT's vocab.txt.")
        return cls(lines, whole_words=False, casing=casing, name=str(path))

    @classmethod
    def of_texts(cls, texts: Sequence[tuple[str, ...]], size: int, casing: str = "uncased") -> "Vocabulary":
        """Return a vocabulary that contains the most frequent words of some texts.

        It does not cut words into pieces: each word of a text becomes one token, which is [UNK] for words outside the
        vocabulary. Words of equal frequency are chosen in alphabetical order.

        Args:
            texts: One or two texts for each row.
            size: Largest number of entries, of which four are those of `SPECIAL`, such as [PAD].
            casing: "cased" keeps capitals and accents; "uncased" and "auto" remove them.
        """
        casing = "uncased" if casing == "auto" else casing
        cased = casing == "cased"
        counts = collections.Counter(word for row in texts for text in row for word in words(text, cased=cased))
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[: max(size - len(SPECIAL), 0)]
        return cls([*SPECIAL, *frequent], whole_words=True, casing=casing)

    def cut(self, word: str) -> list[int]:
        """Cut a word into the longest pieces of the vocabulary, from its left, and return their numbers.

        Only the number of [UNK] is returned if the word cannot be cut completely into pieces, or if it has more than
        100 characters (`LONGEST_WORD`). If `whole_words` is true, the result is the number of the word, or of [UNK].
        """
        unknown = [self.numbers["[UNK]"]]
        if self.whole_words or len(word) > LONGEST_WORD:
            return [self.numbers[word]] if self.whole_words and word in self.numbers else unknown
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
        """Return the token numbers of one or two texts: [CLS] text [SEP], or [CLS] text [SEP] text [SEP].

        If the texts are too long, the last token of the longer text is dropped repeatedly until they fit. If both are
        equally long, the token is dropped from the second text, as in BERT.

        Args:
            texts: One or two texts.
            length: Number of tokens to return; shorter rows are padded with [PAD].
        """
        parts = [[number for word in words(text, cased=self.cased) for number in self.cut(word)] for text in texts]
        while sum(map(len, parts)) > length - 1 - len(parts):
            max(reversed(parts), key=len).pop()
        line = [self.numbers["[CLS]"]]
        for part in parts:
            line += [*part, self.numbers["[SEP]"]]
        return line + [self.numbers["[PAD]"]] * (length - len(line))


def has_capitals(pieces: Sequence[str]) -> bool:
    """Return whether a vocabulary distinguishes capitals: at least 1 % of its pieces (`CAPITALS`) contain a capital.

    Only pieces with letters that have two cases are counted, and no pieces in brackets, such as [UNK] and [unused1].

    Args:
        pieces: All pieces of the vocabulary.
    """
    plain = [piece for piece in pieces if not (piece.startswith("[") and piece.endswith("]"))]
    with_case = [piece for piece in plain if piece.lower() != piece.upper()]
    capitals = sum(piece != piece.lower() for piece in with_case)
    return capitals > 0 and capitals >= CAPITALS * len(with_case)
