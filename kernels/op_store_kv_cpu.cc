#include <algorithm>

#include "io/base.h"
#include "kernels/ops_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/op_store_kv_cpu.cc"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#include "hwy/foreach_target.h"  // first of its kind: compiles this file anew per target
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// To float16, nearest even. Beyond its range: its largest, since an infinity in a page would
// turn every later token into NaN.
template <class D>
HWY_INLINE void StoreHalves(D d, const float* input, hwy::float16_t* output) {
  const hn::Rebind<hwy::float16_t, D> dh;
  const auto most = hn::Set(d, 65504.0f);
  const auto v = hn::Clamp(hn::LoadU(d, input), hn::Neg(most), most);
  hn::StoreU(hn::DemoteTo(dh, v), dh, output);
}

void StoreRow(const float* input, uint64_t count, hwy::float16_t* output) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  uint64_t i = 0;
  for (; i + lanes <= count; i += lanes) StoreHalves(d, input + i, output + i);
  for (; i < count; ++i) StoreHalves(hn::CappedTag<float, 1>(), input + i, output + i);
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(StoreRow);

constexpr uint64_t kLeastElements = 32768;
constexpr uint32_t kPiece = 256;  // elements made at once, before they are spread

// Stores a row of keys at its place in a block of positions: element i at i * kKeyBlock.
void StoreSpread(const float* input, uint64_t count, hwy::float16_t* output) {
  alignas(64) hwy::float16_t halves[kPiece];
  for (uint64_t first = 0; first < count; first += kPiece) {
    const uint64_t piece = std::min<uint64_t>(kPiece, count - first);
    HWY_DYNAMIC_DISPATCH(StoreRow)(input + first, piece, halves);
    hwy::float16_t* const to = output + first * kKeyBlock;
    for (uint64_t i = 0; i < piece; ++i) to[i * kKeyBlock] = halves[i];
  }
}

}  // namespace

void StoreKvCpu(CpuStream& stream, const StoreKvArgs& args) {
  WEIR_CHECK(args.layout.page_tokens > 0 && args.layout.page_tokens % kKeyBlock == 0);
  WEIR_CHECK(args.layout.order == KvOrder::kByHead);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    const KvLayout& l = args.layout;
    const uint64_t key_elements = uint64_t{l.kv_heads} * l.key_columns;
    const uint64_t value_elements = uint64_t{l.kv_heads} * l.value_columns;
    const WorkShare share =
        ShareWork(args.tokens, key_elements + value_elements, kLeastElements, worker, workers);
    for (uint64_t t = share.begin; t < share.end; ++t) {
      const uint32_t position = static_cast<uint32_t>(args.positions[t]);
      auto* const keys = reinterpret_cast<hwy::float16_t*>(args.pages[position / l.page_tokens]);
      hwy::float16_t* const values = keys + l.page_tokens * key_elements;
      const uint64_t slot = position % l.page_tokens;
      const uint64_t in_block = slot % kKeyBlock;
      for (uint64_t h = 0; h < l.kv_heads; ++h) {
        const uint64_t head_slot = h * l.page_tokens + slot;
        StoreSpread(args.keys + t * args.keys_stride + h * l.key_columns, l.key_columns,
                    keys + (head_slot - in_block) * l.key_columns + in_block);
        HWY_DYNAMIC_DISPATCH(StoreRow)
        (args.values + t * args.values_stride + h * l.value_columns, l.value_columns,
         values + head_slot * l.value_columns);
      }
    }
  });
}

}  // namespace weir
#endif  // HWY_ONCE
