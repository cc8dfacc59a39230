"""Images and labels: data sets, augmentation, chips and samples."""
