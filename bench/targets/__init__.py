"""The targets P1 to P12: what is measured for each, beside what, and what is demanded."""
