"""The index in a PostgreSQL database with pgvector."""
