"""Everything that this package raises on purpose.

    DicomError
    ├── HeaderError                 the data set cannot be parsed, or an identifying attribute is missing or malformed
    │   └── IncompleteHeader        it can be parsed; an identifying attribute is missing or malformed
    ├── StoreError                  the store cannot take a file (disk full, read-only, ...); try again later
    ├── PixelError                  an image cannot become an array; permanent for this file
    │   ├── PixelDataMissing
    │   ├── PixelDataTruncated
    │   ├── PixelsTooLarge          more declared than the limit allows; nothing was decoded
    │   ├── PixelModuleInvalid      size, bits, lookup table or grey scale that contradict the standard or themselves
    │   ├── PixelsBlank             every pixel says the same: there is nothing to analyse
    │   └── PixelsUndecodable       names the transfer syntax
    ├── ReportError                 a report cannot be built from these sources; permanent
    └── PeerError                   a remote AE
        ├── PeerUnreachable         no association, or it broke; try again later
        ├── PeerBusy                a status that means "later" (0xA7xx, warnings of resources); try again later
        └── PeerRefused             a status or negotiation that will not change by itself; permanent

Messages are one line of words for an administrator and never carry patient data.
"""

from __future__ import annotations


class DicomError(Exception):
    """Base of all errors of dicom_io. `code` is a stable word for SQL; `retryable` says whether waiting can help."""

    code = "dicom_error"
    retryable = False


class HeaderError(DicomError):
    code = "header"


class IncompleteHeader(HeaderError):
    code = "header_incomplete"


class StoreError(DicomError):
    code = "store_unavailable"
    retryable = True


class PixelError(DicomError):
    code = "pixels"


class PixelDataMissing(PixelError):
    code = "pixel_data_missing"


class PixelDataTruncated(PixelError):
    code = "pixel_data_truncated"


class PixelsTooLarge(PixelError):
    code = "pixels_too_large"


class PixelModuleInvalid(PixelError):
    code = "pixel_module_invalid"


class PixelsBlank(PixelError):
    code = "pixels_blank"


class PixelsUndecodable(PixelError):
    code = "pixels_undecodable"


class ReportError(DicomError):
    code = "report"


class PeerError(DicomError):
    code = "peer"


class PeerUnreachable(PeerError):
    code = "peer_unreachable"
    retryable = True


class PeerBusy(PeerError):
    code = "peer_busy"
    retryable = True


class PeerRefused(PeerError):
    code = "peer_refused"
