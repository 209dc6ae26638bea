#include "tools/quantize_model.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/cpu_topology.h"
#include "models/gguf.h"
#include "models/gguf_entries.h"
#include "models/gguf_parser.h"
#include "models/gguf_writer.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/tensor_converter.h"

namespace weir {
namespace {

constexpr char kFileType[] = "general.file_type";
constexpr char kQuantizationVersion[] = "general.quantization_version";
constexpr char kAlignment[] = "general.alignment";
constexpr uint64_t kGgmlQuantizationVersion = 2;  // of ggml's block formats since May 2023

absl::Status RefuseOneFile(const TensorIndex& index, const std::string& target) {
  for (const ModelFile& file : index.files) {
    std::error_code error;
    if (!std::filesystem::equivalent(file.path, target, error) || error) continue;
    return WithExitCode(ExitCode::kUsage,
                        absl::InvalidArgumentError(absl::StrCat(
                            target,
                            " is the source itself, which is read while the new file is "
                            "written; choose another name for the new one")));
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufLayout> LayOut(const TensorIndex& index, const QuantizePlan& plan,
                                  DType format) {
  Metadata metadata;
  metadata.Set(kFileType, uint64_t{GgufFileType(format)});
  metadata.Set(kQuantizationVersion, kGgmlQuantizationVersion);
  GgufLayoutOptions layout;
  WEIR_ASSIGN_OR_RETURN(layout.alignment_bytes,
                        index.metadata.GetUintOr(kAlignment, kGgufDefaultAlignment));
  WEIR_ASSIGN_OR_RETURN(layout.entries,
                        ReadGgufEntries(index.files[0].path, [](std::string_view key) {
                          return key != kFileType && key != kQuantizationVersion &&
                                 key != kAlignment && !absl::StartsWith(AbslView(key), "split.");
                        }));
  std::vector<GgufTensor> tensors;
  for (size_t i = 0; i < index.tensors.size(); ++i) {
    tensors.push_back({index.tensors[i].name, plan.dtypes[i], index.tensors[i].dims});
  }
  return LayOutGguf(metadata, tensors, layout);
}

absl::Status Write(const std::string& target, const GgufLayout& layout,
                   const QuantizeOptions& options, TensorConverter* converter) {
  GgufWriteOptions write;
  write.overwrite = options.overwrite;
  write.sync = options.sync;
  write.progress = options.progress;
  write.check = [converter] {
    WEIR_RETURN_IF_ERROR(CheckInterrupted());
    WEIR_RETURN_IF_ERROR(converter->CheckUnchanged());
    return converter->status();
  };
  const absl::Status written = WriteGguf(
      target, layout,
      [converter](size_t tensor, uint64_t offset_bytes, absl::Span<uint8_t> out) {
        converter->Fill(tensor, offset_bytes, out);
      },
      write);
  // What failed in `check` has its code already.
  return WithExitCode(absl::IsAlreadyExists(written) ? ExitCode::kUsage : ExitCode::kOutput,
                      written);
}

}  // namespace

absl::StatusOr<QuantizeResult> QuantizeModel(const std::string& source, const std::string& target,
                                             const QuantizeOptions& options) {
  const absl::StatusOr<TensorIndex> index = OpenGguf(source);
  if (!index.ok()) return WithExitCode(ExitCode::kBadModel, index.status());
  WEIR_RETURN_IF_ERROR(RefuseOneFile(*index, target));
  const absl::StatusOr<QuantizePlan> plan = PlanQuantization(*index, options.formats);
  if (!plan.ok()) return WithExitCode(ExitCode::kUsage, plan.status());
  const absl::StatusOr<GgufLayout> layout = LayOut(*index, *plan, options.formats.matrices);
  if (!layout.ok()) return WithExitCode(ExitCode::kBadModel, layout.status());
  QuantizeResult result;
  result.threads =
      options.threads != 0 ? options.threads : std::max(1u, CountCores(UsableThreads()));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<TensorConverter> converter,
                        TensorConverter::Make(*index, *layout, result.threads, options.isa));
  if (options.note) {
    for (const std::string& note : plan->notes) options.note(note);
  }
  WEIR_RETURN_IF_ERROR(Write(target, *layout, options, converter.get()));
  result.source_bytes = index->tensor_bytes();
  for (const TensorInfo& tensor : layout->tensors) result.tensor_bytes += tensor.bytes;
  result.file_bytes = layout->file_bytes;
  result.tensor_count = layout->tensors.size();
  result.changed_count = plan->changed_count;
  return result;
}

}  // namespace weir
