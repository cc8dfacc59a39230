"""Celery: the app, its tasks, its schedule and its broker."""
