"""The unit tests of everything that speaks SQL, once more on a real PostgreSQL.

Each module here takes over the tests of the unit module of its name; `conftest.py` puts PostgreSQL in SQLite's place.
"""
