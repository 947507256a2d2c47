"""torch's own LSTM, RNN and GRU: cuDNN on a GPU, oneDNN or ATen on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from keras_lstm_custom.engines import compaction, fast_path, gpu_place, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations import gru_step, lstm_step, rnn_step
from keras_lstm_custom.structures import Tensor


class Binding(NamedTuple):
    """How torch calls a cell, and where it has our gates."""

    layer: str  #: torch's function of all steps; one of several states takes and gives them all
    one_step: str  #: that of one step, which takes less time before it starts
    order: tuple[int, ...] | None = None  #: which of our gates stands at each place of torch's and cuDNN's


BINDINGS: dict[Callable, Binding] = {
    lstm_step: Binding("lstm", "lstm_cell"),
    rnn_step: Binding("rnn_tanh", "rnn_tanh_cell"),
    gru_step: Binding("gru", "gru_cell", order=(1, 0, 2)),  # r, z, n
}


def supports(request: Request) -> Support:
    """Serve every mask, direction, state and dtype of these cells without recurrent dropout, under torch."""
    reason = fast_path.refusal(request, "torch", known=BINDINGS) or fast_path.whole_layer_refusal(request)
    reason = reason or _forbidden(request)
    return Support(False, reason) if reason else Support(True, "torch.nn, by cuDNN on a GPU")


@no_steps.served
def run(request: Request) -> Result:
    """Call the functions behind `torch.nn.LSTM`, `torch.nn.RNN` and `torch.nn.GRU`."""
    import torch

    cell, x = request.cell, request.sequences
    binding = BINDINGS[cell.equation]
    for m in fast_path.masks_of(request.dropout.inputs):  # none, or one
        x = x * m[:, None]
    kernel, recurrent_kernel, bias = fast_path.weights_of(cell)
    order = compaction.of(request)
    if order is not None:
        more = len(request.initial_state) > 1  # a c, which torch gives at the end only
        x = compaction.inputs(order, x, tell_idle_steps=more)
        kernel = compaction.kernel(kernel) if more else kernel
    elif request.go_backwards:
        x = x.flip(1)
    weights = _in_torchs_layout(binding.order, kernel, recurrent_kernel, bias, x.is_cuda)
    initial = fast_path.initial_state_of(request)
    if x.shape[1] == 1 and not x.is_cuda and order is None:
        call, given = getattr(torch, binding.one_step), initial if len(initial) > 1 else initial[0]
        stepped = call(x[:, 0], given, *weights)
        state = [*stepped] if len(initial) > 1 else [stepped]
        return Result(state[0][:, None], state, ENGINE.name)
    if x.is_cuda:  # as pieces of one vector cuDNN can read them as they are
        pieces = torch.cat([w.reshape(-1) for w in weights]).split([w.numel() for w in weights])
        weights = [piece.view(w.shape) for piece, w in zip(pieces, weights, strict=True)]
    state = [s[None].contiguous() for s in initial]  # cuDNN takes no others
    # One layer without dropout inside, in one direction, batch first.
    options = (len(weights) == 4, 1, 0.0, torch.is_grad_enabled(), False, True)
    call = getattr(torch, binding.layer)
    outputs, *final = call(x, state if len(state) > 1 else state[0], weights, *options)
    final = [s[0] for s in final]
    if order is not None:
        outputs = compaction.outputs(order, outputs, initial[0], request.return_sequences)
        return Result(outputs, [outputs[:, -1], *final[1:]], ENGINE.name)
    outputs = outputs if request.return_sequences else final[0][:, None]
    return Result(outputs, final, ENGINE.name)


def _in_torchs_layout(
    order: tuple[int, ...] | None, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor | None, on_gpu: bool
) -> list:
    """Return the transposed matrices, and both biases or none: on a GPU cuDNN has both."""
    weights = [kernel.t(), recurrent_kernel.t()]
    if bias is None and on_gpu:
        bias = weights[1].new_zeros(len(weights[1]))
    if bias is not None and bias.ndim == 1:  # and zeros, so that training changes what it changes in Keras
        weights += [bias, bias.new_zeros(bias.shape)]
    elif bias is not None:  # the GRU's, one of each product
        weights += [*bias]
    return weights if order is None else [_reordered(w, order) for w in weights]


def _reordered(rows: Tensor, order: tuple[int, ...]) -> Tensor:
    """Return the rows of the gates in another order."""
    import torch

    blocks = rows.chunk(len(order))
    return torch.cat([blocks[place] for place in order])


def _forbidden(request: Request) -> str | None:
    import torch

    if request.use_cudnn is False and torch.cuda.is_available():
        return "would run on cuDNN, which use_cudnn=False forbids"
    # Keras' call of torch runs on the CPU then, and does not say so.
    return gpu_place.refusal(request) if request.use_cudnn is True else None


ENGINE = Engine(
    "torch_nn", "torch.nn.LSTM, torch.nn.RNN and torch.nn.GRU: cuDNN on a GPU, oneDNN or ATen on a CPU", supports, run
)
