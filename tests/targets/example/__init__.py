"""A target for a fictional service, the example of `docs/writing-a-target.md`."""
