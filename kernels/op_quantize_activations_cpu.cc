// Activations to 16 or 8 bits in groups of 32, for products with block formats.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/op_quantize_activations_cpu.cc"
#include <algorithm>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "io/base.h"
#include "kernels/ops_cpu.h"
#include "kernels/quantized_activations.h"
#include "kernels/targets.h"

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if WEIR_IS_KERNEL_TARGET

// 32 numbers q as their low and high planes: q = kPlaneBase * high + low. A float division and
// rounding finds the nearest multiple of the base exactly: q has 15 bits.
void SplitPlanes(const int32_t* q, int8_t* high, int8_t* low) {
  const hn::FixedTag<float, 8> d;
  const hn::FixedTag<int32_t, 8> di;
  const hn::FixedTag<int8_t, 8> d8;
  for (int i = 0; i < 32; i += 8) {
    const auto all = hn::Load(di, q + i);
    const auto h = hn::NearestInt(hn::Mul(hn::ConvertTo(d, all), hn::Set(d, 1.0f / kPlaneBase)));
    const auto l = hn::Sub(all, hn::Sub(hn::ShiftLeft<8>(h), h));
    hn::StoreU(hn::DemoteTo(d8, h), d8, high + i);
    hn::StoreU(hn::DemoteTo(d8, l), d8, low + i);
  }
}

// 32 numbers q as words, the even ones first.
void StoreWords(const int32_t* q, int16_t* words) {
  for (int i = 0; i < 16; ++i) {
    words[i] = static_cast<int16_t>(q[2 * i]);
    words[16 + i] = static_cast<int16_t>(q[2 * i + 1]);
  }
}

// Sum of 16 int32.
inline int32_t Sum16(const int32_t* q) {
  int32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += q[i];
  return sum;
}

// One group: q = round-to-even(x * most / max|x|). Magnitudes are compared as integers so that a
// NaN counts as the largest and reaches the output through the scale, as an infinity does. A group
// whose largest magnitude is below 2^-100 becomes zero: its reciprocal could overflow.
void QuantizeGroup(const float* input, uint8_t* record, const QuantizedLayout& layout,
                   uint32_t planes, bool holds_words, uint64_t g) {
  const int32_t most = planes == 2 ? kMaxQ16 : kMaxQ8;
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
  const float scale = tiny ? 0.0f : amax / static_cast<float>(most);
  const auto inverse = hn::Set(d, tiny ? 0.0f : static_cast<float>(most) / amax);

  alignas(64) int32_t q[32];
  int8_t* values = reinterpret_cast<int8_t*>(record + layout.values()) + 32 * g;
  for (int i = 0; i < 32; i += 8) {
    auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, input + i), inverse));
    rounded = hn::Max(hn::Min(rounded, hn::Set(di, most)), hn::Set(di, -most));
    hn::Store(rounded, di, q + i);
    if (planes == 2) continue;
    const hn::FixedTag<int8_t, 8> d8;
    hn::StoreU(hn::DemoteTo(d8, rounded), d8, values + i);
  }
  if (holds_words) {
    StoreWords(q, reinterpret_cast<int16_t*>(record + layout.words()) + 32 * g);
  } else if (planes == 2) {
    SplitPlanes(q, values, reinterpret_cast<int8_t*>(record + layout.low_values()) + 32 * g);
  }
  const int32_t sums[2] = {Sum16(q), Sum16(q + 16)};
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
#if WEIR_IS_KERNEL_TARGET
  const uint32_t planes = PlanesOf(args.format);
  const QuantizedLayout layout(args.columns, planes);
  const uint64_t groups = args.columns / 32;
  for (uint64_t i = begin; i < end; ++i) {
    const uint64_t token = i / groups, g = i % groups;
    QuantizeGroup(args.input + token * args.input_stride + 32 * g,
                  args.output + token * layout.token_bytes(), layout, planes,
                  HoldsWords(args.format, args.tokens), g);
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
  const QuantizedLayout cpu(columns, PlanesOf(ActivationFormat::kQ16));
  return tokens * std::max(cpu.token_bytes(), CudaQuantizedBytes(columns));
}

void QuantizeActivationsCpu(CpuStream& stream, const QuantizeActivationsArgs& args) {
  WEIR_CHECK(args.columns % 32 == 0 && args.format != ActivationFormat::kF32);
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
