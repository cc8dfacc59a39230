"""The database: tables, sessions, migrations and the audit record."""
