"""The embedded index: bytes to text, passages, vectors, ranked hits. It knows no mirror and no target."""
