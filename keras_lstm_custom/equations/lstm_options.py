"""One step of the LSTM with the options of the literature, in any combination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask, project
from keras_lstm_custom.structures import LSTMState, LSTMStep, Tensor

#: ε of the normalisation of each form: that of TFLite's fused op, and that of TensorFlow Addons' cell.
EPSILON = {"gate": 1e-8, "joint": 1e-3, "addons": 1e-3}
JOINT = ("joint", "addons")  #: the forms that normalise all gates at once, and c


class LSTMOptions(NamedTuple):
    """What an LSTM has beyond the plain one."""

    peepholes: bool = False  #: i and f see c_{t-1}, o sees c_t
    coupled: bool = False  #: i = 1 - f
    projection: int | None = None  #: width of h, h = m P with m = o ⊙ tanh(c)
    projection_clip: float | None = None  #: bound of |h| after the projection
    layer_normalization: str | None = None  #: "gate", "joint" or "addons"
    cell_clip: float | None = None  #: bound of |c|, before the output gate
    zoneout: float = 0.0  #: share of h that keeps its old value
    cell_zoneout: float = 0.0  #: share of c that keeps its old value

    @property
    def gates(self) -> tuple[str, ...]:
        """The blocks of the kernels' columns, in order."""
        return ("f", "g", "o") if self.coupled else ("i", "f", "g", "o")


def lstm_options_step(
    z_x: Tensor,
    state: LSTMState,
    weights: Mapping[str, Tensor],
    options: LSTMOptions,
    *,
    keep: Mapping[str, Tensor] | None = None,
    tap: Tensor | None = None,
    activation: Callable[[Tensor], Tensor] = ops.tanh,
    recurrent_activation: Callable[[Tensor], Tensor] = ops.sigmoid,
    recurrent_dropout: DropoutMask = None,
) -> LSTMStep:
    r"""Compute all gates and the new state of an LSTM with options.

    $$
    \begin{aligned}
    z &= W x_t + b + U h_{t-1} && \text{"joint": } z = LN_1(W x_t) + LN_2(U h_{t-1}) + b \\
    i_t &= \sigma(z_i + p_i \odot c_{t-1}), \quad f_t = \sigma(z_f + p_f \odot c_{t-1})
        && \text{coupled: } i_t = 1 - f_t \\
    c_t &= \operatorname{clip}(f_t \odot c_{t-1} + i_t \odot \tanh(z_g)) \\
    o_t &= \sigma(z_o + p_o \odot c_t) \\
    m_t &= o_t \odot \tanh(c_t) && \text{"joint": } o_t \odot \tanh(LN_3(c_t)) \\
    h_t &= \operatorname{clip}(m_t P)
    \end{aligned}
    $$

    Layer normalisation "gate", the form of TFLite's fused op, normalises each gate by itself,
    $z_k = LN(W_k x_t + U_k h_{t-1} + p_k \odot c) \odot \gamma_k + b_k$, with ε = 1e-8. "joint" is that of Ba 2016 over
    all gates at once, with ε = 1e-3, peepholes added after the norms, and the raw c carried on. "addons" is "joint" but
    that the normalised c is carried on, as in TensorFlow Addons' cell: $c_t = LN_3(\ldots)$ and
    $m_t = o_t \odot \tanh(c_t)$; a peephole of o sees c before the norm.

    Zoneout, last: in training h and c keep their old value where `keep` is 1, in inference their expectation is taken,
    $h = p\,h_{t-1} + (1-p)\,\tilde h_t$; what h is made of is the fresh c.

    Sources: Gers & Schmidhuber 2000 (peepholes); Greff et al. 2017 (coupled gates); Sak et al. 2014 (projection,
    clips); Ba et al. 2016, equations 20 to 22 (layer normalisation); Krueger et al. 2016 (zoneout).

    Args:
        z_x: `(batch, gates * units)`, the input part: $W x_t + b$; "joint": $LN_1(W x_t) + b$; "gate": $W x_t$.
        state: `LSTMState(h, c)` of the step before, `(batch, projection or units)` and `(batch, units)`.
        weights: by name, those of `cells.LSTMCell` that the options ask for.
        options: which of them; the gates are packed in the order `options.gates`.
        keep: in training with zoneout, for "h" and "c" 1 where the old value stays, of the state's shape; else None.
        tap: added to c before o and h see it; of zeros, it has the gradient of c.
        activation: the function written tanh above.
        recurrent_activation: the function written σ above.
        recurrent_dropout: mask on $h_{t-1}$, as in `project`.

    Returns:
        `LSTMStep(h, c, i, f, g, o)`; h is `(batch, projection or units)`, the others are `(batch, units)`.
    """
    form = options.layer_normalization
    u = project(state.h, weights["recurrent_kernel"], mask=recurrent_dropout)
    if form in JOINT:
        u = normalised(u, weights["recurrent_norm_gamma"], weights["recurrent_norm_beta"], EPSILON[form])
    gates = options.gates
    z = dict(zip(gates, ops.split(z_x + u, len(gates), axis=-1), strict=True))
    gammas, biases = _by_gate(weights.get("gate_gamma"), gates), _by_gate(weights.get("bias"), gates)

    def before(gate: str, c: Tensor | None = None) -> Tensor:
        """Return the pre-activation of a gate that sees the cell state c."""
        value = z[gate]
        if options.peepholes and c is not None:
            value = value + weights[f"peephole_{gate}"] * c
        return normalised(value, gammas[gate], biases.get(gate), EPSILON[form]) if form == "gate" else value

    f = recurrent_activation(before("f", state.c))
    i = 1 - f if options.coupled else recurrent_activation(before("i", state.c))
    g = activation(before("g"))
    c = f * state.c + i * g
    if options.cell_clip is not None:
        c = ops.clip(c, -options.cell_clip, options.cell_clip)
    if tap is not None and form != "addons":
        c = c + tap
    o = recurrent_activation(before("o", c))
    seen = c
    if form in JOINT:
        seen = normalised(c, weights["cell_norm_gamma"], weights["cell_norm_beta"], EPSILON[form])
    if form == "addons":
        seen = c = seen if tap is None else seen + tap
    h = o * activation(seen)
    if options.projection is not None:
        h = project(h, weights["projection_kernel"])
        if options.projection_clip is not None:
            h = ops.clip(h, -options.projection_clip, options.projection_clip)
    h = _zoned_out(options.zoneout, h, state.h, keep and keep.get("h"))
    c = _zoned_out(options.cell_zoneout, c, state.c, keep and keep.get("c"))
    return LSTMStep(h=h, c=c, i=i, f=f, g=g, o=o)


def normalised(z: Tensor, gamma: Tensor, beta: Tensor | None, epsilon: float) -> Tensor:
    r"""Return $(z - \mu) / \sqrt{\sigma^2 + \epsilon} \odot \gamma + \beta$ over the last axis, in float32 at least.

    Source: Ba, Kiros & Hinton 2016, *Layer Normalization* (arXiv 1607.06450), equation 4.
    """
    dtype = z.dtype
    exact = "float64" in str(dtype)

    def mean(z: Tensor) -> Tensor:
        if exact:  # whose mean Keras computes in float32 on JAX and torch
            return ops.sum(z, axis=-1, keepdims=True) / z.shape[-1]
        return ops.mean(z, axis=-1, keepdims=True)

    z = ops.cast(z, "float64" if exact else "float32")
    z = z - mean(z)
    z = ops.cast(z * ops.rsqrt(mean(ops.square(z)) + epsilon), dtype) * gamma
    return z if beta is None else z + beta


def _by_gate(packed: Tensor | None, gates: tuple[str, ...]) -> dict[str, Tensor]:
    return {} if packed is None else dict(zip(gates, ops.split(packed, len(gates), axis=-1), strict=True))


def _zoned_out(rate: float, new: Tensor, old: Tensor, keep: Tensor | None) -> Tensor:
    if rate == 0:
        return new
    return rate * old + (1 - rate) * new if keep is None else keep * old + (1 - keep) * new
