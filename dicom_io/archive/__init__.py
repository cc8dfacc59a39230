"""Finding and retrieving studies of an archive: C-FIND, C-MOVE, C-GET, DICOMweb."""
