"""What a loop's products alone take in training: `KERAS_BACKEND=jax python benchmarks/products.py [gates]`, or torch.

Before the loop the product with the inputs, in it that with the state, forward and backward, and after it one for each
kernel's gradient: no engine that multiplies the same, in the same way, is faster. For `options.py` to be held against.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

from options import SHAPES


def jax_products(batch, steps, features, units, columns):
    """Return a function without arguments."""
    import jax
    from jax import numpy as jnp

    @jax.jit
    def run(x, kernel, recurrent_kernel):
        def forward(h, z):
            h = (z + h @ recurrent_kernel)[:, :units]
            return h, h

        def backward(dh, z):
            dz = z.at[:, :units].add(dh)
            return dz @ recurrent_kernel.T, dz

        z = x @ kernel
        h, hs = jax.lax.scan(forward, jnp.zeros((batch, units)), z)
        _, dz = jax.lax.scan(backward, h, z, reverse=True)
        return [jnp.tensordot(a, dz, ((0, 1), (0, 1))) for a in (x, hs)]

    shapes = [(steps, batch, features), (features, columns), (units, columns)]
    arrays = [0.01 * jax.random.normal(jax.random.key(0), shape) for shape in shapes]
    return lambda: jax.block_until_ready(run(*arrays))


def torch_products(batch, steps, features, units, columns):
    """Return a function without arguments."""
    import torch

    x, kernel, recurrent_kernel = map(torch.randn, [(steps, batch, features), (features, columns), (units, columns)])
    hs, dz = torch.randn(steps, batch, units), torch.randn(steps, batch, columns)

    def run():
        x @ kernel
        for h_t in hs:
            h_t @ recurrent_kernel
        for dz_t in dz:
            dz_t @ recurrent_kernel.T
        return [a.flatten(0, 1).T @ dz.flatten(0, 1) for a in (x, hs)]

    return run


def main() -> None:
    """Print the median milliseconds of each shape."""
    products = {"jax": jax_products, "torch": torch_products}[os.environ["KERAS_BACKEND"]]
    gates = int(sys.argv[1]) if sys.argv[1:] else 4
    for shape in SHAPES[:-1]:
        run, times = products(*shape, gates * shape[-1]), []
        for _ in range(12):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        print(f"{', '.join(map(str, shape)):<18} {gates} gates  {statistics.median(times[2:]):.2f}", flush=True)


if __name__ == "__main__":
    main()
