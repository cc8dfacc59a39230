"""A study and its jobs: from what is stored to one committed result."""
