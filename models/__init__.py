"""Arrays in, arrays out: preprocessing, the VGG classifier, the Faster R-CNN detector. Knows no DICOM."""
