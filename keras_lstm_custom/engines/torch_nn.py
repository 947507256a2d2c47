"""torch's own LSTM, RNN and GRU: cuDNN on a GPU, oneDNN or ATen on a CPU."""

from __future__ import annotations

from keras_lstm_custom.engines import compaction, fast_path, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.structures import Tensor

KINDS = ("lstm", "vanilla_rnn", "gru")


def supports(request: Request) -> Support:
    """Serve every mask, direction, state and dtype of these cells without recurrent dropout, under torch."""
    reason = fast_path.refusal(request, "torch", kinds=KINDS) or fast_path.whole_layer_refusal(request)
    reason = reason or _forbidden(request)
    return Support(False, reason) if reason else Support(True, "torch.nn, by cuDNN on a GPU")


@no_steps.served
def run(request: Request) -> Result:
    """Call the functions behind `torch.nn.LSTM`, `torch.nn.RNN` and `torch.nn.GRU`."""
    import torch

    cell, x = request.cell, request.sequences
    for m in fast_path.masks_of(request.dropout.inputs):  # none, or one
        x = x * m[:, None]
    kernel, recurrent_kernel, bias = fast_path.weights_of(cell)
    order = compaction.of(request)
    if order is not None:
        x = compaction.inputs(order, x, tell_idle_steps=cell.kind == "lstm")
        kernel = compaction.kernel(kernel) if cell.kind == "lstm" else kernel
    elif request.go_backwards:
        x = x.flip(1)
    weights = _in_torchs_layout(cell.kind, kernel, recurrent_kernel, bias, x.is_cuda)
    initial = fast_path.initial_state_of(request)
    if x.shape[1] == 1 and not x.is_cuda and order is None:
        return _one_step(request, x[:, 0], initial, weights)
    if x.is_cuda:  # as pieces of one vector cuDNN can read them as they are
        pieces = torch.cat([w.reshape(-1) for w in weights]).split([w.numel() for w in weights])
        weights = [piece.view(w.shape) for piece, w in zip(pieces, weights, strict=True)]
    state = [s[None].contiguous() for s in initial]  # cuDNN takes no others
    # One layer without dropout inside, in one direction, batch first.
    options = (len(weights) == 4, 1, 0.0, torch.is_grad_enabled(), False, True)
    if cell.kind == "lstm":
        outputs, *final = torch.lstm(x, state, weights, *options)
    else:
        call = torch.rnn_tanh if cell.kind == "vanilla_rnn" else torch.gru
        outputs, *final = call(x, state[0], weights, *options)
    final = [s[0] for s in final]
    if order is not None:
        outputs = compaction.outputs(order, outputs, initial[0], request.return_sequences)
        return Result(outputs, [outputs[:, -1], *final[1:]], ENGINE.name)
    outputs = outputs if request.return_sequences else final[0][:, None]
    return Result(outputs, final, ENGINE.name)


def _in_torchs_layout(kind: str, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor | None, on_gpu: bool) -> list:
    """Return the transposed matrices, and both biases or none: on a GPU cuDNN has both."""
    weights = [kernel.t(), recurrent_kernel.t()]
    if bias is None and on_gpu:
        bias = weights[1].new_zeros(len(weights[1]))
    if bias is not None and bias.ndim == 1:  # and zeros, so that training changes what it changes in Keras
        weights += [bias, bias.new_zeros(bias.shape)]
    elif bias is not None:  # the GRU's, one of each product
        weights += [*bias]
    if kind != "gru":
        return weights
    return [_reset_first(w) for w in weights]


def _reset_first(rows: Tensor) -> Tensor:
    """Return the rows of a GRU's gates, in Keras' order z, r, n, in that of torch and cuDNN: r, z, n."""
    import torch

    z, r, n = rows.chunk(3)
    return torch.cat([r, z, n])


def _one_step(request: Request, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> Result:
    """Call the functions behind `torch.nn.LSTMCell` and its like, which take less time before they start."""
    import torch

    if request.cell.kind == "lstm":
        state = [*torch.lstm_cell(x, state, *weights)]
    else:
        call = torch.rnn_tanh_cell if request.cell.kind == "vanilla_rnn" else torch.gru_cell
        state = [call(x, *state, *weights)]
    return Result(state[0][:, None], state, ENGINE.name)


def _forbidden(request: Request) -> str | None:
    import torch

    if request.cell.kind == "gru" and not request.cell.reset_after:
        return "has the GRU with reset_after=True, the form of cuDNN"
    if request.use_cudnn is False and torch.cuda.is_available():
        return "would run on cuDNN, which use_cudnn=False forbids"
    return None


ENGINE = Engine(
    "torch_nn", "torch.nn.LSTM, torch.nn.RNN and torch.nn.GRU: cuDNN on a GPU, oneDNN or ATen on a CPU", supports, run
)
