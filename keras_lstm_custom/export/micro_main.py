"""`main.cc` of a microcontroller package: it runs the test vector on the device, and says whether all is right."""

from __future__ import annotations

from keras_lstm_custom.export.micro_package import TYPES, Package, shown


def main_source(package: Package) -> str:
    """Return its text."""
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
    names = ", ".join(f'"{shown(tensor.name)}"' for tensor in package.outputs)
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
    order = ", ".join(map(str, [*range(package.sequences), 0]))
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
