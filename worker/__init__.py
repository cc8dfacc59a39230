"""The application: settings, database, queue, pipeline, commands."""
