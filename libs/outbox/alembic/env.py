"""Alembic's environment, one for all services: the caller hands over a connection."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes.get("metadata"),
    # SQLite cannot alter a table in place.
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    version_table="schema_version",
)
with context.begin_transaction():
    context.run_migrations()
