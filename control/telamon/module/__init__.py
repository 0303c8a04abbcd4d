"""A module: its configuration, its scripts, its place on disk."""
