"""A process that decodes one JPEG lossless frame with GDCM, started by `frame_decoding`; it imports nothing of ours.

Only GDCM decodes these transfer syntaxes (1.2.840.10008.1.2.4.57 and .70) under a licence that fits, and on damaged
data it ends its process: a C++ exception leaves through the C code of libjpeg. So it gets one of its own, which takes a
tenth of a second, and a limit on memory, which GDCM has not.

Standard input: one line of JSON (`_decode_in_process` there), then the codestream. Standard output: the samples.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import gdcm


def main() -> None:
    """Read the request, decode, write the samples; end with status 1 where there are none."""
    request = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_AS, (request["maximum_memory"], request["maximum_memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    samples = decode(request, sys.stdin.buffer.read())
    if samples is None:
        sys.exit(1)
    sys.stdout.buffer.write(samples)


def decode(request: dict[str, Any], codestream: bytes) -> bytes | None:
    """Return the samples as GDCM delivers them, None where it cannot."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(codestream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((request["columns"], request["rows"], 1))
    image.SetDataElement(element)
    photometric = gdcm.PhotometricInterpretation.GetPIType(request["photometric"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(photometric))
    if request["samples"] == 3:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(request["transfer_syntax"])))
    bits = request["bits_stored"]
    image.SetPixelFormat(
        gdcm.PixelFormat(request["samples"], request["bits_allocated"], bits, bits - 1, request["signed"])
    )
    buffer = image.GetBuffer()
    # GDCM's wrapper gives bytes as text
    return None if buffer is None else bytes(buffer.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
