"""The Keras side: checked samples, and models rewritten into what a converter takes."""
