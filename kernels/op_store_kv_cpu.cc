#include <algorithm>

#include "io/base.h"
#include "kernels/kv_rows.h"
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

// kKvGroup numbers, limited as above: the scale is the nearest float16 to a 127th of the largest
// magnitude, codes are to the nearest even of what the scale as it is stored leaves.
void StoreGroup(const float* input, int8_t* codes, hwy::float16_t* scale) {
  const hn::CappedTag<float, kKvGroup> d;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const hn::RebindToSigned<decltype(d)> di;
  const auto most = hn::Set(d, 65504.0f);
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(d);
  for (size_t i = 0; i < kKvGroup; i += lanes) {
    largest = hn::Max(largest, hn::Min(hn::Abs(hn::LoadU(d, input + i)), most));
  }
  const float wanted = hn::GetLane(hn::MaxOfLanes(d, largest)) / 127.0f;
  StoreHalves(hn::CappedTag<float, 1>(), &wanted, scale);
  const hn::CappedTag<float, 1> one;
  const hn::Rebind<hwy::float16_t, decltype(one)> half;
  const float stored = hn::GetLane(hn::PromoteTo(one, hn::LoadU(half, scale)));
  const auto factor = hn::Set(d, stored > 0 ? 1.0f / stored : 0.0f);
  for (size_t i = 0; i < kKvGroup; i += lanes) {
    const auto v = hn::Clamp(hn::LoadU(d, input + i), hn::Neg(most), most);
    const auto code = hn::Min(hn::NearestInt(hn::Mul(v, factor)), hn::Set(di, 127));
    hn::StoreU(hn::DemoteTo(d8, hn::Max(code, hn::Set(di, -127))), d8, codes + i);
  }
}

void StoreCodes(const float* input, uint64_t count, int8_t* codes, hwy::float16_t* scales) {
  for (uint64_t i = 0; i < count; i += kKvGroup) {
    StoreGroup(input + i, codes + i, scales + i / kKvGroup);
  }
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {
namespace {

HWY_EXPORT(StoreRow);
HWY_EXPORT(StoreCodes);

constexpr uint64_t kLeastElements = 32768;
constexpr uint32_t kPiece = 256;  // elements made at once, before they are spread
static_assert(kPiece % kKvGroup == 0);

hwy::float16_t* Halves(uint8_t* bytes) { return reinterpret_cast<hwy::float16_t*>(bytes); }

// Stores `count` numbers at their place in a block of positions, i at i * kKeyBlock.
template <typename T>
void Spread(const T* from, uint64_t count, T* to) {
  for (uint64_t i = 0; i < count; ++i) to[i * kKeyBlock] = from[i];
}

// A row of keys, to position `in_block` of a block.
void StoreKeys(const float* input, uint64_t count, KvFormat format, uint64_t in_block,
               uint8_t* block) {
  alignas(64) hwy::float16_t halves[kPiece];
  alignas(64) int8_t codes[kPiece];
  for (uint64_t first = 0; first < count; first += kPiece) {
    const uint64_t piece = std::min<uint64_t>(kPiece, count - first);
    if (format == KvFormat::kF16) {
      HWY_DYNAMIC_DISPATCH(StoreRow)(input + first, piece, halves);
      Spread(halves, piece, Halves(block) + first * kKeyBlock + in_block);
      continue;
    }
    HWY_DYNAMIC_DISPATCH(StoreCodes)(input + first, piece, codes, halves);
    Spread(codes, piece, reinterpret_cast<int8_t*>(block) + first * kKeyBlock + in_block);
    Spread(halves, piece / kKvGroup,
           Halves(block + count * kKeyBlock) + first / kKvGroup * kKeyBlock + in_block);
  }
}

void StoreValues(const float* input, uint64_t count, KvFormat format, uint8_t* row) {
  if (format == KvFormat::kF16) {
    return HWY_DYNAMIC_DISPATCH(StoreRow)(input, count, Halves(row));
  }
  HWY_DYNAMIC_DISPATCH(StoreCodes)
  (input, count, reinterpret_cast<int8_t*>(row), Halves(row + count));
}

bool HoldsGroups(KvFormat format, uint32_t columns) {
  return format == KvFormat::kF16 || columns % kKvGroup == 0;
}

}  // namespace

void StoreKvCpu(CpuStream& stream, const StoreKvArgs& args) {
  WEIR_CHECK(args.layout.page_tokens > 0 && args.layout.page_tokens % kKeyBlock == 0);
  WEIR_CHECK(args.layout.order == KvOrder::kByHead);
  WEIR_CHECK(HoldsGroups(args.layout.formats.keys, args.layout.key_columns));
  WEIR_CHECK(HoldsGroups(args.layout.formats.values, args.layout.value_columns));
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    const KvLayout& l = args.layout;
    const uint64_t elements = uint64_t{l.kv_heads} * (l.key_columns + l.value_columns);
    const WorkShare share = ShareWork(args.tokens, elements, kLeastElements, worker, workers);
    for (uint64_t t = share.begin; t < share.end; ++t) {
      const uint32_t position = static_cast<uint32_t>(args.positions[t]);
      for (uint32_t h = 0; h < l.kv_heads; ++h) {
        const KvRows rows = {l, args.pages, h};
        StoreKeys(args.keys + t * args.keys_stride + uint64_t{h} * l.key_columns, l.key_columns,
                  l.formats.keys, position % l.page_tokens % kKeyBlock, rows.Keys(position));
        StoreValues(args.values + t * args.values_stride + uint64_t{h} * l.value_columns,
                    l.value_columns, l.formats.values, rows.Value(position));
      }
    }
  });
}

}  // namespace weir
#endif  // HWY_ONCE
