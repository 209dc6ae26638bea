// Decoding of block formats to the group form (kernels/group_form.h), for the instruction set that
// the including file is being compiled for. Included once for each by way of hwy/foreach_target.h.
//
//   void Unpack<Format>(const uint8_t* block, uint8_t* values, float* scales, float* offsets)
//
// decodes one block at any byte address and reads nothing beyond it. `offsets` is written by
// formats that have offsets.
#if defined(WEIR_KERNELS_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_UNPACK_INL_H_
#undef WEIR_KERNELS_UNPACK_INL_H_
#else
#define WEIR_KERNELS_UNPACK_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/dtype.h"
#include "kernels/group_form.h"
#include "kernels/quant_blocks.h"
#include "kernels/targets.h"

// Highway also compiles a baseline target, which no supported CPU uses (kernels/isa.h).
#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D8x16 = hn::FixedTag<uint8_t, 16>;
using D8x32 = hn::FixedTag<uint8_t, 32>;
using D8x8 = hn::FixedTag<uint8_t, 8>;
using F32x8 = hn::FixedTag<float, 8>;
using I32x8 = hn::FixedTag<int32_t, 8>;
using V32 = hn::VFromD<D8x32>;

inline float HalfToFloat(const uint8_t* half) {
  uint16_t bits;
  memcpy(&bits, half, sizeof(bits));
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

inline uint32_t LoadU32(const uint8_t* from) {
  uint32_t bits;
  memcpy(&bits, from, sizeof(bits));
  return bits;
}

inline V32 Load32(const uint8_t* from) { return hn::LoadU(D8x32(), from); }
inline V32 Low4(V32 v) { return hn::And(v, hn::Set(D8x32(), 0x0F)); }

// 16 bytes to 32 nibbles: the low ones, then the high ones.
inline V32 Nibbles(const uint8_t* qs) {
  const D8x16 d;
  const auto bytes = hn::LoadU(d, qs);
  const auto low = hn::And(bytes, hn::Set(d, 0x0F));
  return hn::Combine(D8x32(), hn::ShiftRight<4>(bytes), low);
}

// `value` in each byte i whose bit i of the 32 at `bits` is set.
inline V32 ExpandBits(const uint8_t* bits, uint8_t value) {
  alignas(32) static constexpr uint8_t kByte[32] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
                                                    2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3};
  const D8x32 d;
  const hn::Repartition<uint32_t, D8x32> d32;
  const hn::Repartition<uint64_t, D8x32> d64;
  const auto all = hn::BitCast(d, hn::Set(d32, LoadU32(bits)));
  const auto spread = hn::TableLookupBytes(all, hn::Load(d, kByte));
  const auto bit = hn::BitCast(d, hn::Set(d64, 0x8040201008040201ULL));
  return hn::IfThenElseZero(hn::TestBit(spread, bit), hn::Set(d, value));
}

// `value` in each byte that has `bit` set.
inline V32 Where(V32 bytes, uint8_t bit, uint8_t value) {
  const D8x32 d;
  return hn::IfThenElseZero(hn::TestBit(bytes, hn::Set(d, bit)), hn::Set(d, value));
}

// out[i] = factor * float(integers[i]) for 8 bytes, signed or not.
template <typename Byte>
inline void Scale8(float factor, const Byte* integers, float* out) {
  const F32x8 d;
  const auto wide = hn::PromoteTo(I32x8(), hn::LoadU(hn::FixedTag<Byte, 8>(), integers));
  hn::StoreU(hn::Mul(hn::Set(d, factor), hn::ConvertTo(d, wide)), d, out);
}
// The same, negated: for offsets that a format subtracts.
inline void NegatedScale8(float factor, const uint8_t* integers, float* out) {
  const F32x8 d;
  Scale8(factor, integers, out);
  hn::StoreU(hn::Neg(hn::LoadU(d, out)), d, out);
}

inline void UnpackQ4_0(const uint8_t* p, uint8_t* values, float* scales, float*) {
  const auto* block = reinterpret_cast<const BlockQ4_0*>(p);
  hn::StoreU(Nibbles(block->qs), D8x32(), values);
  scales[0] = HalfToFloat(block->d);
}

inline void UnpackQ4_1(const uint8_t* p, uint8_t* values, float* scales, float* offsets) {
  const auto* block = reinterpret_cast<const BlockQ4_1*>(p);
  hn::StoreU(Nibbles(block->qs), D8x32(), values);
  scales[0] = HalfToFloat(block->d);
  offsets[0] = HalfToFloat(block->m);
}

inline void UnpackQ5_0(const uint8_t* p, uint8_t* values, float* scales, float*) {
  const auto* block = reinterpret_cast<const BlockQ5_0*>(p);
  hn::StoreU(hn::Or(Nibbles(block->qs), ExpandBits(block->qh, 16)), D8x32(), values);
  scales[0] = HalfToFloat(block->d);
}

inline void UnpackQ5_1(const uint8_t* p, uint8_t* values, float* scales, float* offsets) {
  const auto* block = reinterpret_cast<const BlockQ5_1*>(p);
  hn::StoreU(hn::Or(Nibbles(block->qs), ExpandBits(block->qh, 16)), D8x32(), values);
  scales[0] = HalfToFloat(block->d);
  offsets[0] = HalfToFloat(block->m);
}

inline void UnpackQ8_0(const uint8_t* p, uint8_t* values, float* scales, float*) {
  const D8x32 d;
  const auto* block = reinterpret_cast<const BlockQ8_0*>(p);
  const auto q = Load32(reinterpret_cast<const uint8_t*>(block->qs));
  hn::StoreU(hn::Xor(q, hn::Set(d, 0x80)), d, values);  // q + 128
  scales[0] = HalfToFloat(block->d);
}

// The four 2-bit fields of 32 bytes, field s being elements 32 * s + l.
inline void Crumbs(V32 bytes, V32 out[4]) {
  const auto mask = hn::Set(D8x32(), 3);
  out[0] = hn::And(bytes, mask);
  out[1] = hn::And(hn::ShiftRight<2>(bytes), mask);
  out[2] = hn::And(hn::ShiftRight<4>(bytes), mask);
  out[3] = hn::ShiftRight<6>(bytes);
}

inline void UnpackQ2_K(const uint8_t* p, uint8_t* values, float* scales, float* offsets) {
  const auto* block = reinterpret_cast<const BlockQ2_K*>(p);
  for (int half = 0; half < 2; ++half) {
    V32 crumbs[4];
    Crumbs(Load32(block->qs + 32 * half), crumbs);
    for (int s = 0; s < 4; ++s) hn::StoreU(crumbs[s], D8x32(), values + 128 * half + 32 * s);
  }
  const D8x16 d;
  uint8_t low[16], high[16];
  const auto packed = hn::LoadU(d, block->scales);
  hn::StoreU(hn::And(packed, hn::Set(d, 0x0F)), d, low);
  hn::StoreU(hn::ShiftRight<4>(packed), d, high);
  const float scale = HalfToFloat(block->d);
  const float minimum = HalfToFloat(block->dmin);
  for (int i = 0; i < 16; i += 8) {
    Scale8(scale, low + i, scales + i);
    NegatedScale8(minimum, high + i, offsets + i);
  }
}

inline void UnpackQ3_K(const uint8_t* p, uint8_t* values, float* scales, float*) {
  const D8x32 d;
  const auto* block = reinterpret_cast<const BlockQ3_K*>(p);
  const auto high = Load32(block->hmask);
  for (int half = 0; half < 2; ++half) {
    V32 crumbs[4];
    Crumbs(Load32(block->qs + 32 * half), crumbs);
    for (int s = 0; s < 4; ++s) {
      const auto bit2 = Where(high, static_cast<uint8_t>(1 << (4 * half + s)), 4);
      hn::StoreU(hn::Or(crumbs[s], bit2), d, values + 128 * half + 32 * s);
    }
  }
  // Four scales at a time as the bytes of a word; 32 less is 6 bits with the sign bit flipped.
  const uint32_t low0 = LoadU32(block->scales), low1 = LoadU32(block->scales + 4);
  const uint32_t pairs = LoadU32(block->scales + 8);
  const uint32_t words[4] = {(low0 & 0x0F0F0F0F) | ((pairs & 0x03030303) << 4),
                             (low1 & 0x0F0F0F0F) | (((pairs >> 2) & 0x03030303) << 4),
                             ((low0 >> 4) & 0x0F0F0F0F) | (((pairs >> 4) & 0x03030303) << 4),
                             ((low1 >> 4) & 0x0F0F0F0F) | (((pairs >> 6) & 0x03030303) << 4)};
  int8_t six_bits[16];
  memcpy(six_bits, words, sizeof(words));
  const float scale = HalfToFloat(block->d);
  for (int i = 0; i < 16; ++i) six_bits[i] = static_cast<int8_t>(six_bits[i] - 32);
  for (int i = 0; i < 16; i += 8) Scale8(scale, six_bits + i, scales + i);
}

// Scales and minima of Q4_K and Q5_K. Bytes 0..3: scales 0..3, 4..7: minima 0..3, 6 bits each; the
// upper two bits of those bytes are the upper bits of scales and minima 4..7, whose nibbles are
// in 8..11.
inline void UnpackScalesAndMinima(const uint8_t d[2], const uint8_t dmin[2],
                                  const uint8_t packed[12], float* scales, float* offsets) {
  const uint32_t a = LoadU32(packed), b = LoadU32(packed + 4), c = LoadU32(packed + 8);
  const uint32_t scale_words[2] = {a & 0x3F3F3F3F, (c & 0x0F0F0F0F) | ((a >> 2) & 0x30303030)};
  const uint32_t minimum_words[2] = {b & 0x3F3F3F3F,
                                     ((c >> 4) & 0x0F0F0F0F) | ((b >> 2) & 0x30303030)};
  uint8_t bytes[16];
  memcpy(bytes, scale_words, 8);
  memcpy(bytes + 8, minimum_words, 8);
  Scale8(HalfToFloat(d), bytes, scales);
  NegatedScale8(HalfToFloat(dmin), bytes + 8, offsets);
}

inline void UnpackQ4_K(const uint8_t* p, uint8_t* values, float* scales, float* offsets) {
  const D8x32 d;
  const auto* block = reinterpret_cast<const BlockQ4_K*>(p);
  UnpackScalesAndMinima(block->d, block->dmin, block->scales, scales, offsets);
  for (int j = 0; j < 4; ++j) {
    const auto bytes = Load32(block->qs + 32 * j);
    hn::StoreU(Low4(bytes), d, values + 64 * j);
    hn::StoreU(hn::ShiftRight<4>(bytes), d, values + 64 * j + 32);
  }
}

inline void UnpackQ5_K(const uint8_t* p, uint8_t* values, float* scales, float* offsets) {
  const D8x32 d;
  const auto* block = reinterpret_cast<const BlockQ5_K*>(p);
  UnpackScalesAndMinima(block->d, block->dmin, block->scales, scales, offsets);
  const auto high = Load32(block->qh);
  for (int j = 0; j < 4; ++j) {
    const auto bytes = Load32(block->qs + 32 * j);
    const auto bit_even = Where(high, static_cast<uint8_t>(1 << (2 * j)), 16);
    const auto bit_odd = Where(high, static_cast<uint8_t>(2 << (2 * j)), 16);
    hn::StoreU(hn::Or(Low4(bytes), bit_even), d, values + 64 * j);
    hn::StoreU(hn::Or(hn::ShiftRight<4>(bytes), bit_odd), d, values + 64 * j + 32);
  }
}

inline void UnpackQ6_K(const uint8_t* p, uint8_t* values, float* scales, float*) {
  const D8x32 d;
  const auto* block = reinterpret_cast<const BlockQ6_K*>(p);
  for (int half = 0; half < 2; ++half) {
    const auto low0 = Load32(block->ql + 64 * half);
    const auto low1 = Load32(block->ql + 64 * half + 32);
    V32 high[4];
    Crumbs(Load32(block->qh + 32 * half), high);
    const V32 low[4] = {Low4(low0), Low4(low1), hn::ShiftRight<4>(low0), hn::ShiftRight<4>(low1)};
    for (int s = 0; s < 4; ++s) {
      const auto bits45 = hn::ShiftLeft<4>(high[s]);
      hn::StoreU(hn::Or(low[s], bits45), d, values + 128 * half + 32 * s);
    }
  }
  const float scale = HalfToFloat(block->d);
  for (int i = 0; i < 16; i += 8) Scale8(scale, block->scales + i, scales + i);
}

// 32 nibbles (see Nibbles) looked up in a table of 16 bytes.
inline V32 LookUp(const uint8_t* qs, const uint8_t table[16]) {
  const D8x32 d;
  return hn::TableLookupBytes(hn::LoadDup128(d, table), Nibbles(qs));
}

struct ShiftedTable {
  alignas(16) uint8_t bytes[16];
};
constexpr ShiftedTable AddZero(const int8_t (&from)[16], int zero) {
  ShiftedTable table = {};
  for (int i = 0; i < 16; ++i) table.bytes[i] = static_cast<uint8_t>(from[i] + zero);
  return table;
}

inline void UnpackIQ4_NL(const uint8_t* p, uint8_t* values, float* scales, float*) {
  static constexpr ShiftedTable kTable = AddZero(kIQ4Values, 128);
  const auto* block = reinterpret_cast<const BlockIQ4_NL*>(p);
  hn::StoreU(LookUp(block->qs, kTable.bytes), D8x32(), values);
  scales[0] = HalfToFloat(block->d);
}

inline void UnpackIQ4_XS(const uint8_t* p, uint8_t* values, float* scales, float*) {
  static constexpr ShiftedTable kTable = AddZero(kIQ4Values, 128);
  const auto* block = reinterpret_cast<const BlockIQ4_XS*>(p);
  const uint32_t high = block->scales_h[0] | (uint32_t{block->scales_h[1]} << 8);
  int8_t six_bits[8];
  for (uint32_t g = 0; g < 8; ++g) {
    const uint32_t low = (block->scales_l[g / 2] >> (4 * (g % 2))) & 0x0F;
    six_bits[g] = static_cast<int8_t>((low | (((high >> (2 * g)) & 3) << 4)) - 32);
    hn::StoreU(LookUp(block->qs + 16 * g, kTable.bytes), D8x32(), values + 32 * g);
  }
  Scale8(HalfToFloat(block->d), six_bits, scales);
}

inline void UnpackMXFP4(const uint8_t* p, uint8_t* values, float* scales, float*) {
  static constexpr ShiftedTable kTable = AddZero(kMxfp4Values, 16);
  const auto* block = reinterpret_cast<const BlockMXFP4*>(p);
  hn::StoreU(LookUp(block->qs, kTable.bytes), D8x32(), values);
  // 2^(e - 128), a denormal number for e < 2.
  const uint32_t e = block->e;
  const uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
  memcpy(scales, &bits, sizeof(bits));
}

using UnpackFn = void (*)(const uint8_t* blocks, uint32_t count, uint8_t* values, float* scales,
                          float* offsets);

// `count` consecutive blocks; scales and offsets are one per group, in order.
template <DType kDType, void (*kUnpack)(const uint8_t*, uint8_t*, float*, float*), typename Block,
          uint32_t kElements>
void UnpackBlocks(const uint8_t* blocks, uint32_t count, uint8_t* values, float* scales,
                  float* offsets) {
  constexpr uint32_t kGroups = kElements / GroupFormOf(kDType).group_elements;
  for (uint32_t i = 0; i < count; ++i) {
    kUnpack(blocks + i * sizeof(Block), values + i * kElements, scales + i * kGroups,
            offsets + i * kGroups);
  }
}

// Null for float formats.
inline UnpackFn GetUnpack(DType dtype) {
  switch (dtype) {
#define WEIR_UNPACK_CASE(name, elements) \
  case DType::k##name:                   \
    return &UnpackBlocks<DType::k##name, &Unpack##name, Block##name, elements>
    WEIR_UNPACK_CASE(Q4_0, kSmallBlock);
    WEIR_UNPACK_CASE(Q4_1, kSmallBlock);
    WEIR_UNPACK_CASE(Q5_0, kSmallBlock);
    WEIR_UNPACK_CASE(Q5_1, kSmallBlock);
    WEIR_UNPACK_CASE(Q8_0, kSmallBlock);
    WEIR_UNPACK_CASE(Q2_K, kSuperBlock);
    WEIR_UNPACK_CASE(Q3_K, kSuperBlock);
    WEIR_UNPACK_CASE(Q4_K, kSuperBlock);
    WEIR_UNPACK_CASE(Q5_K, kSuperBlock);
    WEIR_UNPACK_CASE(Q6_K, kSuperBlock);
    WEIR_UNPACK_CASE(IQ4_NL, kSmallBlock);
    WEIR_UNPACK_CASE(IQ4_XS, kSuperBlock);
    WEIR_UNPACK_CASE(MXFP4, kSmallBlock);
#undef WEIR_UNPACK_CASE
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      break;
  }
  return nullptr;
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
