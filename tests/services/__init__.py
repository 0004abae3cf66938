"""Each service described once for all tests: how it is reached, what it shows, what it does wrong."""
