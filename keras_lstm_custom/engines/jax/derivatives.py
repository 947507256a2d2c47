"""Functions in JAX with a gradient of their own, and derivatives of every order and in both modes.

`jax.custom_vjp` has no forward mode: `jax.jvp`, `jax.jacfwd` and `jax.hessian` raise. So the gradient written by hand
is here the transpose of the tangent, which is a linear map (Radul et al. 2023, *You Only Linearize Once*, POPL): JAX
takes `jax.custom_jvp` for the function, and a primitive for the tangent. Evaluated, in forward mode, the primitive is
the tangent that JAX derives from the plain function; transposed, in reverse mode, it is the gradient by hand. Of both
JAX takes further derivatives by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def differentiable(run: Callable, keep: Callable, gradient: Callable) -> Callable:
    """Return `(setting, inputs, data) -> outputs` with the gradient.

    Args:
        run: `(setting, inputs, data) -> outputs`, of operations that JAX can differentiate. `setting` is hashable;
            `inputs` and `data` are trees of arrays. No derivative goes to `data`, nor to integers among the inputs.
        keep: the same, and what the gradient needs: `-> (outputs, kept)`.
        gradient: `(setting, inputs, data, kept, d_outputs) -> d_inputs`, a tree as `inputs`.
    """

    @partial(jax.custom_jvp, nondiff_argnums=(0,))
    def function(setting, inputs, data):
        return run(setting, inputs, data)

    @function.defjvp
    def tangent(setting, primals, tangents):
        inputs, data = primals
        outputs, kept = keep(setting, inputs, data)
        values, tree = jax.tree.flatten(inputs)
        moves = [jnp.issubdtype(value.dtype, jnp.inexact) for value in values]
        known, known_tree = jax.tree.flatten((inputs, data, kept))
        count, outputs_tree = len(known), jax.tree.structure(outputs)

        def moving(leaves):
            return [leaf for leaf, does in zip(leaves, moves, strict=True) if does]

        def evaluate(*arrays):
            inputs, data, _ = jax.tree.unflatten(known_tree, arrays[:count])
            values = jax.tree.leaves(inputs)

            def of_moving(*given):
                rest = iter(given)
                both = [next(rest) if does else v for v, does in zip(values, moves, strict=True)]
                return jax.tree.leaves(run(setting, jax.tree.unflatten(tree, both), data))

            return jax.jvp(of_moving, moving(values), list(arrays[count:]))[1]

        def transpose(*arrays):
            d_outputs = jax.tree.unflatten(outputs_tree, arrays[count:])
            d_inputs = gradient(setting, *jax.tree.unflatten(known_tree, arrays[:count]), d_outputs)
            return moving(jax.tree.leaves(d_inputs))

        linear = moving(jax.tree.leaves(tangents[0]))
        d_outputs = _tangent.bind(*known, *linear, evaluate=evaluate, transpose=transpose, known=count)
        return outputs, jax.tree.unflatten(outputs_tree, d_outputs)

    return function


def of_all_steps(differentiated: Callable, *of_steps: Any) -> tuple[Callable, list[Any], Any]:
    """Differentiate all steps at once; for each a function is left that multiplies and adds.

    Args:
        differentiated: `(*of_step) -> (function, others)`, the function a pullback of `jax.vjp`.
        of_steps: its arguments, of all steps.

    Returns:
        `(*residuals of a step) -> (function, None)`, the residuals of all steps, and their others.
    """
    shared: list[Any] = []  #: residuals that are the same for all steps (weights), in their places
    trees: list[Any] = []

    def of_one(*of_step):
        function, others = differentiated(*of_step)
        residuals, tree = jax.tree.flatten(function)
        mapped = type(jax.tree.leaves(of_step)[0])  # what `vmap` makes of that which differs from step to step
        shared[:] = [None if isinstance(r, mapped) else r for r in residuals]
        trees[:] = [tree]
        return [r for r in residuals if isinstance(r, mapped)], others

    residuals, others = jax.vmap(of_one)(*of_steps)

    def function(*of_step):
        own = iter(of_step)
        return jax.tree.unflatten(trees[0], [next(own) if r is None else r for r in shared]), None

    return function, residuals, others


#: A map that is linear in the arrays after the first `known`.
_tangent = Primitive("keras_lstm_custom_tangent")
_tangent.multiple_results = True


def _evaluate(*arrays, evaluate, transpose, known):
    return evaluate(*arrays)


def _shapes(*shapes, evaluate, transpose, known):
    results = jax.eval_shape(evaluate, *(jax.ShapeDtypeStruct(s.shape, s.dtype) for s in shapes))
    return [jax.core.ShapedArray(r.shape, r.dtype) for r in results]


def _differentiated(arrays, tangents, **map_):
    """Return the value of the map and its tangent, also along what it is not linear in."""
    moving = [n for n, t in enumerate(tangents) if type(t) is not ad.Zero]

    def of_moving(*values):
        return map_["evaluate"](*(values[moving.index(n)] if n in moving else a for n, a in enumerate(arrays)))

    values = _tangent.bind(*arrays, **map_)
    if all(n >= map_["known"] for n in moving):
        linear = [ad.instantiate_zeros(t) for t in tangents[map_["known"] :]]
        return values, _tangent.bind(*arrays[: map_["known"]], *linear, **map_)
    return values, jax.jvp(of_moving, [arrays[n] for n in moving], [tangents[n] for n in moving])[1]


def _transposed(incoming, *arrays, evaluate, transpose, known):
    incoming = [ad.instantiate_zeros(d) for d in incoming]
    gradients = transpose(*arrays[:known], *incoming)
    wanted = [ad.is_undefined_primal(a) for a in arrays[known:]]
    return [None] * known + [d if w else None for d, w in zip(gradients, wanted, strict=True)]


def _vectorised(arrays, axes, *, evaluate, transpose, known):
    """Return the map of each row. A tangent that all rows share becomes one for each, whose gradients JAX sums up."""
    size = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)

    def for_each(array, axis):
        return jnp.broadcast_to(array, (size, *array.shape)) if axis is None else jnp.moveaxis(array, axis, 0)

    linear = [for_each(*pair) for pair in zip(arrays[known:], axes[known:], strict=True)]
    results = _tangent.bind(
        *arrays[:known],
        *linear,
        evaluate=jax.vmap(evaluate, (*axes[:known], *[0] * len(linear))),
        transpose=lambda *a: jax.vmap(transpose, (*axes[:known], *[0] * (len(a) - known)))(*a),
        known=known,
    )
    return results, [0] * len(results)


_tangent.def_impl(_evaluate)
_tangent.def_abstract_eval(_shapes)
mlir.register_lowering(_tangent, mlir.lower_fun(_evaluate, multiple_results=True))
ad.primitive_jvps[_tangent] = _differentiated
ad.primitive_transposes[_tangent] = _transposed
batching.primitive_batchers[_tangent] = _vectorised
