"""What lasts: analyses in SQLite or PostgreSQL."""
