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

void StoreRow(const float* input, uint64_t count, uint8_t* output_bytes) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  hwy::float16_t* const output = reinterpret_cast<hwy::float16_t*>(output_bytes);
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

}  // namespace

void StoreKvCpu(CpuStream& stream, const StoreKvArgs& args) {
  WEIR_CHECK(args.layout.page_tokens > 0);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    const KvLayout& l = args.layout;
    const uint64_t key_elements = uint64_t{l.kv_heads} * l.key_columns;
    const uint64_t value_elements = uint64_t{l.kv_heads} * l.value_columns;
    const WorkShare share =
        ShareWork(args.tokens, key_elements + value_elements, kLeastElements, worker, workers);
    for (uint64_t t = share.begin; t < share.end; ++t) {
      const uint32_t position = static_cast<uint32_t>(args.positions[t]);
      uint8_t* const page = args.pages[position / l.page_tokens];
      const uint64_t slot = position % l.page_tokens;
      uint8_t* const values = page + 2 * l.page_tokens * key_elements;
      HWY_DYNAMIC_DISPATCH(StoreRow)
      (args.keys + t * args.keys_stride, key_elements, page + 2 * slot * key_elements);
      HWY_DYNAMIC_DISPATCH(StoreRow)
      (args.values + t * args.values_stride, value_elements, values + 2 * slot * value_elements);
    }
  });
}

}  // namespace weir
#endif  // HWY_ONCE
