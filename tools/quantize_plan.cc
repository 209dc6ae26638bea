#include "tools/quantize_plan.h"

#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/quantize_blocks.h"

namespace weir {
namespace {

constexpr char kOutput[] = "output.weight";
constexpr char kEmbedding[] = "token_embd.weight";

// Parts of names of matrices that are small, and whose values decide more than
// their size says.
constexpr absl::string_view kKept[] = {"_norm",         "ffn_gate_inp", "rope_",
                                       "attn_rot_embd", "position_",    "token_types",
                                       "ssm_conv1d",    "altup",        "per_layer_model_proj"};

bool IsMatrix(const TensorInfo& tensor) {
  if (tensor.columns() <= 1 || tensor.rows() <= 1) return false;
  if (!absl::EndsWith(tensor.name, ".weight")) return false;
  for (const absl::string_view part : kKept) {
    if (absl::StrContains(tensor.name, part)) return false;
  }
  return true;
}

bool IsFloat(DType dtype) { return GetDTypeInfo(dtype).block_elements == 1; }

// The next best for rows that are not whole blocks of `dtype`.
DType FittingFormat(DType dtype, uint64_t columns) {
  for (const DType fitting : {dtype, DType::kQ8_0}) {
    if (columns % GetDTypeInfo(fitting).block_elements == 0) return fitting;
  }
  return DType::kF16;
}

std::string Name(DType dtype) { return std::string(GetDTypeInfo(dtype).name); }

// Tensors of which the same is said: the first of them, and how many there are.
struct Mentioned {
  std::string first;
  uint64_t count = 0;
  void Add(const std::string& name) {
    if (count++ == 0) first = name;
  }
  std::string Text() const {
    if (count == 1) return absl::StrCat("1 matrix (", first, ")");
    return absl::StrCat(count, " matrices (", first, ", ...)");
  }
};

struct Mentions {
  std::map<std::pair<uint64_t, std::pair<DType, DType>>, Mentioned> unfit;  // columns, from, to
  std::map<DType, Mentioned> lossy;                                         // format of the source

  std::vector<std::string> Notes() const {
    std::vector<std::string> notes;
    for (const auto& [key, tensors] : unfit) {
      const auto& [columns, formats] = key;
      notes.push_back(absl::StrCat("rows of ", columns, " are not whole blocks of ",
                                   GetDTypeInfo(formats.first).block_elements, ", as ",
                                   Name(formats.first), " has them: ", tensors.Text(), " in ",
                                   Name(formats.second), " instead"));
    }
    for (const auto& [dtype, tensors] : lossy) {
      notes.push_back(absl::StrCat(tensors.Text(), " of the source ",
                                   tensors.count == 1 ? "is" : "are", " in ", Name(dtype),
                                   " already: what that lost stays lost"));
    }
    return notes;
  }
};

absl::Status CheckFormat(DType dtype) {
  if (CanQuantizeTo(dtype)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      Name(dtype), " is read but cannot be written. What can be: ", QuantizableFormats()));
}

DType FormatFor(const TensorInfo& tensor, const QuantizeFormats& formats) {
  if (tensor.name == kOutput) return formats.output.value_or(formats.matrices);
  if (tensor.name == kEmbedding) return formats.embedding.value_or(formats.matrices);
  return formats.matrices;
}

}  // namespace

absl::StatusOr<QuantizePlan> PlanQuantization(const TensorIndex& index,
                                              const QuantizeFormats& formats) {
  WEIR_RETURN_IF_ERROR(CheckFormat(formats.matrices));
  WEIR_RETURN_IF_ERROR(CheckFormat(formats.output.value_or(formats.matrices)));
  WEIR_RETURN_IF_ERROR(CheckFormat(formats.embedding.value_or(formats.matrices)));
  if (formats.output.has_value() && index.Find(kOutput) == nullptr) {
    return absl::InvalidArgumentError(
        "--output-format: the model has no output matrix, to which a format of its own could be "
        "given: its token "
        "embedding serves as output. Give --embedding-format instead");
  }
  QuantizePlan plan;
  Mentions mentions;
  uint64_t matrices = 0;
  for (const TensorInfo& tensor : index.tensors) {
    DType dtype = tensor.dtype;
    if (IsMatrix(tensor)) {
      ++matrices;
      const DType wanted = FormatFor(tensor, formats);
      dtype = FittingFormat(wanted, tensor.columns());
      if (dtype != wanted) {
        mentions.unfit[{tensor.columns(), {wanted, dtype}}].Add(tensor.name);
      }
    }
    if (dtype != tensor.dtype) {
      ++plan.changed_count;
      if (!IsFloat(tensor.dtype)) mentions.lossy[tensor.dtype].Add(tensor.name);
    }
    plan.dtypes.push_back(dtype);
  }
  if (matrices == 0) {
    return absl::InvalidArgumentError("the file holds no matrix of weights to quantise");
  }
  plan.notes = mentions.Notes();
  return plan;
}

uint32_t GgufFileType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ8_0:
      return 7;
    case DType::kQ5_0:
      return 8;
    case DType::kQ5_1:
      return 9;
    case DType::kQ4_K:
      return 14;  // "Q4_K - small": all matrices alike
    case DType::kQ5_K:
      return 16;
    case DType::kQ6_K:
      return 18;
    case DType::kBF16:
      return 32;
    default:
      WEIR_CHECK(false && "a format that cannot be written");
  }
}

}  // namespace weir
