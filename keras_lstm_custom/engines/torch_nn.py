"""torch's own LSTM and RNN: cuDNN on a GPU, oneDNN or ATen on a CPU."""

from __future__ import annotations

from typing import Any

from keras_lstm_custom.engines import compaction, fast_path
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.structures import Tensor


def supports(request: Request) -> Support:
    """Serve every mask, direction, state and dtype of both cells without recurrent dropout, under torch."""
    reason = fast_path.refusal(request, "torch") or fast_path.whole_layer_refusal(request) or _forbidden(request)
    return Support(False, reason) if reason else Support(True, "torch.nn, by cuDNN on a GPU")


def run(request: Request) -> Result:
    """Call the functions behind `torch.nn.LSTM` and `torch.nn.RNN` with the weights in their layout: transposed."""
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
    weights = [kernel.t(), recurrent_kernel.t()]
    if x.shape[1] == 1 and not x.is_cuda and order is None:
        return _one_step(request, x[:, 0], *weights, bias)
    if bias is None and x.is_cuda:  # cuDNN has two biases
        bias = weights[1].new_zeros(len(weights[1]))
    if bias is not None:  # bias and zeros, so that training changes what it changes in Keras
        weights += [bias, torch.zeros_like(bias)]
    if x.is_cuda:  # as pieces of one vector cuDNN can read them as they are
        pieces = torch.cat([w.reshape(-1) for w in weights]).split([w.numel() for w in weights])
        weights = [piece.view(w.shape) for piece, w in zip(pieces, weights, strict=True)]
    initial = fast_path.initial_state_of(request)
    state = [s[None].contiguous() for s in initial]  # cuDNN takes no others
    # One layer without dropout inside, in one direction, batch first.
    options = (bias is not None, 1, 0.0, torch.is_grad_enabled(), False, True)
    if cell.kind == "lstm":
        outputs, *final = torch.lstm(x, state, weights, *options)
    else:
        outputs, *final = torch.rnn_tanh(x, state[0], weights, *options)
    final = [s[0] for s in final]
    if order is not None:
        outputs = compaction.outputs(order, outputs, initial[0], request.return_sequences)
        return Result(outputs, [outputs[:, -1], *final[1:]], ENGINE.name)
    outputs = outputs if request.return_sequences else final[0][:, None]
    return Result(outputs, final, ENGINE.name)


def _one_step(request: Request, x: Tensor, *weights: Any) -> Result:
    """Call the functions behind `torch.nn.LSTMCell` and `torch.nn.RNNCell`, which take less time before they start."""
    import torch

    state = fast_path.initial_state_of(request)
    if request.cell.kind == "lstm":
        state = [*torch.lstm_cell(x, state, *weights)]
    else:
        state = [torch.rnn_tanh_cell(x, *state, *weights)]
    return Result(state[0][:, None], state, ENGINE.name)


def _forbidden(request: Request) -> str | None:
    import torch

    if request.use_cudnn is False and torch.cuda.is_available():
        return "would run on cuDNN, which use_cudnn=False forbids"
    return None


ENGINE = Engine("torch_nn", "torch.nn.LSTM and torch.nn.RNN: cuDNN on a GPU, oneDNN or ATen on a CPU", supports, run)
