"""Independent truth to compare the package with."""
