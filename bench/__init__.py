"""Measures the dispatcher from outside: real processes, real sockets, every event verified."""
