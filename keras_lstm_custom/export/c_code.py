"""The C++ files of a microcontroller package, as text. Nothing here runs or measures anything."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_lstm_custom.export.running.runtimes import Tensor


@dataclass(frozen=True)
class Package:
    """What the files are made from."""

    name: str  #: namespace of all that is declared; one that `reserved_names.why_not` allows
    model: bytes
    ops: Sequence[str]  #: the builtin ops by name
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    test_inputs: Sequence[np.ndarray]  #: as the model stores them
    test_outputs: Sequence[np.ndarray]
    arena_bytes: int
    arena_comment: str


@dataclass(frozen=True)
class CType:
    """How C++ code deals with a tensor's type."""

    name: str
    member: str  #: of TfLiteTensor.data
    tolerance: str  #: how far two kernels may differ, in the stored unit


#: Kernels of different vendors round differently: by a few steps of int8, and as much of a range in int16.
TYPES = {
    "int8": CType("int8_t", "int8", "4"),
    "int16": CType("int16_t", "i16", "256"),
    "int32": CType("int32_t", "i32", "0"),
    "float32": CType("float", "f", "1e-4"),
}

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
        "main.cc": _main,
    }
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
                f"// {_shown(tensor.name)}",
                f"using {kind}{number}Type = {TYPES[tensor.dtype].name};",
                f"constexpr int {label}Shape[] = {{{shape}}};",
                f"constexpr int {label}Size = {int(np.prod(tensor.shape))};",
            ]
            if tensor.scale:
                lines.append(f"constexpr float {label}Scale = {np.float32(tensor.scale):.9g}f;")
                lines.append(f"constexpr int {label}ZeroPoint = {tensor.zero_point};")
    return _header(package, "model_settings", ["cstddef", "cstdint"], "\n".join(lines))


def _ops(package: Package) -> str:
    calls = "\n".join(f"  TF_LITE_ENSURE_STATUS(resolver.{resolver_call(op)}());" for op in package.ops)
    body = (
        "// Only the kernels that the model needs are linked.\n"
        f"using OpResolver = tflite::MicroMutableOpResolver<{len(package.ops)}>;\n\n"
        f"inline TfLiteStatus AddOps(OpResolver& resolver) {{\n{calls}\n  return kTfLiteOk;\n}}"
    )
    return _header(package, "model_ops", ["tensorflow/lite/micro/micro_mutable_op_resolver.h"], body)


def _vector_header(package: Package) -> str:
    lines = ["// One invocation, as the model stores its values: these inputs give these outputs."]
    for kind, tensors in (("Input", package.inputs), ("Output", package.outputs)):
        lines += [
            f"extern const {TYPES[tensor.dtype].name} kTest{kind}{number}[{int(np.prod(tensor.shape))}];"
            for number, tensor in enumerate(tensors)
        ]
    return _header(package, "test_vector", ["cstdint"], "\n".join(lines))


def _vector_source(package: Package) -> str:
    blocks = []
    for kind, arrays in (("Input", package.test_inputs), ("Output", package.test_outputs)):
        for number, array in enumerate(arrays):
            form = "{:.9g}" if array.dtype.kind == "f" else "{}"
            declared = f"const {TYPES[array.dtype.name].name} kTest{kind}{number}[{array.size}]"
            blocks.append(f"{declared} = {{\n{_values(array.reshape(-1).tolist(), form)}\n}};")
    return _source(package, "test_vector.h", "\n\n".join(blocks))


def _main(package: Package) -> str:
    feeds = "\n".join(
        f"  std::memcpy(interpreter.input({k})->data.{TYPES[t.dtype].member}, {package.name}::kTestInput{k},\n"
        f"              sizeof({package.name}::kTestInput{k}));"
        for k, t in enumerate(package.inputs)
    )
    checks = "\n".join(
        f'  wrong += Differences("{_shown(t.name)}", interpreter.output({k})->data.{TYPES[t.dtype].member},\n'
        f"                       {package.name}::kTestOutput{k}, {package.name}::kOutput{k}Size,"
        f" {TYPES[t.dtype].tolerance});"
        for k, t in enumerate(package.outputs)
    )
    return _MAIN.format(name=package.name, feeds=feeds, checks=checks)


_MAIN = """\
// Runs the model on its test vector and says whether this device gives the expected outputs.
// Build it with model.cc, test_vector.cc and the library of TensorFlow Lite for Microcontrollers (C++17).

#include <cstdint>
#include <cstring>

#include "model.h"
#include "model_ops.h"
#include "model_settings.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "test_vector.h"

namespace {{

alignas(16) uint8_t arena[{name}::kArenaBytes];

// Returns how many values are further from the expected ones than kernels of different vendors are.
template <typename T>
int Differences(const char* name, const T* values, const T* expected, int size, double tolerance) {{
  int count = 0;
  for (int i = 0; i < size; ++i) {{
    const double difference = static_cast<double>(values[i]) - static_cast<double>(expected[i]);
    if (!(difference <= tolerance && -difference <= tolerance)) ++count;
  }}
  MicroPrintf("%s: %d of %d values differ", name, count, size);
  return count;
}}

}}  // namespace

int main() {{
  tflite::InitializeTarget();
  const tflite::Model* model = tflite::GetModel({name}::kModel);
  if (model->version() != TFLITE_SCHEMA_VERSION) {{
    MicroPrintf("The library reads another version of the file format.");
    return 1;
  }}
  static {name}::OpResolver resolver;
  if ({name}::AddOps(resolver) != kTfLiteOk) return 1;
  static tflite::MicroInterpreter interpreter(model, resolver, arena, {name}::kArenaBytes);
  if (interpreter.AllocateTensors() != kTfLiteOk) {{
    MicroPrintf("kArenaBytes is too small for this device.");
    return 1;
  }}

{feeds}
  if (interpreter.Invoke() != kTfLiteOk) return 1;

  int wrong = 0;
{checks}
  MicroPrintf(wrong == 0 ? "The model gives the expected outputs." : "The model does NOT give the expected outputs.");
  return wrong == 0 ? 0 : 1;
}}
"""


def _header(package: Package, file: str, includes: Iterable[str], body: str) -> str:
    guard = f"{package.name}_{file}_H_".upper()
    included = "\n".join(f'#include "{name}"' if "/" in name else f"#include <{name}>" for name in includes)
    inside = textwrap.dedent(body)
    return (
        f"#ifndef {guard}\n#define {guard}\n\n{included}\n\nnamespace {package.name} {{\n\n"
        f"{inside}\n\n}}  // namespace {package.name}\n\n#endif  // {guard}\n"
    )


def _source(package: Package, header: str, body: str) -> str:
    return f'#include "{header}"\n\nnamespace {package.name} {{\n\n{body}\n\n}}  // namespace {package.name}\n'


def _shown(name: str) -> str:
    """Return a tensor's name for a comment or a string of C++; what could end either is written as octal bytes."""
    plain = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in name.encode(errors="replace")]
    return "".join(plain)


def _values(values: Iterable, form: str) -> str:
    text = ", ".join(map(form.format, values))
    return textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
