// QuantizeModel: a GGUF file made from another, with its matrices in other
// formats. Behind `weir quantize`; also for commands that need one model in
// several formats.
#ifndef WEIR_TOOLS_QUANTIZE_MODEL_H_
#define WEIR_TOOLS_QUANTIZE_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "tools/quantize_plan.h"

namespace weir {

struct QuantizeOptions {
  QuantizeFormats formats;
  bool overwrite = false;
  bool sync = true;      // fsync before returning; a scratch file does without
  uint32_t threads = 0;  // 0: one for each core that this process may use
  std::string isa;       // as CpuDeviceOptions::isa: the latest choice is the process's
  // Called before the writing with each of QuantizePlan::notes. May be null.
  std::function<void(const std::string& note)> note = {};
  // Of the new file, after about every MiB of it. May be null.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress = {};
};

struct QuantizeResult {
  uint64_t source_bytes = 0;  // tensors of the source
  uint64_t tensor_bytes = 0;  // tensors of the new file
  uint64_t file_bytes = 0;
  uint64_t tensor_count = 0;
  uint64_t changed_count = 0;  // tensors that got another format
  uint32_t threads = 0;
};

// Reads `source` (a GGUF, or the first part of a split one) in place, a piece
// at a time: memory does not grow with the model. `target` is one file with all
// metadata of the source, types included, except split.* and with
// general.file_type and general.quantization_version set anew; the same bytes
// whatever the number of threads. It appears under its name when it is whole;
// an error or an interrupt (tools/interrupt.h) leaves nothing. Blocks.
//
// Errors carry their exit code: kUsage (formats; source and target are one
// file; target exists), kBadModel (the source cannot be read as a model, or
// holds a value that the format cannot: NaN, infinity, too large for float16;
// tensor, place and value are named), kIo, kOutput (no space).
absl::StatusOr<QuantizeResult> QuantizeModel(const std::string& source, const std::string& target,
                                             const QuantizeOptions& options);

}  // namespace weir

#endif  // WEIR_TOOLS_QUANTIZE_MODEL_H_
