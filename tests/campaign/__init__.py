"""Runs that are broken on purpose, for an hour: make campaign. Its table is docs/reliability.md."""
