"""The C++ files of a microcontroller package, as text. Nothing here runs or measures anything."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
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
    test_inputs: Sequence[np.ndarray]  #: of each input but states: (sequences · invocations, ...), as it is stored
    test_outputs: Sequence[np.ndarray]  #: of each output
    invocations: int  #: of each sequence of the test
    states: Mapping[int, int]  #: inputs that are, at the next invocation, what an output was
    reset: bool  #: whether the runtime keeps states that a new sequence must not see
    arena_bytes: int
    arena_comment: str
    cmsis_nn_bytes: int  #: what the kernels of CMSIS-NN take of the arena beyond that
    not_on_cmsis_nn: str  #: why they do not run the model; empty if they do


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
                f"// {_shown(tensor.name)}",
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
        fields.append(f"  Input{into}Type {field}[kInput{into}Size];  // {_shown(tensor.name)}")
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
        f"constexpr int kTestSequences = {_sequences(package)};",
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


def _sequences(package: Package) -> int:
    return len(package.test_outputs[0]) // package.invocations


def _main(package: Package) -> str:
    name = package.name
    feeds = "\n".join(
        f"      std::memcpy(interpreter.input({k})->data.{TYPES[t.dtype].member},\n"
        f"                  {name}::kTestInput{k} + at * {name}::kInput{k}Size, "
        f"{name}::kInput{k}Size * sizeof({name}::Input{k}Type));"
        for k, t in enumerate(package.inputs)
        if k not in package.states
    )
    checks = "\n".join(
        f"      wrong[{k}] += Differences(interpreter.output({k})->data.{TYPES[t.dtype].member},\n"
        f"                              {name}::kTestOutput{k} + at * {name}::kOutput{k}Size, "
        f"{name}::kOutput{k}Size, {TYPES[t.dtype].tolerance});"
        for k, t in enumerate(package.outputs)
    )
    names = ", ".join(f'"{_shown(tensor.name)}"' for tensor in package.outputs)
    resets = "    if (interpreter.Reset() != kTfLiteOk) return 5;\n" if package.reset else ""
    parts = {"include": "", "declare": "", "load": "", "save": ""}
    if package.states:
        parts = {
            "include": '#include "model_states.h"\n',
            "declare": f"  static {name}::States states;\n",
            "load": "      states.Load(interpreter);\n",
            "save": "      states.Save(interpreter);\n",
        }
        resets += "    states.Reset();\n"
    order = ", ".join(map(str, [*range(_sequences(package)), 0]))
    refusal = ""
    if package.not_on_cmsis_nn:
        refusal = f'\n#ifdef CMSIS_NN\n#error "The kernels of CMSIS-NN: {package.not_on_cmsis_nn}"\n#endif\n'
        bytes_ = f"constexpr size_t kBytes = {name}::kArenaBytes;"
    else:
        bytes_ = (
            "#ifdef CMSIS_NN  // as the library's makefile defines it with OPTIMIZED_KERNEL_DIR=cmsis_nn\n"
            f"constexpr size_t kBytes = {name}::kArenaBytesCmsisNn;\n#else\n"
            f"constexpr size_t kBytes = {name}::kArenaBytes;\n#endif"
        )
    return _MAIN.format(
        name=name,
        feeds=feeds,
        checks=checks,
        names=names,
        resets=resets,
        order=order,
        refusal=refusal,
        bytes=bytes_,
        **parts,
    )


_MAIN = """\
// Runs the model on its test vector and says whether this device gives the expected outputs.
// Build it with model.cc, test_vector.cc and the library of TensorFlow Lite for Microcontrollers (C++17).
//
// It ends with 0 if all is right, 1 if values differ, 2 if the library reads another file format, 3 if an op cannot be
// registered, 4 if AllocateTensors fails, 5 if an invocation does. On the library's target cortex_m_generic nothing is
// printed until you give it a way to: RegisterDebugLogCallback of
// tensorflow/lite/micro/cortex_m_generic/debug_log_callback.h, before all else in main.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "model.h"
#include "model_ops.h"
#include "model_settings.h"
{include}#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "test_vector.h"
{refusal}
namespace {{

{bytes}
alignas(16) uint8_t arena[kBytes];

// Returns how many values are further from the expected ones than kernels of different vendors are.
template <typename T>
int Differences(const T* values, const T* expected, int size, double tolerance) {{
  int count = 0;
  for (int i = 0; i < size; ++i) {{
    const double difference = static_cast<double>(values[i]) - static_cast<double>(expected[i]);
    if (!(difference <= tolerance && -difference <= tolerance)) ++count;
  }}
  return count;
}}

}}  // namespace

int main() {{
  tflite::InitializeTarget();
  const tflite::Model* model = tflite::GetModel({name}::kModel);
  if (model->version() != TFLITE_SCHEMA_VERSION) {{
    MicroPrintf("The library reads another version of the file format.");
    return 2;
  }}
  static {name}::OpResolver resolver;
  if ({name}::AddOps(resolver) != kTfLiteOk) return 3;
  static tflite::MicroInterpreter interpreter(model, resolver, arena, kBytes);
  if (interpreter.AllocateTensors() != kTfLiteOk) {{
    MicroPrintf("AllocateTensors failed. The library says above which op refused, or how much the arena lacks.");
    return 4;
  }}

  // Each sequence from a fresh state, and the first once more: what one leaves behind would show in the next.
  int wrong[{name}::kOutputCount] = {{}};
{declare}  const int order[] = {{{order}}};
  for (const int sequence : order) {{
{resets}    for (int n = 0; n < {name}::kTestInvocations; ++n) {{
      const int at = sequence * {name}::kTestInvocations + n;
{load}{feeds}
      if (interpreter.Invoke() != kTfLiteOk) return 5;
{checks}
{save}    }}
  }}

  const char* const names[] = {{{names}}};
  bool right = true;
  for (int k = 0; k < {name}::kOutputCount; ++k) {{
    if (wrong[k] == 0) continue;
    MicroPrintf("%s: %d values differ", names[k], wrong[k]);
    right = false;
  }}
  MicroPrintf(right ? "The model gives the expected outputs." : "The model does NOT give the expected outputs.");
  return right ? 0 : 1;
}}
"""


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


def _shown(name: str) -> str:
    """Return a tensor's name for a comment or a string of C++; what could end either is written as octal bytes."""
    plain = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in name.encode(errors="replace")]
    return "".join(plain)


def _values(values: Iterable, form: str) -> str:
    text = ", ".join(map(form.format, values))
    return textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
