"""`kbsync doctor`: the checks, grouped by what they check."""
