"""kbsync keeps a folder of documents mirrored into a knowledge base."""

__version__ = "0.1.0"
