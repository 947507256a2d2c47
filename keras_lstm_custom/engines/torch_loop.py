"""The loop engine for torch: fused loops with their own gradient, in torch's own operations."""

from __future__ import annotations

from keras_lstm_custom.engines import fast_path, masking, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations.projection import project


def supports(request: Request) -> Support:
    """Serve every mask, direction, state, dropout and dtype of both cells, under torch."""
    reason = fast_path.refusal(request, "torch")
    return Support(False, reason) if reason else Support(True, "custom gradient, a handful of operations a step")


@no_steps.served
def run(request: Request) -> Result:
    """Project all inputs at once, then run the recurrence."""
    import torch

    from keras_lstm_custom.engines.torch.recurrence import recurrence

    cell = request.cell
    kernel, recurrent_kernel, bias = fast_path.weights_of(cell)
    mask = masking.in_running_order(request)
    x = request.sequences.flip(1) if request.go_backwards else request.sequences

    def projected(x, kernel, bias):
        z_x = project(x, kernel, bias, request.dropout.inputs, torch.matmul)
        return z_x.to(recurrent_kernel.dtype)  # inside `torch.autocast` a product comes in another

    hs, state = recurrence(
        cell.equation,
        projected,
        (x.transpose(0, 1), kernel, bias),
        fast_path.initial_state_of(request),
        recurrent_kernel,
        None if mask is None else mask.t()[..., None],
        fast_path.masks_of(request.dropout.recurrent),
    )
    outputs = hs.transpose(0, 1) if request.return_sequences else state[0][:, None]
    return Result(outputs, state, ENGINE.name)


ENGINE = Engine("torch_loop", "fused loops with their own gradient, in torch's own operations", supports, run)
