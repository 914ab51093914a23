"""Who may do what, on real servers with real certificates."""
