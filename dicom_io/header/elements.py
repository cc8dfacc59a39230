"""A walk over the data elements of an encoded data set (PS3.5 Section 7) that decodes nothing and trusts nothing.

pydicom reads generously: it guesses, warns and recurses. That is right for a file that one of us opens and wrong for
bytes from the network. This walk knows tags, value representations and lengths only; it never allocates what a length
claims, never recurses, and stops with HeaderError at the first thing that does not add up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dicom_io.errors import HeaderError

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITER = 0xFFFEE00D
SEQUENCE_DELIMITER = 0xFFFEE0DD

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

# PS3.5 7.1.2: these have two reserved bytes and a length of 32 bits.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

# A header with more elements than this is an attack on our time, not a radiograph.
MAXIMUM_ELEMENTS = 200_000
MAXIMUM_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are laid out: with or without value representation, and the order of bytes (PS3.5 Annex A)."""

    implicit: bool
    little_endian: bool

    @property
    def order(self) -> str:
        """The byte order character of `struct`."""
        return "<" if self.little_endian else ">"


@dataclass(frozen=True, slots=True)
class Element:
    """Where one data element's value lies in its stream; `vr` is None where the encoding does not say."""

    tag: int
    vr: str | None
    length: int
    offset: int


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """Return the layout that a transfer syntax prescribes.

    All but two are Explicit VR Little Endian, those yet unknown included (PS3.5 A.4); a deflated data set is that
    too, once inflated.
    """
    if transfer_syntax_uid == IMPLICIT_LITTLE:
        return Encoding(implicit=True, little_endian=True)
    return Encoding(implicit=False, little_endian=transfer_syntax_uid != EXPLICIT_BIG)


class Walk:
    """Walks one stream from its present position to its end, or to `end`.

    Parameters
    ----------
    stream : BinaryIO
        Seekable. The value of the element just given may be read from it (`value`); the walk finds its place again.
    encoding : Encoding
        How the elements are laid out.
    end : int, optional
        Where the walk ends, for one within a value of another walk over the same stream.
    most : int
        The data elements, all nested ones included, after which the walk gives up.
    """

    def __init__(
        self, stream: BinaryIO, encoding: Encoding, end: int | None = None, most: int = MAXIMUM_ELEMENTS
    ) -> None:
        self._stream = stream
        self.encoding = encoding
        self._position = stream.tell()
        self._end = stream.seek(0, 2) if end is None else end
        self._most = most
        self._seen = 0

    def elements(self, *, before_tag: int = 1 << 32) -> Iterator[Element]:
        """Yield the top level elements in order, up to the first one at or beyond `before_tag`.

        Raises
        ------
        HeaderError
            An element is cut off, reaches beyond the end, or has no known value representation.
        """
        while self._position < self._end and self._next_tag() < before_tag:
            element = self._read_element(self.encoding)
            self._skip_value(element)
            yield element

    @property
    def position(self) -> int:
        """Where the next element begins."""
        return self._position

    def value(self, element: Element, limit: int) -> bytes:
        """Return the value's bytes; one longer than `limit` is an error, for what we read is never that long."""
        if element.length > limit:
            raise HeaderError(f"the value of {tag_text(element.tag)} is longer than {limit} bytes")
        self._stream.seek(element.offset)
        return self._stream.read(element.length)

    def beginning(self, element: Element, limit: int) -> bytes:
        """Return the value's first bytes, `limit` at most; none of a value of undefined length, which is no text."""
        if element.length == UNDEFINED_LENGTH:
            return b""
        self._stream.seek(element.offset)
        return self._stream.read(min(element.length, limit))

    def items(self, element: Element) -> Iterator[Walk]:
        """Yield a walk over each item of the sequence that `elements` has just given (PS3.5 7.5).

        What was made UN is Implicit VR Little Endian inside (PS3.5 6.2.2). A value of another representation than SQ
        or UN has no items. All walks together read no more elements than this one may.

        Raises
        ------
        HeaderError
            What stands there is no sequence of items.
        """
        if element.vr not in (None, "SQ", "UN"):
            return
        self._stream.seek(element.offset)
        outer = Walk(self._stream, self._inner(element, self.encoding), self._position, self._most - self._seen)
        for item in outer.elements():
            if item.tag == SEQUENCE_DELIMITER:
                return
            if item.tag != ITEM:
                raise HeaderError(f"{tag_text(element.tag)} holds something else than items")
            self._stream.seek(item.offset)
            inner = Walk(self._stream, outer.encoding, outer.position, self._most - self._seen)
            yield inner
            self._seen += inner._seen + 1

    def _take(self, count: int) -> bytes:
        self._stream.seek(self._position)
        taken = self._stream.read(count)
        if len(taken) != count:
            raise HeaderError("the data set ends within a data element")
        self._position += count
        return taken

    def _next_tag(self) -> int:
        """Return the tag ahead; what is not even a tag counts as the lowest, so that reading it tells what is wrong."""
        self._stream.seek(self._position)
        head = self._stream.read(4)
        if len(head) < 4:
            return 0
        group, number = struct.unpack(self.encoding.order + "HH", head)
        return int(group << 16 | number)

    def _read_element(self, encoding: Encoding) -> Element:
        self._seen += 1
        if self._seen > self._most:
            raise HeaderError(f"the header has more than {self._most} data elements")
        head = self._take(8)
        group, number = struct.unpack(encoding.order + "HH", head[:4])
        tag = group << 16 | number
        # PS3.5 7.5: items and delimiters never carry a value representation.
        if encoding.implicit or group == 0xFFFE:
            return Element(tag, None, struct.unpack(encoding.order + "I", head[4:])[0], self._position)
        vr = head[4:6]
        if vr in _LONG_VRS:
            length = struct.unpack(encoding.order + "I", self._take(4))[0]
        elif vr in _SHORT_VRS:
            length = struct.unpack(encoding.order + "H", head[6:])[0]
        else:
            raise HeaderError(f"{tag_text(tag)} has no known value representation")
        return Element(tag, vr.decode("ascii"), length, self._position)

    def _skip_value(self, element: Element) -> None:
        if element.length == UNDEFINED_LENGTH:
            self._skip_undefined(element)
            return
        if element.length > self._end - self._position:
            raise HeaderError(f"{tag_text(element.tag)} reaches beyond the end of the data set")
        self._position += element.length

    def _skip_undefined(self, element: Element) -> None:
        """Skip sequences and encapsulated values of undefined length, however deeply nested, without recursion.

        The stack holds, for each open level, whether it is an item (elements follow) or a sequence (items follow), and
        the layout of its elements: inside UN of undefined length that is Implicit VR Little Endian (PS3.5 6.2.2).
        """
        stack = [(element.tag == ITEM, self._inner(element, self.encoding))]
        while stack:
            in_item, encoding = stack[-1]
            inner = self._read_element(encoding)
            if inner.tag == (ITEM_DELIMITER if in_item else SEQUENCE_DELIMITER):
                stack.pop()
            elif in_item == (inner.tag >> 16 == 0xFFFE):
                raise HeaderError(f"the items within {tag_text(element.tag)} are not properly nested")
            elif inner.length != UNDEFINED_LENGTH:
                self._skip_value(inner)
            elif len(stack) >= MAXIMUM_DEPTH:
                raise HeaderError(f"sequences are nested deeper than {MAXIMUM_DEPTH} levels")
            else:
                stack.append((not in_item, self._inner(inner, encoding)))

    @staticmethod
    def _inner(element: Element, encoding: Encoding) -> Encoding:
        return Encoding(implicit=True, little_endian=True) if element.vr == "UN" else encoding


def tag_text(tag: int) -> str:
    """Return a tag as the standard prints it, such as (0008,0018)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
