"""The load side of a benchmark: what is posted, and what receives it."""
