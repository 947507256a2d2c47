"""Models as plain C99 without a runtime.

`export` hands a package over: `build` has it made, `host` compiles and runs it, `compare` holds it against the model,
and `finer` gives it more bits where they are needed. On the way a model is read (`reading`) into a `graph` of values,
and that is written as C (`writing`) in one of two arithmetics (`floats`, `integers`).
"""
