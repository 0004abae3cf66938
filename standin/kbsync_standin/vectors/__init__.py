"""A stand-in for embedding and rerank services, in six dialects at once.

The first part of a path is the dialect: `/openai/v1/embeddings`, `/jina/v1/rerank`, `/tei/embed`, and so on.
Embeddings are computed from words, so texts with common words are near each other; for a picture, the words
in its bytes count.
"""

from __future__ import annotations

from kbsync_standin.vectors.app import VectorsApplication as application

__all__ = ["application"]
