"""A function of tensors and its gradient as lists of torch's operations: traced once, run for each step.

A step that Python runs costs what its calls cost: Keras' way to each operation, and torch's notes for the gradient. In
a trace both are left out. Its operations are sorted: those that depend on nothing but what is the same at all steps (a
cast of a kernel, say) are run once; those that lead to a result are the step, and hand over to the gradient what it
reads of them; the others are the gradient.

`make_fx` is what torch's documentation of `torch.func.functionalize` traces with; here is its only use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from operator import getitem
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import fx

from keras_lstm_custom.keras_hooks import changes_in_place, gives_new_tensors
from keras_lstm_custom.structures import Tensor


class Trace:
    """What `function(constants, inputs, incoming)` does for tensors like these: it returns results and gradients.

    Attributes:
        once: (*constants) -> fixed
        forward: (*inputs, *fixed) -> results, and what `backward` reads of the step
        backward: (*what it reads, *fixed, *incoming) -> gradients
        inputs, results, gradients: their names; what is the same tensor has the same name. A gradient may be None
    """

    def __init__(self, function: Callable, constants: Sequence, inputs: Sequence, incoming: Sequence):
        """Trace it.

        Raises:
            RuntimeError: its operations depend on the numbers, or it draws at random or changes a tensor in place.
        """
        module, count = _traced(function, [constants, inputs, incoming])
        *nodes, output = module.graph.nodes
        results, gradients = cut(output.args[0], count)
        given, found = [n for n in nodes if n.op == "placeholder"], [n for n in gradients if n is not None]
        of_constants, of_inputs, of_incoming = cut(given, len(constants), len(inputs))
        once, steps, back = _sorted(nodes, of_constants, of_inputs, results)
        read = list(dict.fromkeys(node for some in (*(n.all_input_nodes for n in back), found) for node in some))
        kept = [node for node in read if node not in {*once, *back}]
        wanted = {*(node for some in steps for node in some.all_input_nodes), *results, *read}
        fixed = [node for node in once if node in wanted]
        self.once = _function(module, once, of_constants, fixed)
        self.forward = _function(module, steps, [*of_inputs, *fixed], (results, kept))
        self.backward = _function(module, back, [*kept, *fixed, *of_incoming], gradients)
        self.inputs, self.results = [n.name for n in of_inputs], [n.name for n in results]
        self.gradients = [None if n is None else n.name for n in gradients]


def is_recording() -> bool:
    """Return whether torch's operations are being recorded by `make_fx`, ours or a user's."""
    from torch.fx.experimental.proxy_tensor import get_proxy_mode  # takes a second

    return get_proxy_mode() is not None


def cut(items: Sequence, *counts: int) -> list[Sequence]:
    """Return the first items, the next ones, and so on, and those that are left."""
    ends = [0, *accumulate(counts), len(items)]
    return [items[start:end] for start, end in pairwise(ends)]


def _traced(function: Callable, arguments: list[Sequence[Tensor]]) -> tuple[fx.GraphModule, int]:
    """Return what it does, and how many results come before the gradients."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second

    count = 0

    def flat(*given):
        nonlocal count
        results, gradients = function(*given)
        count = len(results)
        return [*results, *gradients]

    def as_it_is(t: Tensor) -> Tensor:  # not to what takes care of the tensors that a model keeps for its gradient
        return t

    with torch.inference_mode(False), torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is):
        examples = [[torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in some] for some in arguments]
        module = make_fx(flat)(*examples)
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.detach.default:  # nothing is recorded for a gradient when a trace runs
            node.replace_all_uses_with(node.args[0])
        elif node.op == "call_function" and _is_impure(node) and not _writes_into_its_own(node):
            raise RuntimeError(f"{node.target} changes a tensor in place, or draws at random")
        elif _has_a_shape_by_numbers(node):
            raise RuntimeError(f"how much {node.target} gives depends on the numbers")
    module.graph.eliminate_dead_code()
    return module, count


def _is_impure(node: fx.Node) -> bool:
    """Return whether it changes a tensor in place or draws at random; the latter torch 2.6 does not say by itself."""
    return node.is_impure() or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _has_a_shape_by_numbers(node: fx.Node) -> bool:
    """Return whether the shape of what it computes depends on numbers: a trace is for one shape."""
    if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
        return False
    if node.target is not torch.ops.aten.index.Tensor:
        return True
    by = [n.meta.get("tensor_meta") for n in node.all_input_nodes[1:]]
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in by)


def _writes_into_its_own(node: fx.Node) -> bool:
    """Return whether it changes a new tensor in place, which nothing else reads: torch's own derivatives do."""
    written = node.args[0] if node.args else None
    if not isinstance(written, fx.Node) or list(written.users) != [node]:
        return False
    return changes_in_place(node.target) and gives_new_tensors(written.target)


def _sorted(
    nodes: Sequence[fx.Node], constants: Sequence[fx.Node], inputs: Sequence[fx.Node], results: Sequence[fx.Node]
) -> list[list[fx.Node]]:
    """Return the nodes that depend on constants alone, those that lead to results, and the others, each in order."""
    once, steps = set(constants), {*inputs, *results}
    for node in reversed(nodes):
        if node in steps:
            steps.update(node.all_input_nodes)
    for node in nodes:
        if node.op != "placeholder" and once.issuperset(node.all_input_nodes):
            once.add(node)
        if node.target is getitem and node.args[0] in steps:  # tensors are handed over, not tuples of them
            steps.add(node)
    sorts: list[list[fx.Node]] = [[], [], []]
    for node in nodes:
        sorts[0 if node in once else 1 if node in steps else 2].append(node)
    return sorts


def _function(module: fx.GraphModule, nodes: Sequence[fx.Node], inputs: Sequence[fx.Node], outputs: Any) -> Callable:
    """Return the function that does what these nodes do."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        if node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            copies[node].target = _called_directly(node.target)
    graph.output(fx.node.map_arg(outputs, copies.__getitem__))
    graph.eliminate_dead_code()
    return fx.GraphModule(module, graph).forward


def _called_directly(operation: Any) -> Any:
    """Return the function of `torch` that does what an operation does, if there is one: its call takes less time."""
    function = getattr(torch, getattr(operation, "__name__", "").partition(".")[0], None)
    is_one = isinstance(operation, type(torch.ops.aten.add.Tensor)) and isinstance(function, BuiltinFunctionType)
    return function if is_one else operation
