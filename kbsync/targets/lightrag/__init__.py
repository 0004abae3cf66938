"""The target `lightrag`: the knowledge base of a LightRAG server."""
