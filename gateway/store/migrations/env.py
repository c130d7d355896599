"""Alembic's entry: runs inside the transaction that `store/migrate.py` has opened; never by itself."""

from alembic import context

_attributes = context.config.attributes
context.configure(
    connection=_attributes["connection"],
    version_table_schema=_attributes["schema"],
    transactional_ddl=True,
)
context.run_migrations()
