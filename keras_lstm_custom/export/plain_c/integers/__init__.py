"""Packages that compute in integers: int8 weights with a scale for each row, int16 values, int32 between them."""
