"""Several managers over a PostgreSQL that has a standby of its own, broken round by round."""
