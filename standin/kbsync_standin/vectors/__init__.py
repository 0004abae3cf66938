"""A stand-in for services that make vectors and rank texts, in six dialects at once.

The first part of a path is the dialect: `/openai/v1/embeddings`, `/jina/v1/rerank`, `/tei/embed`, and so on.
Vectors are made of words, so texts with common words are near each other; a picture counts as the words in
its bytes.
"""

from __future__ import annotations

from kbsync_standin.vectors.app import VectorsApplication as application

__all__ = ["application"]
