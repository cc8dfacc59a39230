"""Where received objects lie: a folder or a bucket."""
