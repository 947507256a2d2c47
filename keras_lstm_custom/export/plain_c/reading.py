"""From a Keras model to values: its graph of layers and operations in order; what has no row is read further inside.

Keras itself runs a model's graph: `keras.models.clone_model` with a function in place of each call. So order, shared
layers and nested models are Keras' own, and public. A layer without a row in the tables is read through the operations
of its `call`; so is every cell, and with it a cell of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.model.samples import graph_of
from keras_lstm_custom.export.plain_c.ir import Builder, Value
from keras_lstm_custom.export.plain_c.operations import OPERATIONS, Frame, Unsupported
from keras_lstm_custom.models.rebuild import is_graph


class Tensor(NamedTuple):
    """What stands for a tensor of Keras."""

    value: Value
    mask: Value | None = None  #: one number a step, 0 where it is masked


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
            results = [_tensor(r) for r in _listed(self.call(operation, args, kwargs))]
            made = tree.flatten(_Stand([self.frame.shape(t.value) for t in results])(symbols[0]))
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
            return self.model(layer, [t for t in _flatten((args, kwargs)) if isinstance(t, Tensor)])
        return self.traced(layer.call, args, kwargs)

    def traced(self, function: Callable, args: Any, kwargs: Any = None) -> Any:
        """Return what a function of Keras tensors gives, read through the operations that it calls."""
        given: list[tuple[Any, Tensor]] = []

        def symbol(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            given.append((keras.Input(batch_shape=self.frame.shape(leaf.value)), leaf))
            return given[-1][0]

        symbols = _map((args, kwargs or {}), symbol)
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
        flat = [_plain(value) for value in (*args, *(v for v in kwargs.values() if v is not None))]
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


def array_of(weight: Any) -> np.ndarray:
    """Return a variable or a tensor as a float64 array."""
    return np.asarray(ops.convert_to_numpy(weight), np.float64)


def mask_of(b: Builder, x: Tensor, given: Any) -> Value | None:
    """Return the mask that a layer reads x with, one number a step: what is given in the call, or what came with x."""
    mask = given.value if isinstance(given, Tensor) else x.mask
    if mask is None:
        return None
    if mask.steps is None and mask.shape == (x.value.steps,):
        mask = b.steps(mask)
    return b.reshape(mask, (1,))


def _with_mask(layer: Any, given: Any, result: Any) -> Any:
    """Let the mask of the input go on where the layer lets it, and its row says nothing of it."""
    if isinstance(result, Value):
        mask = given.mask if isinstance(given, Tensor) and getattr(layer, "supports_masking", False) else None
        return Tensor(result, mask if mask is not None and mask.steps == result.steps else None)
    return result


def _plain(value: Any) -> Any:
    """Return an argument of an operation: values, arrays, or what is neither."""
    if isinstance(value, Tensor):
        return value.value
    if isinstance(value, (list, tuple)) and not isinstance(value, Tensor):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, (slice, int, float, bool, str, type(Ellipsis))) or value is None:
        return value
    return array_of(value)


def _flatten(structure: Any) -> list[Any]:
    """Return the leaves of nested lists, tuples and dicts, a `Tensor` being one."""
    if isinstance(structure, Tensor):
        return [structure]
    if isinstance(structure, dict):
        return [leaf for item in structure.values() for leaf in _flatten(item)]
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in _flatten(item)]
    return [structure]


def _map(structure: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, dict):
        return {key: _map(item, function) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        items = [_map(item, function) for item in structure]
        return type(structure)(*items) if hasattr(structure, "_fields") else type(structure)(items)
    return function(structure)


def _listed(result: Any) -> list[Any]:
    return [result] if isinstance(result, (Tensor, Value)) else _flatten(result)


def _tensor(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else Tensor(result)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
