#include "kernels/dtype.h"

#include <array>

#include "absl/strings/match.h"
#include "io/base.h"

namespace weir {
namespace {

// Type numbers: ggml's `enum ggml_type`. Block sizes: kernels/quant_blocks.h, which asserts the
// same numbers for its structs.
constexpr std::array<DTypeInfo, 16> kDTypes = {{
    {DType::kF32, "F32", 0, 1, 4},
    {DType::kF16, "F16", 1, 1, 2},
    {DType::kBF16, "BF16", 30, 1, 2},
    {DType::kQ4_0, "Q4_0", 2, 32, 18},
    {DType::kQ4_1, "Q4_1", 3, 32, 20},
    {DType::kQ5_0, "Q5_0", 6, 32, 22},
    {DType::kQ5_1, "Q5_1", 7, 32, 24},
    {DType::kQ8_0, "Q8_0", 8, 32, 34},
    {DType::kQ2_K, "Q2_K", 10, 256, 84},
    {DType::kQ3_K, "Q3_K", 11, 256, 110},
    {DType::kQ4_K, "Q4_K", 12, 256, 144},
    {DType::kQ5_K, "Q5_K", 13, 256, 176},
    {DType::kQ6_K, "Q6_K", 14, 256, 210},
    {DType::kIQ4_NL, "IQ4_NL", 20, 32, 18},
    {DType::kIQ4_XS, "IQ4_XS", 23, 256, 136},
    {DType::kMXFP4, "MXFP4", 39, 32, 17},
}};

constexpr bool IndexedByDType() {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<size_t>(kDTypes[i].dtype) != i) return false;
  }
  return true;
}
static_assert(IndexedByDType());

}  // namespace

const DTypeInfo& GetDTypeInfo(DType dtype) {
  const size_t index = static_cast<size_t>(dtype);
  WEIR_CHECK(index < kDTypes.size());
  return kDTypes[index];
}

absl::Span<const DTypeInfo> AllDTypes() { return kDTypes; }

std::optional<DType> DTypeFromGgufId(uint32_t gguf_id) {
  for (const DTypeInfo& info : kDTypes) {
    if (info.gguf_id == gguf_id) return info.dtype;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeInfo& info : kDTypes) {
    const absl::string_view known(info.name.data(), info.name.size());
    if (absl::EqualsIgnoreCase(known, absl::string_view(name.data(), name.size()))) {
      return info.dtype;
    }
  }
  return std::nullopt;
}

uint64_t RowBytes(DType dtype, uint64_t elements) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  WEIR_CHECK(elements % info.block_elements == 0);
  uint64_t row_bytes = 0;
  WEIR_CHECK(CheckedMul(elements / info.block_elements, info.block_bytes, &row_bytes));
  return row_bytes;
}

}  // namespace weir
