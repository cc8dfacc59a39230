"""What a data set says of the part of the body beside Body Part Examined: coded regions, and words of descriptions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from dicom_io.errors import HeaderError
from dicom_io.header.elements import Element, Walk

# More than these are no description of an image
_MOST_REGIONS = 64
_MOST_DESCRIPTIONS = 64
_MAXIMUM_TEXT_BYTES = 1 << 10
# Codes of the part of the body (PS3.3 10.5, C.8.11.2; C.7.6.16.2.8 in the functional groups of multi-frame images)
_ANATOMIC_REGION = 0x00082218
_PRIMARY_STRUCTURE = 0x00082228
_FRAME_ANATOMY = 0x00209071
_FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)
_CODE_VALUES = (0x00080100, 0x00080119, 0x00080120)
_CODING_SCHEME = 0x00080102
_CODE_MEANING = 0x00080104
# Free texts about study, series and procedure, and the sequences that hold such
_DESCRIPTIONS = {
    0x00081030: "Study Description",
    0x0008103E: "Series Description",
    0x00181030: "Protocol Name",
    0x00181400: "Acquisition Device Processing Description",
    0x00321060: "Requested Procedure Description",
    0x00400007: "Scheduled Procedure Step Description",
    0x00400254: "Performed Procedure Step Description",
}
_DESCRIPTION_CODES = {0x00081032: "Procedure Code Sequence", 0x00321064: "Requested Procedure Code Sequence"}
_REQUEST_ATTRIBUTES = 0x00400275


class HeaderWords:
    """Collects codes and descriptions as they are encoded, from the elements of a walk.

    `regions` holds value, coding scheme and meaning of each code of the part of the body, three times nothing for one
    that is there and cannot be read; `descriptions` the name of an attribute and its text.
    """

    def __init__(self) -> None:
        self.regions: list[tuple[bytes, bytes, bytes]] = []
        self.descriptions: list[tuple[str, bytes]] = []

    def read(self, walk: Walk, element: Element) -> None:
        """Take what this element says; `walk` has just given it."""
        if element.tag in (_ANATOMIC_REGION, _PRIMARY_STRUCTURE):
            self._take_regions(walk, element)
        elif element.tag in _FUNCTIONAL_GROUPS:
            self._take_frames(walk, element)
        elif len(self.descriptions) >= _MOST_DESCRIPTIONS:
            return
        elif element.tag in _DESCRIPTIONS:
            self.descriptions.append((_DESCRIPTIONS[element.tag], walk.beginning(element, _MAXIMUM_TEXT_BYTES)))
        elif element.tag in _DESCRIPTION_CODES:
            meanings = (meaning for _, _, meaning in _codes(walk, element))
            self.descriptions += [(_DESCRIPTION_CODES[element.tag], meaning) for meaning in meanings]
        elif element.tag == _REQUEST_ATTRIBUTES:
            for item, inner in _inner_elements(walk, element):
                if inner.tag in _DESCRIPTIONS:
                    self.read(item, inner)

    def _take_regions(self, walk: Walk, element: Element) -> None:
        self.regions = list(dict.fromkeys((*self.regions, *_codes(walk, element))))[:_MOST_REGIONS]

    def _take_frames(self, walk: Walk, element: Element) -> None:
        for group, macro in _inner_elements(walk, element):
            if macro.tag == _FRAME_ANATOMY:
                for item, inner in _inner_elements(group, macro):
                    if inner.tag == _ANATOMIC_REGION:
                        self._take_regions(item, inner)


def _codes(walk: Walk, element: Element) -> list[tuple[bytes, bytes, bytes]]:
    """Return value, coding scheme and meaning of each item; three times nothing for a sequence that cannot be read."""
    found = []
    try:
        for item in islice(walk.items(element), _MOST_REGIONS):
            parts = {inner.tag: item.beginning(inner, _MAXIMUM_TEXT_BYTES) for inner in item.elements()}
            value = next((parts[tag] for tag in _CODE_VALUES if parts.get(tag, b"").strip(b" \0")), b"")
            code = (value, parts.get(_CODING_SCHEME, b""), parts.get(_CODE_MEANING, b""))
            if any(part.strip(b" \0") for part in code):
                found.append(code)
    except HeaderError:
        found.append((b"", b"", b""))
    return found


def _inner_elements(walk: Walk, element: Element) -> Iterator[tuple[Walk, Element]]:
    for item in walk.items(element):
        for inner in item.elements():
            yield item, inner
