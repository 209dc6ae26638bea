// Where the keys and values of one KV head lie in its pages, on the CPU. Private to kernels/.
#ifndef WEIR_KERNELS_KV_ROWS_H_
#define WEIR_KERNELS_KV_ROWS_H_

#include <cstdint>

#include "kernels/kv_layout.h"

namespace weir {

struct KvRows {
  const KvLayout& layout;
  uint8_t* const* pages;  // [position / page_tokens]
  uint32_t kv_head;

  // The block of keys that holds `position`.
  uint8_t* Keys(uint32_t position) const {
    const uint64_t slot = position % layout.page_tokens / kKeyBlock * kKeyBlock;
    return Page(position) + (uint64_t{kv_head} * layout.page_tokens + slot) * KeyRowBytes(layout);
  }
  uint8_t* Value(uint32_t position) const {
    const uint64_t row = uint64_t{kv_head} * layout.page_tokens + position % layout.page_tokens;
    return Page(position) + uint64_t{layout.page_tokens} * layout.kv_heads * KeyRowBytes(layout) +
           row * ValueRowBytes(layout);
  }

 private:
  uint8_t* Page(uint32_t position) const { return pages[position / layout.page_tokens]; }
};

}  // namespace weir

#endif  // WEIR_KERNELS_KV_ROWS_H_
