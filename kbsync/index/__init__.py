"""The embedded index: bytes to text, passages, vectors, ranked hits. It knows neither mirrors nor targets."""
