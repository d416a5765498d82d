"""Records with the pieces of a text become one record with all of it, thread by thread."""
from __future__ import annotations

import tracemalloc
from typing import NamedTuple, Optional

import pytest

from pytools.read.pieces import CUT, LAST, MOST_BYTES, Pieces

pytestmark = pytest.mark.host_only


class Record(NamedTuple):
    tid: int
    piece: int
    what: int
    text: bytes
    cut: Optional[int] = None


def texts(*records: Record) -> list[tuple[int, bytes, Optional[int]]]:
    pieces = Pieces()
    found = [record for record in map(pieces.whole, records) if record is not None]
    return [(record.tid, record.text, record.cut) for record in found]


def test_pieces_of_several_threads_at_a_time() -> None:
    assert texts(
        Record(1, 0, 0, b"a"),
        Record(2, 0, LAST, b"x"),
        Record(3, 0, 0, b"k"),
        Record(1, 1, 0, b"b"),
        Record(3, 1, LAST | CUT, b"l"),
        Record(1, 2, LAST, b"c"),
    ) == [(2, b"x", 0), (3, b"kl", 1), (1, b"abc", 0)]


def test_a_text_of_which_pieces_were_lost_is_cut() -> None:
    assert texts(
        # The first one; one between; the last one, and then another text.
        Record(1, 1, LAST, b"b"),
        Record(2, 0, 0, b"a"),
        Record(2, 2, LAST, b"c"),
        Record(3, 0, 0, b"gone"),
        Record(3, 0, LAST, b"whole"),
    ) == [(1, b"b", 1), (2, b"ac", 1), (3, b"whole", 0)]


def test_texts_whose_last_piece_never_comes_are_bounded_and_the_others_whole() -> None:
    pieces, text = Pieces(), bytes(MOST_BYTES // 8)
    tracemalloc.start()
    try:
        for thread in range(100):
            assert pieces.whole(Record(thread, 0, 0, text[thread:])) is None
        assert tracemalloc.get_traced_memory()[0] < MOST_BYTES + 65536
        # The oldest were given up, and what comes of them later is cut.
        kept, cut = pieces.whole(Record(99, 1, LAST, b"z")), pieces.whole(Record(0, 1, LAST, b"z"))
        assert (len(kept.text), kept.cut) == (len(text) - 99 + 1, 0)
        assert (cut.text, cut.cut) == (b"z", 1)
    finally:
        tracemalloc.stop()
