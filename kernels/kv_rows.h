// Where the keys and values of one KV head lie in its pages, on the CPU. Private to kernels/.
#ifndef WEIR_KERNELS_KV_ROWS_H_
#define WEIR_KERNELS_KV_ROWS_H_

#include <cstdint>

#include "hwy/base.h"
#include "kernels/ops.h"

namespace weir {

struct KvRows {
  const AttentionArgs& args;
  uint32_t kv_head;

  // The block of keys that holds `position`: [key_columns, kKeyBlock].
  const hwy::float16_t* Keys(uint32_t position) const {
    const KvLayout& l = args.layout;
    const uint64_t slot = position % l.page_tokens / kKeyBlock * kKeyBlock;
    return Page(position) + (uint64_t{kv_head} * l.page_tokens + slot) * l.key_columns;
  }
  const hwy::float16_t* Value(uint32_t position) const {
    const KvLayout& l = args.layout;
    const uint64_t row = uint64_t{kv_head} * l.page_tokens + position % l.page_tokens;
    return Page(position) + uint64_t{l.page_tokens} * l.kv_heads * l.key_columns +
           row * l.value_columns;
  }

 private:
  const hwy::float16_t* Page(uint32_t position) const {
    return reinterpret_cast<const hwy::float16_t*>(args.pages[position / args.layout.page_tokens]);
  }
};

}  // namespace weir

#endif  // WEIR_KERNELS_KV_ROWS_H_
