"""Exported files on the runtimes they are for, and what came of it."""
