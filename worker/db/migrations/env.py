"""What Alembic runs: the migrations, on the connection and in the transaction that `worker.db.database` opened."""

from __future__ import annotations

from alembic import context

from worker.db.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_type=True,
    # SQLite changes a column only by copying its table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
