"""A float file to one that computes in integers, int8 or int16x8.

The converter's own quantiser treats LSTMs wrongly in several ways, refuses int16 for them, and
changes what must stay equal. This one rests on three ideas:

- Tensors that must share a scale are tied (`scales`); the range is that of all of them.
- Every tensor is written in that way; where a reader asks for another scale or type, a QUANTIZE
  is put between.
- An op without a rule (`rules.RULES`) stays in float between DEQUANTIZE and QUANTIZE, and is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.file import loop
from keras_lstm_custom.export.file.graph import Graph, set_signature, signature_of
from keras_lstm_custom.export.quantization.operators import write
from keras_lstm_custom.export.quantization.plans import plan_loops
from keras_lstm_custom.export.quantization.promote import Promoted
from keras_lstm_custom.export.quantization.schemes import Scheme
from keras_lstm_custom.export.quantization.seen import Ranges
from keras_lstm_custom.export.quantization.writer import Writer


def quantize(
    source: Graph,
    ranges: Ranges,
    scheme: Scheme,
    *,
    float_io: bool = False,
    tied: Sequence[tuple[int, int]] = (),
    promoted: Promoted | None = None,
) -> tuple[Graph, list[str]]:
    """Return a new graph that computes in integers, and notes on what does not.

    Args:
        source: a float file, as `convert.float_graph` makes it; it is not changed.
        ranges: what `calibrate` saw.
        scheme: a value of `schemes.SCHEMES`.
        float_io: whether inputs and outputs stay float32, with a QUANTIZE and a DEQUANTIZE at the edge.
        tied: pairs of tensors of the float file to store in one way: a state that goes in as it comes out.
        promoted: what is to have more bits than the scheme's.

    Raises:
        ExportError: the file has loops of another kind, or a cell state too large for the integers.
    """
    if not loop.is_ours(source):
        raise ExportError(
            "A layer of the model makes a loop of its own, which cannot compute in integers; the runtimes crash on it.",
            expected="loops over the steps of a recurrent cell alone",
            received=f"{len(source.model.subgraphs)} graphs in the file",
            remedy="Write that layer without a loop, or export in float.",
        )
    promoted = promoted or Promoted()
    writer = Writer(source, ranges, scheme, promoted, plan_loops(source, ranges, scheme, tied, promoted))
    inputs, outputs = signature_of(source)
    new_inputs = {name: writer.input(index, float_io) for name, index in inputs.items()}
    for operator in source.operators:
        write(writer, operator)
    new_outputs = {name: writer.output(index, float_io) for name, index in outputs.items()}
    set_signature(writer.graph, new_inputs, new_outputs)
    names = ", ".join(sorted(set(writer.in_float)))
    return writer.graph, [f"These ops compute in float, for want of an integer form: {names}."] if names else []
