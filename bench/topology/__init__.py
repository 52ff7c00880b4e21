"""Whole paths through the daemon, each one command."""
