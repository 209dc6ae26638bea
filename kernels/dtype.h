// The element formats of weights on disk. Quantised formats come in blocks that are never split.
// Ids and layouts: the GGUF specification and ggml's type table (facts; see docs/formats.md).
#ifndef WEIR_KERNELS_DTYPE_H_
#define WEIR_KERNELS_DTYPE_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/types/span.h"

namespace weir {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;    // as GGUF users write it: "Q4_K"
  uint32_t gguf_id;         // ggml's type number in a GGUF tensor header
  uint32_t block_elements;  // 1 for float formats; 32 or 256
  uint32_t block_bytes;
};

const DTypeInfo& GetDTypeInfo(DType dtype);
absl::Span<const DTypeInfo> AllDTypes();
std::optional<DType> DTypeFromGgufId(uint32_t gguf_id);
std::optional<DType> DTypeFromName(std::string_view name);  // case-insensitive

// Bytes of one row of `elements`; a multiple of block_elements (checked).
uint64_t RowBytes(DType dtype, uint64_t elements);

}  // namespace weir

#endif  // WEIR_KERNELS_DTYPE_H_
