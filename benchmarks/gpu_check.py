"""Correctness on this device: what `gpu.py --check` runs, by the tests' own cases, oracle and harness.

Each fast engine that says it serves a case is compared with the reference engine on this device and with the float64
oracle on the CPU, outputs and all gradients. A check never stops the others.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import keras
import numpy as np

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES
from keras_lstm_custom.errors import EngineError
from tests.covering import covering
from tests.engines.harness import LAYERS, MASKS, Case, arrays, layer_of, request_of, run
from tests.oracles import numpy_cells
from tests.parity.test_engines import ROUNDING, ROUNDINGS, oracle, oracle_outputs, tolerance

BACKEND = keras.backend.backend()
AXES = {
    "kind": list(LAYERS),
    "mask": ["none", "right padded", "left padded", "scattered", "rows without a step"],
    "go_backwards": [False, True],
    "zero_state": [False, True],
    "dropout": ["none", "inputs", "recurrent", "each"],
    "return_sequences": [True, False],
    "zero_output_for_mask": [False, True],
    "use_bias": [True, False],
    "dtype": ["float32", "bfloat16", "float16", "mixed_bfloat16"],
}
#: Sizes at which cuDNN takes other algorithms. The bound is that of a float32 sum over `units` terms in `steps` steps.
LARGE = [
    {"batch": 64, "timesteps": 50, "features": 64, "units": 128},
    {"batch": 64, "timesteps": 35, "features": 512, "units": 512},
    {"batch": 1, "timesteps": 40, "features": 8, "units": 1024},
]
LARGE_BOUND = 1e-4
#: One rounding of cuDNN under torch in float32 without TF32: `torch.nn.LSTM` itself is off from float64 by 6e-6 where
#: torch without cuDNN is by 2e-7 (the rows "torch.nn.LSTM itself", on an H100), 30 times as much.
CUDNN_ROUNDING = 30 * ROUNDING["float32"]
MOST_VALUES = 1000  #: of a tensor that is written down
LARGE_CASES = [
    {},
    {"mask": "scattered"},
    {"recurrent_dropout": 1},
    {"mask": "scattered", "recurrent_dropout": 4},
    {"kind": "vanilla_rnn", "recurrent_dropout": 1},
    {"kind": "gru"},
]


#: What did not pass when the checks last ran on a GPU and is not explained (`docs/gpu.md`).
UNEXPLAINED = Case("lstm", "left padded", go_backwards=True, return_sequences=False, use_bias=False, dtype="float16")


def cases() -> Iterator[Case]:
    """What did not pass, then the plain case of each dtype, then any two options."""
    yield UNEXPLAINED
    for kind in LAYERS:
        for dtype in AXES["dtype"]:
            yield Case(kind, dtype=dtype)
    for options in ({}, {"mask": "scattered", "go_backwards": True}, {"recurrent_dropout": 1}, {"use_bias": False}):
        yield Case("gru", **options)
    for every in (2, 4):  # divides the six steps, and does not
        yield Case("lstm", checkpoint_every=every)
        yield Case("lstm", "left padded", checkpoint_every=every, recurrent_dropout=1)
    for row in covering(AXES, 2):
        gates = len(layer_of(Case(row["kind"])).cell.gates)
        inputs, recurrent = {"none": (0, 0), "inputs": (1, 0), "recurrent": (0, 1), "each": (gates, gates)}[
            row.pop("dropout")
        ]
        yield Case(**row, inputs_dropout=inputs, recurrent_dropout=recurrent)
    for mask in MASKS:
        yield Case("lstm", mask, batch=7)


def has_gpu() -> bool:
    """Whether torch computes on a GPU."""
    import torch

    return torch.cuda.is_available()


def compiled(function: Callable) -> Callable:
    """Compile under JAX, where each operation of its own would be compiled by itself."""
    if BACKEND != "jax":
        return function
    import jax

    return jax.jit(function)


def distances(got: dict, expected: dict) -> dict[str, float]:
    """Return by name the largest difference, relative to the largest value, or to 1 (sums of small numbers)."""
    assert got.keys() >= expected.keys(), (list(got), list(expected))
    found = {}
    for name, value in expected.items():
        assert got[name].shape == value.shape, f"{name}: shape {got[name].shape}, expected {value.shape}"
        difference = np.abs(got[name] - value).max(initial=0) / max(1.0, np.abs(value).max(initial=0))
        found[name] = float(difference) if np.isfinite(got[name]).all() else float("inf")
    return found


def engines_for(case: Case) -> list[str]:
    """The fast engines that say they serve the case here."""
    data = arrays(case)
    request = request_of(case, layer_of(case, data["weights"]), data)
    found = [n for n, e in ENGINES.items() if n != "reference" and e.supports(request).ok]
    return found if case.kind not in LAYERS else [n for n in found if n != "derived"]  # for those that nobody else has


def parity(case: Case, oracle_too: bool = True, bound: float | None = None) -> Iterator[dict]:
    """Compare each engine that claims the case; the reference, too, with the oracle."""
    bound = tolerance(case) if bound is None else bound
    engines = engines_for(case)
    if not engines:
        return
    reference = run("reference", case, wrap=compiled)
    for engine in ["reference", *engines]:
        on_cudnn = BACKEND == "torch" and engine == "torch_nn" and case.dtype == "float32" and has_gpu()
        allowed = max(bound, ROUNDINGS * CUDNN_ROUNDING) if on_cudnn else bound
        row = {"check": "parity", "case": str(case), "engine": engine, "bound": allowed}
        try:
            got = reference if engine == "reference" else served(engine, case)
            errors = {f"reference: {n}": d for n, d in distances(got, reference).items()}
            if oracle_too and hasattr(numpy_cells, case.kind):
                outputs, slopes = oracle(case)
                errors |= {f"oracle: {n}": d for n, d in distances(got, outputs).items()}
                for name, (direction, slope) in slopes.items():
                    difference = abs(float(np.sum(got[name] * direction)) - slope) - 1e-8  # of the oracle's own
                    errors[f"oracle: {name}"] = difference / max(1.0, np.abs(got[name]).max())
            worst = max(errors, key=errors.get)
            row |= {"ok": bool(errors[worst] <= allowed), "worst": worst, "error": float(errors[worst])}
            if not row["ok"]:
                row |= evidence(worst.split(": ")[1], got, reference) | {"errors": errors}
        except Exception as error:
            row |= failure(error)
        yield row


def evidence(name: str, got: dict, reference: dict) -> dict:
    """What tells one fault from another where a row fails: the tensor, and the reference's."""
    tensors = {"got": got[name], "reference": reference[name]}
    return {which: np.asarray(values).tolist() for which, values in tensors.items() if values.size <= MOST_VALUES}


def served(engine: str, case: Case) -> dict[str, np.ndarray]:
    """Return what the engine gives; of a long sequence on torch at the third time, when it comes from a recording."""
    if BACKEND != "torch" or case.timesteps < 30:
        return run(engine, case, wrap=compiled)
    return run(engine, case, wrap=lambda function: lambda *arguments: [function(*arguments) for _ in range(3)][-1])


def failure(error: Exception) -> dict:
    """What a row says of an exception."""
    lines = traceback.format_exc().strip().splitlines()
    return {"ok": False, "worst": f"{type(error).__name__}: {error}"[:400], "error": None, "trace": lines[-12:]}


def second_derivatives(engine: str) -> dict:
    """Compare the gradient of a gradient with the reference's, or report what is raised."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 6, 2)).astype("float32")

    def of(engine):
        keras.utils.set_random_seed(1)
        layer = klc.LSTM(5, return_sequences=True, engine=engine)
        layer.build((None, None, 2))
        if BACKEND == "torch":
            import torch

            t = keras.ops.convert_to_tensor(x).clone().requires_grad_()
            (by_x,) = torch.autograd.grad((layer(t) ** 2).sum(), t, create_graph=True)
            found = torch.autograd.grad((by_x**2).sum(), [t, *(w.value for w in layer.weights)], allow_unused=True)
            return [keras.ops.convert_to_numpy(g) for g in found]
        import jax

        weights = [w.value for w in layer.weights]

        others = [v.value for v in layer.non_trainable_variables]

        def loss(x, weights):
            return keras.ops.sum(layer.stateless_call(weights, others, x)[0] ** 2)

        outer = jax.jit(jax.grad(lambda x, w: keras.ops.sum(jax.grad(loss)(x, w) ** 2), argnums=(0, 1)))
        by_x, by_weights = outer(x, weights)
        return [np.asarray(g) for g in (by_x, *by_weights)]

    expected = of("reference")
    try:
        got = of(engine)
    except (EngineError, NotImplementedError) as error:  # it may be refused, in words
        return {"ok": True, "worst": f"refused: {error}", "error": None}
    errors = [np.abs(a - b).max() / max(1, np.abs(b).max()) for a, b in zip(got, expected, strict=True)]
    return {"ok": bool(max(errors) < 1e-4), "worst": "gradient of the gradient", "error": float(max(errors))}


def fit(dtype: str, masked: bool, recurrent_dropout: float) -> dict:
    """Train a small model for a few steps on "auto" and on the reference: the same loss, and it falls."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 20, 5)).astype("float32")
    x[::2, :7] = 0  # what Masking leaves out: left padding
    y = x.sum(axis=(1, 2))[:, None] / 5
    losses, engines = [], []
    for engine in ("auto", "reference"):
        keras.utils.set_random_seed(1)
        both = keras.layers.Bidirectional(
            klc.LSTM(16, engine=engine, recurrent_dropout=recurrent_dropout, seed=3, dtype=dtype)
        )
        layers = [keras.layers.Masking()] if masked else []
        model = keras.Sequential([keras.Input((20, 5)), *layers, both, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        losses.append(model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0).history["loss"])
        engines.append(both.forward_layer.last_engine)
    difference = float(np.abs(np.subtract(*losses)).max())
    bound = 1e-4 if dtype == "float32" else 0.05
    ok = difference < bound * max(losses[1]) and losses[0][-1] < losses[0][0]
    return {"ok": bool(ok), "worst": f"loss {losses}", "error": difference, "engines": engines}


def explanation(**options) -> dict:
    """What `explain_engine` says for the layer, and what then runs."""
    masked, training = options.pop("masked", False), options.pop("training", True)
    layer = klc.LSTM(8, return_sequences=True, **options)
    answer = layer.explain_engine((2, 9, 3), masked=masked, training=training)
    mask = np.ones((2, 9), bool) if masked else None
    layer(np.zeros((2, 9, 3), "float32"), mask=mask, training=training)
    return {
        "ok": layer.last_engine == answer.chosen,
        "worst": f"says {answer.chosen}, ran {layer.last_engine}",
        "error": None,
        "explanation": str(answer),
    }


def plain_precision() -> Iterator[dict]:
    """How far `torch.nn.LSTM` itself is from float64, by torch's own switches: what no engine on cuDNN can better."""
    import torch

    if not torch.cuda.is_available():
        return
    switches = {"cudnn.allow_tf32=True": True, "cudnn.allow_tf32=False": False, "rnn.fp32_precision='ieee'": "ieee"}
    for size in ({"batch": 4, "timesteps": 6, "features": 3, "units": 5}, LARGE[0]):
        case = Case(**size)
        data = arrays(case)
        exact = torch.nn.LSTM(case.features, case.units, batch_first=True, dtype=torch.float64)
        x = torch.as_tensor(data["x"])
        y = exact(x)[0]
        by = torch.autograd.grad((y * torch.as_tensor(data["loss"][0])).sum(), list(exact.parameters()))
        module = torch.nn.LSTM(case.features, case.units, batch_first=True).cuda()
        module.load_state_dict({k: v.float() for k, v in exact.state_dict().items()})
        for name, value in [*switches.items(), ("cudnn.enabled=False", None)]:
            row = {"check": "torch.nn.LSTM itself", "case": f"{name}, {case}", "engine": "torch.nn", "bound": None}
            try:
                if isinstance(value, bool):
                    torch.backends.cudnn.allow_tf32 = value
                elif value:
                    torch.backends.cudnn.rnn.fp32_precision = value
                with torch.backends.cudnn.flags(enabled=value is not None, allow_tf32=torch.backends.cudnn.allow_tf32):
                    got = module(x.float().cuda())[0]
                    loss = (got * torch.as_tensor(data["loss"][0]).float().cuda()).sum()
                    mine = torch.autograd.grad(loss, list(module.parameters()))
                pairs = zip((got, *mine), (y, *by), strict=True)
                errors = [float((a.cpu() - b).abs().max() / max(1, b.abs().max())) for a, b in pairs]
                yield row | {"ok": True, "worst": " ".join(f"{e:.1e}" for e in errors), "error": max(errors)}
            except Exception as error:
                yield row | failure(error) | {"ok": True}


def tf32(case: Case) -> Iterator[dict]:
    """How far the engines are from the oracle with the framework's own choice of TF32: not judged."""
    outputs = oracle_outputs(case, arrays(case))
    for engine in ["reference", *engines_for(case)]:
        errors = distances(run(engine, case, wrap=compiled), outputs)
        worst = max(errors, key=errors.get)
        yield {"check": "tf32 as the framework has it", "case": str(case), "engine": engine, "ok": True} | {
            "worst": worst,
            "error": errors[worst],
            "bound": None,
        }


def exact_products(exact: bool) -> None:
    """Allow TF32 or not, wherever the framework has a say."""
    if BACKEND == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False  # torch's default
        torch.backends.cudnn.allow_tf32 = not exact  # torch's default: True
    elif BACKEND == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest" if exact else None)


def jobs() -> list[tuple[str, Callable[[], Iterator[dict]]]]:
    """All checks, the most important ones first: a label, and what yields rows."""

    def single(name, function, **arguments):
        label = ", ".join(f"{k}={v}" for k, v in arguments.items())

        def rows():
            row = {"check": name, "case": label, "engine": arguments.get("engine", "auto"), "bound": None}
            try:
                yield row | function(**arguments)
            except Exception as error:
                yield row | failure(error)

        return f"{name} {label}", rows

    found = [(f"parity {case}", partial(parity, case)) for case in dict.fromkeys(cases())]
    first, rest = found[:16], found[16:]
    if BACKEND == "torch":
        first.append(("torch.nn.LSTM itself", plain_precision))
    others = [single("explain", explanation, **o) for o in ({}, {"masked": True}, {"recurrent_dropout": 0.2})]
    others += [
        single("fit", fit, dtype=d, masked=m, recurrent_dropout=r)
        for d, m, r in (("float32", False, 0.0), ("float32", True, 0.2), ("mixed_bfloat16", False, 0.0))
    ]
    others += [single("second derivative", second_derivatives, engine=e) for e in _second()]
    large = [Case(**options, **size) for size in LARGE for options in LARGE_CASES]
    others += [(f"large {case}", partial(parity, case, False, LARGE_BOUND)) for case in large]
    return first + others + rest


def _second() -> list[str]:
    return {"jax": ["jax_scan", "cudnn"], "torch": ["torch_nn", "torch_loop"]}.get(BACKEND, [])


warnings.filterwarnings("ignore", category=UserWarning)
