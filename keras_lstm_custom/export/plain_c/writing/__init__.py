"""A package as C text: what both arithmetics have in common, its files, and its own test."""
