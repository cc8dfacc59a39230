"""Everything that this package raises on purpose.

    DicomError
    ├── HeaderError                 the data set cannot be parsed, or an identifying attribute is missing or malformed
    │   └── IncompleteHeader        it can be parsed; an identifying attribute is missing or malformed
    ├── StoreError                  the store cannot take or give a file (disk full, away, ...); try again later
    │   └── PathOutside             a path leads out of the store; permanent
    ├── PixelError                  an image cannot become an array; permanent for this file
    │   ├── PixelDataMissing
    │   ├── PixelDataTruncated
    │   ├── PixelDataDamaged        all of it seems there, and what it holds cannot be the image
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
    """The data set cannot be parsed, or an identifying attribute is missing or malformed."""

    code = "header"


class IncompleteHeader(HeaderError):
    """The data set can be parsed; an identifying attribute is missing or malformed."""

    code = "header_incomplete"


class StoreError(DicomError):
    """The store cannot take or give a file: disk full, read-only, gone."""

    code = "store_unavailable"
    retryable = True


class PathOutside(StoreError):
    """A path leads out of the store."""

    code = "path_outside"
    retryable = False


class PixelError(DicomError):
    """An image cannot become an array; permanent for this file."""

    code = "pixels"


class PixelDataMissing(PixelError):
    """The data set has no pixel data."""

    code = "pixel_data_missing"


class PixelDataTruncated(PixelError):
    """There is less pixel data than the header declares."""

    code = "pixel_data_truncated"


class PixelDataDamaged(PixelError):
    """The pixel data contradicts itself: part of it was overwritten, lost or exchanged."""

    code = "pixel_data_damaged"


class PixelsTooLarge(PixelError):
    """More is declared than the limits allow; nothing was decoded."""

    code = "pixels_too_large"


class PixelModuleInvalid(PixelError):
    """Size, bits, lookup table or grey scale contradict the standard or themselves."""

    code = "pixel_module_invalid"


class PixelsBlank(PixelError):
    """Every pixel says the same: there is nothing to analyse."""

    code = "pixels_blank"


class PixelsUndecodable(PixelError):
    """No decoder makes an array of it; the message names the transfer syntax."""

    code = "pixels_undecodable"


class ReportError(DicomError):
    """A report cannot be built from these sources; permanent."""

    code = "report"


class PeerError(DicomError):
    """A remote AE did not do what was asked."""

    code = "peer"


class PeerUnreachable(PeerError):
    """No association came about, or it broke."""

    code = "peer_unreachable"
    retryable = True


class PeerBusy(PeerError):
    """The peer answered with a status that means "later"."""

    code = "peer_busy"
    retryable = True


class PeerRefused(PeerError):
    """The peer refused, by status or negotiation, what will not change by itself."""

    code = "peer_refused"
