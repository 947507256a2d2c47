"""torch's own LSTM and RNN: cuDNN on a GPU, oneDNN or ATen on a CPU."""

from __future__ import annotations

from functools import cache

from keras_lstm_custom.engines import fast_path, masking
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations.weight_layout import cudnn_blocks

#: The class in `torch.nn` and the number of gates for each kind of cell.
MODULES = {"lstm": ("LSTM", 4), "vanilla_rnn": ("RNN", 1)}


def supports(request: Request) -> Support:
    """Serve every direction, state and dtype of both cells without a mask and recurrent dropout, under torch."""
    reason = fast_path.refusal(request, "torch") or fast_path.whole_layer_refusal(request) or _forbidden(request)
    return Support(False, reason) if reason else Support(True, "torch.nn, by cuDNN on a GPU")


def run(request: Request) -> Result:
    """Call the module as a function of weights in its own layout."""
    import torch

    cell = request.cell
    x = request.sequences.flip(1) if request.go_backwards else request.sequences
    for m in fast_path.masks_of(request.dropout.inputs):  # none, or one
        x = x * m[:, None]
    features, units = x.shape[2], cell.units
    # Pieces of one vector, which cuDNN can read as they are.
    blocks = cudnn_blocks(fast_path.cudnn_weights(cell), features, units, MODULES[cell.kind][1])
    state = [s[None] for s in request.initial_state]
    outputs, final = torch.func.functional_call(
        _module(cell.kind, features, units),
        {f"{name}_l0": block for name, block in blocks._asdict().items()},
        (x, tuple(state) if len(state) > 1 else state[0]),
    )
    final = [s[0] for s in (final if len(state) > 1 else [final])]
    outputs = outputs if request.return_sequences else final[0][:, None]
    return masking.result(request, ENGINE.name, outputs, final)


@cache
def _module(kind: str, features: int, units: int):
    """Return a module without weights of its own."""
    import torch

    return getattr(torch.nn, MODULES[kind][0])(features, units, batch_first=True, device="meta")


def _forbidden(request: Request) -> str | None:
    import torch

    if request.use_cudnn is False and torch.cuda.is_available():
        return "would run on cuDNN, which use_cudnn=False forbids"
    return None


ENGINE = Engine("torch_nn", "torch.nn.LSTM and torch.nn.RNN: cuDNN on a GPU, oneDNN or ATen on a CPU", supports, run)
