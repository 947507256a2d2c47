"""The C++ files of a microcontroller package, as text. Nothing here runs or measures anything."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np

from keras_lstm_custom.export.micro_main import main_source
from keras_lstm_custom.export.micro_package import TYPES, Package, shown

#: Methods of MicroMutableOpResolver that are not named after their op by the rule of `resolver_call`.
IRREGULAR = {
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}


def files(package: Package) -> dict[str, str]:
    """Return the text of each file by its name."""
    writers = {
        "model.h": _model_header,
        "model.cc": _model_source,
        "model_settings.h": _settings,
        "model_ops.h": _ops,
        "test_vector.h": _vector_header,
        "test_vector.cc": _vector_source,
        "main.cc": main_source,
    }
    if package.states:
        writers["model_states.h"] = _states
    return {name: write(package) for name, write in writers.items()}


def resolver_call(op: str) -> str:
    """Return the method of MicroMutableOpResolver that registers the op: CONV_2D -> AddConv2D."""
    return IRREGULAR.get(op) or "Add" + "".join(p if p[0].isdigit() else p.capitalize() for p in op.split("_"))


def _model_header(package: Package) -> str:
    return _header(
        package,
        "model",
        ["cstddef"],
        """\
        // The TFLite file. It stays in flash; its address is a multiple of 16, as the runtime needs it.
        extern const unsigned char kModel[];
        extern const size_t kModelBytes;""",
    )


def _model_source(package: Package) -> str:
    array = f"alignas(16) const unsigned char kModel[] = {{\n{_values(package.model, '0x{:02x}')}\n}};"
    return _source(package, "model.h", f"{array}\nconst size_t kModelBytes = sizeof(kModel);")


def _settings(package: Package) -> str:
    lines = [
        f"// {package.arena_comment}",
        f"constexpr size_t kArenaBytes = {package.arena_bytes};",
        *_cmsis_nn(package),
        "",
        "// Where a scale is given: real value = scale * (stored value - zero point).",
    ]
    for kind, tensors in (("Input", package.inputs), ("Output", package.outputs)):
        lines += ["", f"constexpr int k{kind}Count = {len(tensors)};"]
        for number, tensor in enumerate(tensors):
            label = f"k{kind}{number}"
            shape = ", ".join(map(str, tensor.shape))
            lines += [
                "",
                f"// {shown(tensor.name)}",
                f"using {kind}{number}Type = {TYPES[tensor.dtype].name};",
                f"constexpr int {label}Shape[] = {{{shape}}};",
                f"constexpr int {label}Size = {int(np.prod(tensor.shape))};",
            ]
            if tensor.scale:
                lines.append(f"constexpr float {label}Scale = {np.float32(tensor.scale):.9g}f;")
                lines.append(f"constexpr int {label}ZeroPoint = {tensor.zero_point};")
    return _header(package, "model_settings", ["cstddef", "cstdint"], "\n".join(lines))


def _cmsis_nn(package: Package) -> list[str]:
    if package.not_on_cmsis_nn:
        return [f"// The kernels of CMSIS-NN do not run this model: {package.not_on_cmsis_nn}."]
    return [
        "// With the kernels of CMSIS-NN, which keep sums over the weights and a buffer; from their formulas.",
        f"constexpr size_t kArenaBytesCmsisNn = {package.arena_bytes + package.cmsis_nn_bytes};",
    ]


def _states(package: Package) -> str:
    fields, resets, saves, loads = [], [], [], []
    for number, (into, out_of) in enumerate(package.states.items()):
        tensor = package.inputs[into]
        field, member = f"state{number}", TYPES[tensor.dtype].member
        fields.append(f"  Input{into}Type {field}[kInput{into}Size];  // {shown(tensor.name)}")
        zero = f"kInput{into}ZeroPoint" if tensor.scale else "0"
        resets.append(f"    for (auto& value : {field}) value = {zero};")
        saves.append(f"    std::memcpy({field}, interpreter.output({out_of})->data.{member}, sizeof({field}));")
        loads.append(f"    std::memcpy(interpreter.input({into})->data.{member}, {field}, sizeof({field}));")
    head = [
        "// The states between two invocations. The runtime may let inputs and outputs share memory: an output that",
        "// was copied straight to an input can lie over the next one. So they wait here:",
        "// Reset() before a sequence, Load() before each invocation, Save() after it.",
        "struct States {",
    ]
    call = "tflite::MicroInterpreter& interpreter"
    functions = [("Reset()", resets), (f"Save({call})", saves), (f"Load({call})", loads)]
    bodies = [f"  void {name} {{\n" + "\n".join(lines) + "\n  }" for name, lines in functions]
    includes = ["cstring", "model_settings.h", "tensorflow/lite/micro/micro_interpreter.h"]
    return _header(package, "model_states", includes, "\n".join([*head, *fields, "", *bodies, "};"]))


def _ops(package: Package) -> str:
    calls = "\n".join(f"  TF_LITE_ENSURE_STATUS(resolver.{resolver_call(op)}());" for op in package.ops)
    body = (
        "// Only the kernels that the model needs are linked.\n"
        f"using OpResolver = tflite::MicroMutableOpResolver<{len(package.ops)}>;\n\n"
        f"inline TfLiteStatus AddOps(OpResolver& resolver) {{\n{calls}\n  return kTfLiteOk;\n}}"
    )
    return _header(package, "model_ops", ["tensorflow/lite/micro/micro_mutable_op_resolver.h"], body)


def _vector_header(package: Package) -> str:
    lines = [
        "// The model run here, as it stores its values: of each sequence so many invocations, from a fresh state.",
        f"constexpr int kTestSequences = {package.sequences};",
        f"constexpr int kTestInvocations = {package.invocations};",
        "",
    ]
    lines += [f"extern const {TYPES[array.dtype.name].name} {name}[{array.size}];" for name, array in _tested(package)]
    return _header(package, "test_vector", ["cstdint"], "\n".join(lines))


def _vector_source(package: Package) -> str:
    blocks = []
    for name, array in _tested(package):
        form = "{:.9g}" if array.dtype.kind == "f" else "{}"
        declared = f"const {TYPES[array.dtype.name].name} {name}[{array.size}]"
        blocks.append(f"{declared} = {{\n{_values(array.reshape(-1).tolist(), form)}\n}};")
    return _source(package, "test_vector.h", "\n\n".join(blocks))


def _tested(package: Package) -> list[tuple[str, np.ndarray]]:
    """Return the arrays of the test by their names; states are handed on, not fed."""
    fed = [k for k in range(len(package.inputs)) if k not in package.states]
    inputs = [(f"kTestInput{k}", array) for k, array in zip(fed, package.test_inputs, strict=True)]
    return [*inputs, *((f"kTestOutput{k}", array) for k, array in enumerate(package.test_outputs))]


def _header(package: Package, file: str, includes: Iterable[str], body: str) -> str:
    guard = f"{package.name}_{file}_H_".upper()
    included = "\n".join(f'#include "{name}"' if name.endswith(".h") else f"#include <{name}>" for name in includes)
    inside = textwrap.dedent(body)
    return (
        f"#ifndef {guard}\n#define {guard}\n\n{included}\n\nnamespace {package.name} {{\n\n"
        f"{inside}\n\n}}  // namespace {package.name}\n\n#endif  // {guard}\n"
    )


def _source(package: Package, header: str, body: str) -> str:
    return f'#include "{header}"\n\nnamespace {package.name} {{\n\n{body}\n\n}}  // namespace {package.name}\n'


def _values(values: Iterable, form: str) -> str:
    text = ", ".join(map(form.format, values))
    return textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
