"""DICOM in and out: reception, storage, pixels, reports, delivery. Knows no queue, no database, no torch."""
