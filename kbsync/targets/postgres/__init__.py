"""A knowledge base in a PostgreSQL database with pgvector."""
