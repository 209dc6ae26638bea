// How keys and values lie in the pages of the KV cache.
#ifndef WEIR_KERNELS_KV_LAYOUT_H_
#define WEIR_KERNELS_KV_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/device.h"

namespace weir {

enum class KvFormat : uint8_t {
  kF16,
  // 8-bit codes, in groups of kKvGroup columns with a float16 scale each: a number is scale * code,
  // |code| <= 127. As ggml's q8_0, but that scales lie together. CPU only.
  kQ8_0,
};
inline constexpr uint32_t kKvGroup = 32;

// As llama.cpp's users write it.
constexpr std::string_view KvFormatName(KvFormat format) {
  return format == KvFormat::kF16 ? "f16" : "q8_0";
}
constexpr std::optional<KvFormat> KvFormatFromName(std::string_view name) {
  for (const KvFormat format : {KvFormat::kF16, KvFormat::kQ8_0}) {
    if (name == KvFormatName(format)) return format;
  }
  return std::nullopt;
}

// Of a run: what keys and what values are kept in.
struct KvFormats {
  KvFormat keys = KvFormat::kF16;
  KvFormat values = KvFormat::kF16;

  bool operator==(const KvFormats&) const = default;
};

// One page holds page_tokens consecutive positions of one layer of one sequence: the keys, then the
// values, each in the order that suits the device which attends to them.
enum class KvOrder : uint8_t {
  // Keys [page_tokens, kv_heads, key_columns], values [page_tokens, kv_heads, value_columns], all
  // float16.
  kByToken,
  // Keys [kv_heads, page_tokens / kKeyBlock, key_columns, kKeyBlock], values [kv_heads,
  // page_tokens, value_columns]: a head's lie together, and a vector of keys holds one column of
  // successive positions, so that scores need no sums across vectors. page_tokens is a multiple of
  // kKeyBlock. In kQ8_0 each block of keys is followed by its scales [key_columns / kKvGroup,
  // kKeyBlock], each row of values by its own [value_columns / kKvGroup].
  kByHead,
};
inline constexpr uint32_t kKeyBlock = 16;
constexpr KvOrder KvOrderOf(DeviceKind kind) {
  return kind == DeviceKind::kCuda ? KvOrder::kByToken : KvOrder::kByHead;
}

struct KvLayout {
  uint32_t page_tokens;
  uint32_t kv_heads;
  uint32_t key_columns;               // per head; a multiple of kKvGroup in kQ8_0
  uint32_t value_columns;             // likewise
  KvOrder order = KvOrder::kByToken;  // must be KvOrderOf(stream.kind())
  KvFormats formats = {};
};

// Bytes of one head's keys, or values, of one position, with their scales.
constexpr uint64_t KvRowBytes(KvFormat format, uint32_t columns) {
  return format == KvFormat::kF16 ? uint64_t{2} * columns
                                  : columns + uint64_t{2} * (columns / kKvGroup);
}
constexpr uint64_t KeyRowBytes(const KvLayout& l) {
  return KvRowBytes(l.formats.keys, l.key_columns);
}
constexpr uint64_t ValueRowBytes(const KvLayout& l) {
  return KvRowBytes(l.formats.values, l.value_columns);
}
constexpr uint64_t KvPositionBytes(const KvLayout& l) {
  return l.kv_heads * (KeyRowBytes(l) + ValueRowBytes(l));
}
constexpr uint64_t KvPageBytes(const KvLayout& l) { return l.page_tokens * KvPositionBytes(l); }

}  // namespace weir

#endif  // WEIR_KERNELS_KV_LAYOUT_H_
