"""The HTTP layer of all remote targets: requests are sent with care, and answers are not believed."""
