"""From a Keras model to values: its graph of layers and operations in order; what has no row is read further inside.

Keras itself runs a model's graph: `keras.models.clone_model` with a function in place of each call. So order, shared
layers and nested models are Keras' own, and public. A layer without a row in the tables is read through the operations
of its `call`; so is every cell, and with it a cell of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops, tree

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.model.samples import graph_of
from keras_lstm_custom.export.plain_c.graph.builder import Builder
from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.reading.frame import Frame, Unsupported
from keras_lstm_custom.export.plain_c.reading.operations import OPERATIONS
from keras_lstm_custom.export.plain_c.reading.tensors import (
    Tensor,
    array_of,
    as_tensor,
    flatten,
    listed,
    map_leaves,
    plain,
)
from keras_lstm_custom.models.rebuild import is_graph

Row = Callable[["Reader", Any, Any, dict[str, Any]], Any]


class _Stand(keras.Operation):
    """Gives symbolic tensors of the shapes that are known already."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]):
        super().__init__()
        self.shapes = shapes

    def call(self, *tensors):
        raise NotImplementedError

    def compute_output_spec(self, *tensors):
        return [keras.KerasTensor(shape, "float32") for shape in self.shapes]


class Reader:
    """Reads layers and operations by tables of rows."""

    def __init__(self, b: Builder, rows: dict[type, Row]):
        """Take the builder, and what each class of Keras' layers is."""
        self.b, self.rows = b, rows
        self.frame = Frame(b)
        self._reading: list[str] = []

    def model(self, model: keras.Model, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return what the graph of a model makes of its inputs."""
        graph = graph_of(model)
        starts = [
            keras.Input(batch_shape=self.frame.shape(t.value), dtype=old.dtype)
            for t, old in zip(inputs, graph.inputs, strict=True)
        ]
        known: dict[int, Tensor] = {id(start): t for start, t in zip(starts, inputs, strict=True)}
        kept: list[Any] = []  # an `id` holds as long as its object

        def call(operation: Any, *args: Any, **kwargs: Any) -> list[Any]:
            symbols = [leaf for leaf in tree.flatten((args, kwargs)) if id(leaf) in known]
            args, kwargs = tree.map_structure(lambda leaf: known.get(id(leaf), leaf), (args, kwargs))
            results = [as_tensor(r) for r in listed(self.call(operation, args, kwargs))]
            made = tree.flatten(_Stand([self.frame.shape(t.value) for t in results])(*symbols))
            kept.extend(made)
            known.update({id(new): t for new, t in zip(made, results, strict=True)})
            return made

        copy = keras.models.clone_model(
            graph, input_tensors=starts, clone_function=lambda layer: layer, call_function=call
        )
        return [known[id(output)] for output in tree.flatten(copy.outputs)]

    def call(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return what a layer or an operation of the graph gives."""
        if not isinstance(operation, keras.Layer):
            try:
                return self._operation(operation, args, kwargs)
            except Unsupported as reason:
                if self._reading:  # the layer that it is in will be named
                    raise
                raise self._refusal(operation, str(reason)) from reason
        kwargs = {name: value for name, value in kwargs.items() if name != "training" and value is not None}
        with self._named(operation.name):
            try:
                return self.layer(operation, args, kwargs)
            except Unsupported as reason:
                raise self._refusal(operation, str(reason)) from reason

    def layer(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return what a layer gives: by its row, as a model, or by the operations of its call."""
        row = self.rows.get(type(layer))
        if row is None and isinstance(layer, keras.layers.RNN):
            row = self.rows[keras.layers.RNN]
        if row is not None:
            result = row(self, layer, args[0] if len(args) == 1 else list(args), kwargs)
            return _with_mask(layer, args[0] if args else None, result)
        if is_graph(layer):
            return self.model(layer, [t for t in flatten((args, kwargs)) if isinstance(t, Tensor)])
        return self.traced(layer.call, args, kwargs)

    def traced(self, function: Callable, args: Any, kwargs: Any = None) -> Any:
        """Return what a function of Keras tensors gives, read through the operations that it calls."""
        given: list[tuple[Any, Tensor]] = []

        def symbol(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            given.append((keras.Input(batch_shape=self.frame.shape(leaf.value)), leaf))
            return given[-1][0]

        symbols = map_leaves((args, kwargs or {}), symbol)
        try:
            structure = function(*symbols[0], **symbols[1])
        except Exception as error:  # whatever a call that is not made of Keras' operations raises
            raise Unsupported(f"its call is not made of `keras.ops` alone ({_first_line(error)})") from error
        outputs = tree.flatten(structure)
        symbolic = [output for output in outputs if isinstance(output, keras.KerasTensor)]
        if not symbolic:
            raise Unsupported("its result does not depend on its input")
        results = iter(self.model(keras.Model([s for s, _ in given], symbolic), [t for _, t in given]))
        flat = [
            next(results) if isinstance(output, keras.KerasTensor) else Tensor(self.b.const(array_of(output)[0]))
            for output in outputs
        ]
        return tree.pack_sequence_as(structure, flat) if tree.is_nested(structure) else flat[0]

    def activation(self, function: Any, x: Value) -> Value:
        """Return an activation, given as Keras' layers keep it, of x."""
        if function is None or function is keras.activations.linear:
            return x
        found = self.traced(SYMBOLIC.get(function, function), [Tensor(x)])
        return tree.flatten(found)[0] if not isinstance(found, Tensor) else found.value

    @contextmanager
    def within_step(self) -> Iterator[None]:
        """Read tensors inside the block as those of one step."""
        before, self.frame = self.frame, Frame(self.b, within_step=True)
        try:
            yield
        finally:
            self.frame = before

    def _operation(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = type(operation).__name__
        row = OPERATIONS.get(name)
        where = self._reading[-1] if self._reading else operation.name
        if row is None:
            raise Unsupported(f"{name} of keras.ops")
        flat = [plain(value) for value in (*args, *(v for v in kwargs.values() if v is not None))]
        try:
            return row(self.frame, operation, flat)
        except (ValueError, AttributeError, TypeError, IndexError) as error:
            raise Unsupported(f"{name} of keras.ops in {where!r}: {_first_line(error)}") from error

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        before = self.b.layer
        self._reading.append(name)
        self.b.layer = before or name
        try:
            yield
        finally:
            self._reading.pop()
            self.b.layer = before

    def _refusal(self, layer: Any, reason: str) -> ExportError:
        return ExportError(
            f"{layer.name!r} ({type(layer).__name__}) cannot be written as C.",
            expected="layers and operations that the documentation lists for plain C",
            received=reason,
            remedy="Compute it outside of the exported model, put another layer in its place, or use export.micro.",
        )


#: Activations that Keras computes for real tensors only, as operations.
SYMBOLIC = {
    keras.activations.hard_silu: ops.hard_silu,
    keras.activations.mish: lambda x: x * ops.tanh(ops.softplus(x)),
    keras.activations.sparsemax: ops.sparsemax,
}


@contextmanager
def symbolic_activations(cells: Sequence[Any]) -> Iterator[None]:
    """Let cells use, inside the block, activations that take symbolic tensors."""
    found = [
        (cell, name, getattr(cell, name))
        for cell in cells
        for name in ("activation", "recurrent_activation")
        if getattr(cell, name, None) in SYMBOLIC
    ]
    try:
        for cell, name, function in found:
            setattr(cell, name, SYMBOLIC[function])
        yield
    finally:
        for cell, name, function in found:
            setattr(cell, name, function)


def _with_mask(layer: Any, given: Any, result: Any) -> Any:
    """Let the mask of the input go on where the layer lets it, and its row says nothing of it."""
    if isinstance(result, Value):
        mask = given.mask if isinstance(given, Tensor) and getattr(layer, "supports_masking", False) else None
        return Tensor(result, mask if mask is not None and mask.steps == result.steps else None)
    return result


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
