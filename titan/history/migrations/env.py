"""What Alembic runs around the scripts: on a connection that is given, in its transaction."""

from alembic import context

from titan.history.database import VERSION_TABLE
from titan.history.schema import METADATA

# Importing it by itself, as tools that look through a package do, runs nothing.
if hasattr(context, "config"):
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=METADATA,
        version_table=VERSION_TABLE,
    )
    with context.begin_transaction():
        context.run_migrations()
