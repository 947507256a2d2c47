"""A float file to smaller numbers: ranges, scales, integers, and more bits where they are needed."""
