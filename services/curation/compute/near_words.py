"""Words of many texts at once: `domain.text.words` on columns, from bytes, without a Python loop over words.

Eight bytes of every word are read as one integer from all offsets together; a word is a 52-bit hash of those. That hash
is the same on every machine and in every release, unlike the hash of a table engine.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.curation.domain.signs import fold

CHUNK = 4096
"""Texts handled together: their number fits the 12 bits beside a word's hash."""
CHARACTERS = 4_000_000
"""Of the texts handled together, since each takes some forty bytes on the way."""
HASH_BITS = 52

U64: TypeAlias = NDArray[np.uint64]
I64: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

_LETTER, _JOIN, _MINUS, _DIGIT, _CAPITAL, _AT, _COMMA, _BLANK = (1 << bit for bit in range(8))
_LOW = np.uint64((1 << HASH_BITS) - 1)
_KEEP = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
ODD = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2, _M3 = (np.uint64(each) for each in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93))


@dataclass(frozen=True, slots=True)
class Tokens:
    """Every word of some texts in order: those of text i are `hashes[first[i]:first[i + 1]]`.

    `digits` and `addresses` are the places of words with a digit or an @, `within` of words with a capital within a
    sentence, `small` of words that begin with a lower-case letter; the last two only where asked for.
    """

    hashes: U64
    first: I64
    lengths: I64
    digits: I64
    addresses: I64
    within: I64
    small: I64

    @property
    def rows(self) -> I64:
        """The text each word stands in."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


def hash_of(word: str) -> int:
    """The hash of one word, as `tokenise` gives it."""
    data = word.encode("utf-8", "surrogatepass")
    return int(_hash(data + b"\x00" * 9, np.zeros(1, np.int64), np.array([len(data)], np.int64))[0])


NUMBER, ADDRESS = "#", "@"


def mix(value: U64) -> U64:
    """A bijection of 64-bit integers that scatters them (splitmix64; Steele, Lea, Flood, 2014)."""
    value = (value ^ (value >> np.uint64(30))) * _M1
    value = (value ^ (value >> np.uint64(27))) * _M2
    return value ^ (value >> np.uint64(31))


def spans(texts: Iterable[str]) -> list[tuple[int, int]]:
    """Where to part texts (first, and behind the last) so that none has more than `CHUNK`, nor `CHARACTERS` in all."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64))
    found, start, before = list[tuple[int, int]](), 0, 0
    while start < len(ends):
        most = int(np.searchsorted(ends, before + CHARACTERS, "right"))
        stop = min(start + CHUNK, max(start + 1, most))
        found.append((start, stop))
        start, before = stop, int(ends[stop - 1])
    return found


def tokenise(chunk: Sequence[str], *, masked: bool = False, cases: bool = False) -> Tokens:
    """The words of at most `CHUNK` texts; `masked` makes numbers `#` and addresses `@`, as `domain.text.masked`."""
    encoded = [fold(text).encode("utf-8", "surrogatepass") for text in chunk]
    raw = b"\x00\x00" + b"\x00".join(encoded) + b"\x00" * 9
    kinds = np.frombuffer(raw.translate(_KIND_OF), np.uint8)
    lowered = raw.translate(_LOWER_OF)
    part = (kinds & (_LETTER | _DIGIT)) != 0
    word = _joined(kinds, part)
    edges = np.flatnonzero(word[1:] != word[:-1]) + 1
    starts = np.ascontiguousarray(edges[0::2])
    lengths = edges[1::2] - starts
    first = np.searchsorted(starts, np.cumsum([2] + [len(each) + 1 for each in encoded]))
    hashes = _hash(lowered, starts, lengths)
    digits = _places(starts, np.flatnonzero((kinds & _DIGIT) != 0))
    addresses = _places(starts, np.flatnonzero(((kinds & _AT) != 0) & word))
    within: I64 = np.empty(0, np.int64)
    small: I64 = within
    if cases:
        within, small = _cases(kinds, part, starts, lengths, first)
    if masked:
        hashes[digits] = hash_of(NUMBER)
        hashes[addresses] = hash_of(ADDRESS)
    empty = np.flatnonzero(np.diff(first) == 0)
    tokens = Tokens(hashes, first, lengths, digits, addresses, within, small)
    return _with_wordless(chunk, empty, tokens) if len(empty) else tokens


def distinct(tokens: Tokens) -> tuple[U64, I64]:
    """The distinct words of each text, ascending, and how many each has."""
    count = len(tokens.first) - 1
    packed = np.sort((tokens.rows.astype(np.uint64) << np.uint64(HASH_BITS)) | tokens.hashes)
    fresh: Bools = np.ones(len(packed), np.bool_)
    np.not_equal(packed[1:], packed[:-1], out=fresh[1:])
    packed = packed[fresh]
    return packed & _LOW, np.bincount((packed >> np.uint64(HASH_BITS)).astype(np.int64), minlength=count)


def ordered(hashes: U64, rows: I64, count: int) -> U64:
    """A hash of each text's sequence of hashes (`rows` ascending); 0 for an empty one."""
    total: U64 = np.zeros(count, np.uint64)
    if len(hashes):
        fresh = np.flatnonzero(np.diff(rows, prepend=-1))
        place = np.arange(len(rows)) - np.repeat(fresh, np.diff(fresh, append=len(rows)))
        scattered = mix(hashes + (place.astype(np.uint64) + np.uint64(1)) * ODD)
        total[rows[fresh]] = np.add.reduceat(scattered, fresh)
    return total


def _joined(kinds: NDArray[np.uint8], part: Bools) -> Bools:
    """Which bytes belong to a word: parts, a sign that joins two of them, a minus that opens a number."""
    word = part.copy()
    inner = word[1:-1]
    joins = np.flatnonzero((kinds[1:-1] & _JOIN) != 0)
    inner[joins] |= part[joins] & part[joins + 2]
    minus = joins[(kinds[joins + 1] & _MINUS) != 0]
    opens = (kinds[minus + 2] & _DIGIT) != 0
    inner[minus] |= opens & ((kinds[minus] & (_LETTER | _DIGIT | _JOIN)) == 0)
    return word


def _places(starts: I64, bytes_at: I64) -> I64:
    """The words that the bytes belong to, each once."""
    places: I64 = np.searchsorted(starts, bytes_at, "right") - 1
    return places[np.diff(places, prepend=-1) != 0]


def _cases(kinds: NDArray[np.uint8], part: Bools, starts: I64, lengths: I64, first: I64) -> tuple[I64, I64]:
    opening = kinds[starts]
    capital = (opening & _CAPITAL) != 0
    rows: I64 = np.repeat(np.arange(len(first) - 1), np.diff(first))
    shouted = 2 * np.bincount(rows[capital], minlength=len(first) - 1) > np.diff(first)
    at = np.flatnonzero(capital & ~shouted[rows])
    start = starts[at]
    within = ((kinds[start - 1] & _BLANK) != 0) & (part[start - 2] | ((kinds[start - 2] & _COMMA) != 0))
    # `I` and `I'm` are no names; a name of one letter is none either.
    within &= (lengths[at] > 1) & ((kinds[start + 1] & _JOIN) == 0)
    return at[within], np.flatnonzero(((opening & _LETTER) != 0) & ~capital)


def _with_wordless(chunk: Sequence[str], empty: I64, tokens: Tokens) -> Tokens:
    """A text without any word is one word itself."""
    at = tokens.first[empty]

    def moved(places: I64) -> I64:
        return places + np.searchsorted(at, places, "right")

    return Tokens(
        np.insert(tokens.hashes, at, np.array([hash_of(chunk[row].strip()) for row in empty], np.uint64)),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(np.maximum(np.diff(tokens.first), 1))]),
        np.insert(tokens.lengths, at, 8),
        moved(tokens.digits), moved(tokens.addresses), moved(tokens.within), moved(tokens.small),
    )  # fmt: skip


def _hash(lowered: bytes, starts: I64, lengths: I64) -> U64:
    windows: U64 = np.ndarray((len(lowered) - 7,), "<u8", buffer=lowered, strides=(1,))
    hashes = mix((windows[starts] & _KEEP[np.minimum(lengths, 8)]) + lengths.astype(np.uint64) * ODD)
    at, done = np.flatnonzero(lengths > 8), 8
    while len(at):
        rest = windows[starts[at] + done] & _KEEP[np.minimum(lengths[at] - done, 8)]
        hashes[at] = mix(hashes[at] * _M3 ^ rest)
        done += 8
        at = at[lengths[at] > done]
    return hashes & _LOW


def _table() -> bytes:
    kinds = bytearray(256)
    for byte in range(256):
        sign = chr(byte)
        if byte >= 0x80 or sign in "$%" or sign.isalpha():
            kinds[byte] = _LETTER | (_CAPITAL if "A" <= sign <= "Z" else 0)
        elif sign.isdigit():
            kinds[byte] = _DIGIT
    for sign in "'@._/:+-":
        kinds[ord(sign)] = _JOIN
    kinds[ord("-")] |= _MINUS
    kinds[ord("@")] |= _AT
    kinds[ord(",")] = _COMMA
    kinds[ord(" ")] = _BLANK
    return bytes(kinds)


_KIND_OF = _table()
_LOWER_OF = bytes.maketrans(bytes(range(65, 91)), bytes(range(97, 123)))
