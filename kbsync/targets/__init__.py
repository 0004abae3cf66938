"""Knowledge bases that can be mirrored into."""
