"""The documents of a LightRAG server."""
