"""What columns say of workers that a history found where it began to read a log."""

from typing import Any, Final

from alembic import op

revision: Final = "0004"
down_revision: Final[Any] = "0003"

COMMENTS: Final = (
    ("worker_events", "place", "which event of that record; below 0: it was found so by then"),
    (
        "worker_events",
        "event",
        "REGISTERED, HEALTHY, UNHEALTHY, LOST, DRAINING, UNDRAINED, DEREGISTERED; or FOUND: the log of what had happened before was gone",
    ),
)


def upgrade() -> None:
    """SQLite has no comments."""
    if op.get_bind().dialect.name == "postgresql":
        for table, column, comment in COMMENTS:
            op.alter_column(table, column, comment=comment)
