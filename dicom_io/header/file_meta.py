"""The file meta information that we put before a data set that came without one (PS3.10 7.1)."""

from __future__ import annotations

import struct

from dicom_io.uids import derive_uid

IMPLEMENTATION_CLASS_UID = derive_uid("bonewatch", "implementation class")
IMPLEMENTATION_VERSION_NAME = "BONEWATCH_1"  # PS3.7 D.3.3.2: at most 16 characters


def encode_file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble, prefix and file meta information for a data set of this class, identity and encoding.

    References
    ----------
    PS3.10 Table 7.1-1.
    """
    group = b"".join(
        (
            struct.pack("<HH2sxxI", 0x0002, 0x0001, b"OB", 2) + b"\x00\x01",
            _short(0x0002, b"UI", sop_class_uid),
            _short(0x0003, b"UI", sop_instance_uid),
            _short(0x0010, b"UI", transfer_syntax_uid),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(group)) + group


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "  # PS3.5 6.2
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
