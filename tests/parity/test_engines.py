"""The parity matrix: every engine against the reference engine and the float64 oracle, outputs and all gradients."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

import keras
import numpy as np
import pytest

from keras_lstm_custom.engines import ENGINES
from tests.covering import covering
from tests.engines.harness import FAST, LAYERS, MASKS, Case, arrays, assert_same, layer_of, request_of, run
from tests.oracles import numpy_cells

BACKEND = keras.backend.backend()

AXES = {
    "kind": list(LAYERS),
    "mask": list(MASKS),
    "go_backwards": [False, True],
    "zero_state": [False, True],
    "dropout": ["none", "one", "each"],
    "return_sequences": [True, False],
    "zero_output_for_mask": [False, True],
    "use_bias": [True, False],
    "training": [True, False],
}
DTYPES = ["float64", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]

#: Half the distance of 1 to the next number: what one rounding may be off by, relatively.
ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
#: An output goes through 6 steps of about 14 roundings each (8 products, 6 elementwise operations), 84 in all. They
#: add up as a random walk does, to 9 of them; chance exceeds 4 times that once in 10,000. A wrong term is of order 1.
ROUNDINGS = 4 * 84**0.5


def matrix():
    """Any three options in float32, the dtype that all engines know, and any two in the others.

    Any two in float32 on JAX, where each case is compiled; other dtypes have tests of their own on JAX and torch.
    """
    rows = [(row, "float32") for row in covering(AXES, 2 if BACKEND == "jax" else 3)]
    if BACKEND == "tensorflow":
        rows += [(row, row.pop("dtype")) for row in covering({**AXES, "dtype": DTYPES})]
    for row, dtype in rows:
        dropout = {"none": 0, "one": 1, "each": LAYERS[row["kind"]][1]}[row.pop("dropout")]
        yield Case(**row, dtype=dtype, inputs_dropout=dropout, recurrent_dropout=dropout)


def tolerance(case: Case) -> float:
    return ROUNDINGS * ROUNDING[case.dtype.removeprefix("mixed_")]


@cache
def reference(case: Case) -> dict[str, np.ndarray]:
    return run("reference", case)


def oracle_outputs(case: Case, data: dict) -> dict[str, np.ndarray]:
    """What the oracle gives for the outputs of a case, by the names of the harness."""

    def in_order(values):
        return values[:, ::-1] if case.go_backwards and values is not None else values

    def for_each_gate(masks):
        return masks if masks is None or isinstance(masks, list) else [masks] * LAYERS[case.kind][1]

    bias = data["weights"][2] if case.use_bias else None
    mask = in_order(data["mask"])
    steps = getattr(numpy_cells, case.kind)(
        in_order(data["x"]),
        *data["weights"][:2],
        bias,
        *data["state"],
        mask=mask,
        inputs_dropout=for_each_gate(data["inputs_dropout"]),
        recurrent_dropout=for_each_gate(data["recurrent_dropout"]),
    )
    y = steps["y"]
    if case.zero_output_for_mask and mask is not None:
        y = np.where(mask[..., None], y, 0.0)
    states = "hc"[: len(data["state"])]
    outputs = {"outputs": y if case.return_sequences else y[:, -1:], "last_output": y[:, -1]}
    return outputs | {f"final {s}": steps[s][:, -1] for s in states}


@cache
def oracle(case: Case) -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, float]]]:
    """Return the oracle's outputs; and for each gradient a random direction and the slope of the loss along it."""
    data, rng = arrays(case), np.random.default_rng(5)

    def loss(**changed):
        values = oracle_outputs(case, data | changed).values()
        return sum(
            (v * (w[:, : v.shape[1]] if v.ndim == 3 else w)).sum() for v, w in zip(values, data["loss"], strict=True)
        )

    places = {"dx": ("x", None)} | {f"d{s}": ("state", n) for n, s in enumerate("hc"[: len(data["state"])])}
    names = ["dkernel", "drecurrent_kernel", "dbias"][: len(data["weights"])]
    places |= {name: ("weights", n) for n, name in enumerate(names)}
    slopes = {}
    for name, (where, n) in places.items():
        at = data[where] if n is None else data[where][n]
        direction = rng.normal(size=at.shape)
        direction /= np.linalg.norm(direction)

        def along(step, where=where, n=n, at=at, direction=direction):
            moved = at + step * direction
            return loss(**{where: moved if n is None else [*data[where][:n], moved, *data[where][n + 1 :]]})

        slopes[name] = direction, (along(1e-5) - along(-1e-5)) / 2e-5
    return oracle_outputs(case, data), slopes


@pytest.mark.parametrize("engine", ["reference", *FAST])
@pytest.mark.parametrize("case", list(matrix()), ids=str)
def test_engine_agrees_with_the_oracle_and_the_reference(engine, case):
    got = serve(engine, case) if engine != "reference" else reference(case)
    outputs, slopes = oracle(case)
    assert_same({name: got[name] for name in outputs}, outputs, tolerance(case))
    for name, (direction, slope) in slopes.items():
        # The differences are good to 1e-8. A sum of roundings along a direction of length 1 is one rounding on average.
        bound = 1e-8 + tolerance(case) * max(1.0, np.abs(got[name]).max())
        assert abs((got[name] * direction).sum() - slope) <= bound, name
    assert_same(got, reference(case), tolerance(case))


@pytest.mark.tensorflow
def test_the_matrix_leaves_nothing_out():
    """Counted here by plain loops over the cases, not by what made them."""
    axes = {name: values for name, values in AXES.items() if name != "dropout"}
    cases = list(matrix())
    for names in combinations(axes, 3):
        met = {tuple(getattr(case, name) for name in names) for case in cases if case.dtype == "float32"}
        assert met == set(product(*(axes[name] for name in names))), names
    for dtype, (name, values) in product(DTYPES, axes.items()):
        assert {getattr(case, name) for case in cases if case.dtype == dtype} == set(values), (dtype, name)
    for mask, count in product(MASKS, (0, 1, 4)):
        assert any(case.mask == mask and case.recurrent_dropout == count for case in cases), (mask, count)


def serve(engine, case):
    """Skip a case that the engine says it does not serve: what it refuses is tested where the engine is."""
    data = arrays(case)
    support = ENGINES[engine].supports(request_of(case, layer_of(case, data["weights"]), data))
    if not support.ok:
        pytest.skip(support.reason)
    return run(engine, case, data)


@pytest.mark.tensorflow
@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("way", ["compiled", "static", "dynamic"])
@pytest.mark.parametrize("masked", [True, False], ids=["mask", "no mask"])
def test_graphs(engine, kind, way, masked):
    """The same numbers inside tf.function: of static and unknown sizes, and compiled as a whole."""
    import tensorflow as tf

    case = Case(kind, "scattered" if masked else "none", recurrent_dropout=LAYERS[kind][1])
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = request_of(case, layer, data)
    if not ENGINES[engine].supports(request).ok:
        pytest.skip(ENGINES[engine].supports(request).reason)
    if way == "compiled" and engine == "native":
        pytest.skip("an operation of its own, which XLA does not know")

    def wrap(function):
        if way != "dynamic":
            return tf.function(function, jit_compile=way == "compiled", autograph=False)
        x = tf.TensorSpec((None, None, case.features))
        state = [tf.TensorSpec((None, case.units)) for _ in data["state"]]
        mask = tf.TensorSpec((None, None), tf.bool) if masked else None
        traced = tf.function(function, autograph=False).get_concrete_function(x, state, mask)
        return lambda *arguments: traced(*(a for a in tf.nest.flatten(arguments) if a is not None))

    assert_same(run(engine, case, data, wrap=wrap), run("reference", case, data), tolerance(case))
