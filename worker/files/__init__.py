"""Files without an archive: analyse, evaluate and train on folders."""
