"""Packages that compute in float."""
