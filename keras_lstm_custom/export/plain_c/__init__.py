"""Models as plain C99 without a runtime: tracing, simplification, a schedule over time, memory, and C of two kinds."""
