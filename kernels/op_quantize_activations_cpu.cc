// Activations to int8 in groups of 32, for products with block formats.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/op_quantize_activations_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "io/base.h"
#include "kernels/ops_cpu.h"
#include "kernels/quantized_activations.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL

// Sum of 16 int8.
inline int32_t Sum16(const int8_t* q) {
  const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
  const __m256i pairs = _mm256_madd_epi16(wide, _mm256_set1_epi16(1));
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}

// One group: q = round-to-even(x * 127 / max|x|). Magnitudes are compared as integers so that a
// NaN counts as the largest and reaches the output through the scale, as an infinity does. A group
// whose largest magnitude is below 2^-100 becomes zero: its reciprocal could overflow.
void QuantizeGroup(const float* input, uint8_t* record, const QuantizedLayout& layout, uint64_t g) {
  const hn::FixedTag<float, 8> d;
  const hn::FixedTag<int32_t, 8> di;
  const auto magnitude_bits = hn::Set(di, 0x7FFFFFFF);
  auto largest = hn::Zero(di);
  for (int i = 0; i < 32; i += 8) {
    const auto bits = hn::BitCast(di, hn::LoadU(d, input + i));
    largest = hn::Max(largest, hn::And(bits, magnitude_bits));
  }
  const float amax = hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, largest)));
  const bool tiny = amax < 0x1p-100f;
  const float scale = tiny ? 0.0f : amax / 127.0f;
  const auto inverse = hn::Set(d, tiny ? 0.0f : 127.0f / amax);

  int8_t* values = reinterpret_cast<int8_t*>(record + layout.values()) + 32 * g;
  for (int i = 0; i < 32; i += 8) {
    auto q = hn::NearestInt(hn::Mul(hn::LoadU(d, input + i), inverse));
    q = hn::Max(hn::Min(q, hn::Set(di, 127)), hn::Set(di, -127));
    hn::StoreU(hn::DemoteTo(hn::FixedTag<int8_t, 8>(), q), hn::FixedTag<int8_t, 8>(), values + i);
  }
  const int32_t sums[2] = {Sum16(values), Sum16(values + 16)};
  const auto floats = [&](uint64_t offset) { return reinterpret_cast<float*>(record + offset); };
  const auto ints = [&](uint64_t offset) { return reinterpret_cast<int32_t*>(record + offset); };
  floats(layout.scales())[g] = scale;
  floats(layout.scaled_sums(32))[g] = scale * static_cast<float>(sums[0] + sums[1]);
  ints(layout.negative_sums(32))[g] = -(sums[0] + sums[1]);
  for (int h = 0; h < 2; ++h) {
    floats(layout.scaled_sums(16))[2 * g + h] = scale * static_cast<float>(sums[h]);
    ints(layout.negative_sums(16))[2 * g + h] = -sums[h];
  }
}

#endif  // a supported target

// Groups [begin, end), numbered through all tokens.
void QuantizeGroups(const QuantizeActivationsArgs& args, uint64_t begin, uint64_t end) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  const QuantizedLayout layout(args.columns);
  const uint64_t groups = args.columns / 32;
  for (uint64_t i = begin; i < end; ++i) {
    const uint64_t token = i / groups, g = i % groups;
    QuantizeGroup(args.input + token * args.input_stride + 32 * g,
                  args.output + token * layout.token_bytes(), layout, g);
  }
#else
  (void)args, (void)begin, (void)end;
  WEIR_CHECK(false && "the CPU lacks AVX2");
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weir {

HWY_EXPORT(QuantizeGroups);

uint64_t QuantizedActivationBytes(uint64_t tokens, uint64_t columns) {
  WEIR_CHECK(columns % 32 == 0);
  return tokens * QuantizedLayout(columns).token_bytes();
}

void QuantizeActivationsCpu(CpuStream& stream, const QuantizeActivationsArgs& args) {
  WEIR_CHECK(args.columns % 32 == 0);
  WEIR_CHECK(reinterpret_cast<uintptr_t>(args.output) % 64 == 0);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    constexpr uint64_t kLeastElements = 8192;
    const uint64_t groups = uint64_t{args.tokens} * (args.columns / 32);
    const WorkShare share = ShareWork(groups, 32, kLeastElements, worker, workers);
    if (share.begin < share.end) {
      HWY_DYNAMIC_DISPATCH(QuantizeGroups)(args, share.begin, share.end);
    }
  });
}

}  // namespace weir
#endif  // HWY_ONCE
