// Decoding 16 rows of a weight straight into a tile (kernels/matmul_tile-inl.h) for the formats
// that models are mostly made of: packed words are transposed first, so that each vector holds the
// same bytes of all rows, and decoded then. One vector operation serves 16 rows and nothing is
// staged. The values, scales and offsets are those of kernels/unpack-inl.h (which serves the other
// formats and every other use), as the tests of the products assert bit for bit.
#if defined(WEIR_KERNELS_BUILD_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_BUILD_TILE_INL_H_
#undef WEIR_KERNELS_BUILD_TILE_INL_H_
#else
#define WEIR_KERNELS_BUILD_TILE_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/matmul_tile-inl.h"
#include "kernels/prefetch-inl.h"
#include "kernels/quant_blocks.h"
#include "kernels/row_words-inl.h"
#include "kernels/targets.h"

#if WEIR_IS_KERNEL_TARGET

HWY_BEFORE_NAMESPACE();
namespace weir {
namespace HWY_NAMESPACE {

// Where a tile is written; layouts as in TileView. With `integer_scales` (HasIntegerScales;
// otherwise null) the groups' own scales go there, [groups][16], and the blocks' to `scales`, for
// each 32 columns.
struct TileBuffers {
  uint8_t* values;
  float* scales;
  float* offsets;
  int32_t* integer_scales;
};

// Where it comes from, and bytes that are wanted soon: each load of words asks for as many of them
// as it reads itself, so that memory is kept busy evenly. A prefetch never faults; `ahead` may pass
// the end of anything.
struct TileSource {
  const uint8_t* rows[16];
  const uint8_t* ahead;
};

// Decodes `count` blocks of each of the 16 rows.
using BuildFn = void (*)(TileSource& from, uint32_t count, const TileBuffers& tile);

// Four words at byte `at` of kLanes rows from `first` on: words[i] holds word i of every row.
HWY_INLINE void LoadWords(TileSource& from, uint32_t first, uint64_t at, Vi* HWY_RESTRICT words) {
  const uint8_t* const* rows = from.rows + first;
  PrefetchBytes(from.ahead, 16 * kLanes);
  from.ahead += 16 * kLanes;
  LoadRows([&](uint32_t r) HWY_ATTR { return rows[r] + at; }, words);
}

// The same constant in all four bytes, and shifts to the right of bytes, whose upper bits the masks
// drop.
HWY_INLINE Vi Bytes(uint32_t byte) {
  return hn::Set(Di(), static_cast<int32_t>(byte * 0x01010101u));
}
HWY_INLINE Vi LowNibbles(Vi v) { return hn::And(v, Bytes(0x0F)); }
HWY_INLINE Vi HighNibbles(Vi v) { return hn::And(hn::ShiftRight<4>(v), Bytes(0x0F)); }
// Byte kByte of each word, unsigned, as a float.
template <int kByte>
HWY_INLINE Vf ByteToFloat(Vi v) {
  if constexpr (kByte > 0) v = hn::ShiftRight<8 * kByte>(v);
  return hn::ConvertTo(Df(), hn::And(v, hn::Set(Di(), 0xFF)));
}
// The same, signed.
template <int kByte>
HWY_INLINE Vi SignedByte(Vi v) {
  return hn::ShiftRight<24>(hn::ShiftLeft<24 - 8 * kByte>(v));
}
template <int kByte>
HWY_INLINE Vf SignedByteToFloat(Vi v) {
  return hn::ConvertTo(Df(), SignedByte<kByte>(v));
}

// Word `word` (four columns) of the rows from `first_row` on.
HWY_INLINE void StoreWord(const TileBuffers& tile, uint32_t word, uint32_t first_row, Vi value) {
  hn::Store(value, Di(), reinterpret_cast<int32_t*>(tile.values) + 16 * word + first_row);
}

// Group scales of four bytes of `integers` times `factor`, to groups `group` to `group` + 3.
template <bool kSigned>
HWY_INLINE void StoreFour(float* to, uint32_t group, uint32_t first_row, Vi integers, Vf factor) {
  const Df d;
  float* at = to + 16 * group + first_row;
  if constexpr (kSigned) {
    hn::Store(hn::Mul(factor, SignedByteToFloat<0>(integers)), d, at);
    hn::Store(hn::Mul(factor, SignedByteToFloat<1>(integers)), d, at + 16);
    hn::Store(hn::Mul(factor, SignedByteToFloat<2>(integers)), d, at + 32);
    hn::Store(hn::Mul(factor, SignedByteToFloat<3>(integers)), d, at + 48);
  } else {
    hn::Store(hn::Mul(factor, ByteToFloat<0>(integers)), d, at);
    hn::Store(hn::Mul(factor, ByteToFloat<1>(integers)), d, at + 16);
    hn::Store(hn::Mul(factor, ByteToFloat<2>(integers)), d, at + 32);
    hn::Store(hn::Mul(factor, ByteToFloat<3>(integers)), d, at + 48);
  }
}

// Four words of nibbles: the low ones to `word` and on, the high ones to `high_word` and on.
HWY_INLINE void StoreNibbleWords(const TileBuffers& tile, uint32_t word, uint32_t high_word,
                                 uint32_t first_row, const Vi* words) {
  for (uint32_t i = 0; i < 4; ++i) {
    StoreWord(tile, word + i, first_row, LowNibbles(words[i]));
    StoreWord(tile, high_word + i, first_row, HighNibbles(words[i]));
  }
}

inline void BuildQ4_0(TileSource& from, uint32_t count, const TileBuffers& tile) {
  for (uint32_t b = 0; b < count; ++b) {
    const uint64_t at = uint64_t{b} * sizeof(BlockQ4_0);
    for (uint32_t r = 0; r < 16; r += kLanes) {
      Vi head[4], words[4];
      LoadWords(from, r, at, head);
      LoadWords(from, r, at + offsetof(BlockQ4_0, qs), words);
      hn::Store(LowHalves(head[0]), Df(), tile.scales + 16 * b + r);
      StoreNibbleWords(tile, 8 * b, 8 * b + 4, r, words);
    }
  }
}

inline void BuildQ4_1(TileSource& from, uint32_t count, const TileBuffers& tile) {
  for (uint32_t b = 0; b < count; ++b) {
    const uint64_t at = uint64_t{b} * sizeof(BlockQ4_1);
    for (uint32_t r = 0; r < 16; r += kLanes) {
      Vi head[4], words[4];
      LoadWords(from, r, at, head);
      LoadWords(from, r, at + offsetof(BlockQ4_1, qs), words);
      hn::Store(LowHalves(head[0]), Df(), tile.scales + 16 * b + r);
      hn::Store(HighHalves(head[0]), Df(), tile.offsets + 16 * b + r);
      StoreNibbleWords(tile, 8 * b, 8 * b + 4, r, words);
    }
  }
}

// Byte kByte of each word in all four of its bytes.
template <uint8_t kByte>
HWY_INLINE Vi SpreadByte(Vi words) {
  alignas(16) static constexpr uint8_t kPlaces[16] = {
      kByte,     kByte,     kByte,     kByte,     kByte + 4,  kByte + 4,  kByte + 4,  kByte + 4,
      kByte + 8, kByte + 8, kByte + 8, kByte + 8, kByte + 12, kByte + 12, kByte + 12, kByte + 12};
  const hn::Repartition<uint8_t, Di> d;
  return hn::BitCast(Di(), hn::TableLookupBytes(hn::BitCast(d, words), hn::LoadDup128(d, kPlaces)));
}
// Bits kFirst to kFirst + 3 of bytes that are the same in all of a word, as the fifth bits of its
// four values.
template <int kFirst>
HWY_INLINE Vi FifthBits(Vi spread) {
  const hn::Repartition<uint8_t, Di> d;
  const auto bits = hn::BitCast(d, hn::Set(Di(), static_cast<int32_t>(0x08040201u << kFirst)));
  const auto is_set = hn::TestBit(hn::BitCast(d, spread), bits);
  return hn::BitCast(Di(), hn::IfThenElseZero(is_set, hn::Set(d, 0x10)));
}

// Calls use(word, values) for the eight words of a block of Q5_0: its nibbles, and the fifth bits
// of the first and of the last 16 values (in the low half of each word).
template <typename Use>
HWY_INLINE void ForWordsOfQ5_0(Vi low_bits, Vi high_bits, const Vi* words, const Use& use) {
  const Vi low[2] = {SpreadByte<0>(low_bits), SpreadByte<1>(low_bits)};
  use(0, hn::Or(LowNibbles(words[0]), FifthBits<0>(low[0])));
  use(1, hn::Or(LowNibbles(words[1]), FifthBits<4>(low[0])));
  use(2, hn::Or(LowNibbles(words[2]), FifthBits<0>(low[1])));
  use(3, hn::Or(LowNibbles(words[3]), FifthBits<4>(low[1])));
  const Vi high[2] = {SpreadByte<0>(high_bits), SpreadByte<1>(high_bits)};
  use(4, hn::Or(HighNibbles(words[0]), FifthBits<0>(high[0])));
  use(5, hn::Or(HighNibbles(words[1]), FifthBits<4>(high[0])));
  use(6, hn::Or(HighNibbles(words[2]), FifthBits<0>(high[1])));
  use(7, hn::Or(HighNibbles(words[3]), FifthBits<4>(high[1])));
}

inline void BuildQ5_0(TileSource& from, uint32_t count, const TileBuffers& tile) {
  for (uint32_t b = 0; b < count; ++b) {
    const uint64_t at = uint64_t{b} * sizeof(BlockQ5_0);
    for (uint32_t r = 0; r < 16; r += kLanes) {
      Vi head[4], words[4];
      LoadWords(from, r, at, head);
      LoadWords(from, r, at + offsetof(BlockQ5_0, qs), words);
      hn::Store(LowHalves(head[0]), Df(), tile.scales + 16 * b + r);
      ForWordsOfQ5_0(hn::ShiftRight<16>(head[0]), head[1], words,
                     [&](uint32_t word, Vi values)
                         HWY_ATTR { StoreWord(tile, 8 * b + word, r, values); });
    }
  }
}

inline void BuildQ8_0(TileSource& from, uint32_t count, const TileBuffers& tile) {
  for (uint32_t b = 0; b < count; ++b) {
    const uint64_t at = uint64_t{b} * sizeof(BlockQ8_0);
    for (uint32_t r = 0; r < 16; r += kLanes) {
      Vi head[4], words[4];
      LoadWords(from, r, at, head);
      hn::Store(LowHalves(head[0]), Df(), tile.scales + 16 * b + r);
      for (uint32_t i = 0; i < 8; i += 4) {
        LoadWords(from, r, at + offsetof(BlockQ8_0, qs) + 4 * i, words);
        for (uint32_t j = 0; j < 4; ++j) {
          StoreWord(tile, 8 * b + i + j, r, hn::Xor(words[j], Bytes(0x80)));
        }
      }
    }
  }
}

// Scales and minima of a block's 8 groups, four bytes a word, and what they are multiplied by.
struct KScales {
  Vi scales[2], minima[2];
  Vf d, negative_dmin;
};

// As in UnpackScalesAndMinima, from a block's first four words.
HWY_INLINE KScales ScalesAndMinima(const Vi* head) {
  const Vi six = Bytes(0x3F), upper_two = Bytes(0x30);
  const Vi scales_high = hn::And(hn::ShiftRight<2>(head[1]), upper_two);
  const Vi minima_high = hn::And(hn::ShiftRight<2>(head[2]), upper_two);
  return {{hn::And(head[1], six), hn::Or(LowNibbles(head[3]), scales_high)},
          {hn::And(head[2], six), hn::Or(HighNibbles(head[3]), minima_high)},
          LowHalves(head[0]),
          hn::Neg(HighHalves(head[0]))};
}

HWY_INLINE void StoreScalesAndMinima(const TileBuffers& tile, uint32_t group, uint32_t row,
                                     const Vi* head) {
  const KScales k = ScalesAndMinima(head);
  for (uint32_t i = 0; i < 2; ++i) {
    StoreFour<false>(tile.scales, group + 4 * i, row, k.scales[i], k.d);
    StoreFour<false>(tile.offsets, group + 4 * i, row, k.minima[i], k.negative_dmin);
  }
}

// Bit kBit of each byte as the fifth bit of a value.
template <int kBit>
HWY_INLINE Vi FifthBit(Vi bits) {
  if constexpr (kBit < 4) bits = hn::ShiftLeft<4 - kBit>(bits);
  if constexpr (kBit > 4) bits = hn::ShiftRight<kBit - 4>(bits);
  return hn::And(bits, Bytes(0x10));
}

// The upper two bits of the values of kPart, 0 to 3, in Q6_K.
template <int kPart>
HWY_INLINE Vi UpperTwoBits(Vi bits) {
  if constexpr (kPart == 0) bits = hn::ShiftLeft<4>(bits);
  if constexpr (kPart == 1) bits = hn::ShiftLeft<2>(bits);
  if constexpr (kPart == 3) bits = hn::ShiftRight<2>(bits);
  return hn::And(bits, Bytes(0x30));
}

inline void BuildQ4_K(TileSource& from, uint32_t count, const TileBuffers& tile) {
  for (uint32_t b = 0; b < count; ++b) {
    const uint64_t at = uint64_t{b} * sizeof(BlockQ4_K);
    for (uint32_t r = 0; r < 16; r += kLanes) {
      Vi words[4];
      LoadWords(from, r, at, words);
      StoreScalesAndMinima(tile, 8 * b, r, words);
      for (uint32_t i = 0; i < 32; i += 4) {  // words of qs; 8 are two groups
        LoadWords(from, r, at + offsetof(BlockQ4_K, qs) + 4 * i, words);
        const uint32_t word = 64 * b + i / 8 * 16 + i % 8;
        StoreNibbleWords(tile, word, word + 8, r, words);
      }
    }
  }
}

// A group pair of Q5_K: kBit is the first group's bit of qh.
template <int kBit>
HWY_INLINE void StoreFiveBitGroups(const TileBuffers& tile, uint32_t word, uint32_t row,
                                   const Vi* words, const Vi* qh) {
  for (uint32_t i = 0; i < 4; ++i) {
    StoreWord(tile, word + i, row, hn::Or(LowNibbles(words[i]), FifthBit<kBit>(qh[i])));
    StoreWord(tile, word + 8 + i, row, hn::Or(HighNibbles(words[i]), FifthBit<kBit + 1>(qh[i])));
  }
}

inline void BuildQ5_K(TileSource& from, uint32_t count, const TileBuffers& tile) {
  for (uint32_t b = 0; b < count; ++b) {
    const uint64_t at = uint64_t{b} * sizeof(BlockQ5_K);
    for (uint32_t r = 0; r < 16; r += kLanes) {
      Vi words[4], qh[4];
      LoadWords(from, r, at, words);
      StoreScalesAndMinima(tile, 8 * b, r, words);
      for (uint32_t i = 0; i < 8; i += 4) {
        LoadWords(from, r, at + offsetof(BlockQ5_K, qh) + 4 * i, qh);
        const uint64_t qs = at + offsetof(BlockQ5_K, qs) + 4 * i;
        LoadWords(from, r, qs, words);
        StoreFiveBitGroups<0>(tile, 64 * b + i, r, words, qh);
        LoadWords(from, r, qs + 32, words);
        StoreFiveBitGroups<2>(tile, 64 * b + 16 + i, r, words, qh);
        LoadWords(from, r, qs + 64, words);
        StoreFiveBitGroups<4>(tile, 64 * b + 32 + i, r, words, qh);
        LoadWords(from, r, qs + 96, words);
        StoreFiveBitGroups<6>(tile, 64 * b + 48 + i, r, words, qh);
      }
    }
  }
}

// The scales of block `b`.
HWY_INLINE void SplitScalesQ6_K(const TileBuffers& tile, uint32_t b, uint32_t first_row,
                                const Vi* scales, Vf d) {
  for (uint32_t i = 0; i < 8; ++i) {
    hn::Store(d, Df(), tile.scales + 16 * (8 * b + i) + first_row);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    int32_t* const to = tile.integer_scales + 16 * (16 * b + 4 * i) + first_row;
    hn::Store(SignedByte<0>(scales[i]), Di(), to);
    hn::Store(SignedByte<1>(scales[i]), Di(), to + 16);
    hn::Store(SignedByte<2>(scales[i]), Di(), to + 32);
    hn::Store(SignedByte<3>(scales[i]), Di(), to + 48);
  }
}

inline void BuildQ6_K(TileSource& from, uint32_t count, const TileBuffers& tile) {
  for (uint32_t b = 0; b < count; ++b) {
    const uint64_t at = uint64_t{b} * sizeof(BlockQ6_K);
    for (uint32_t r = 0; r < 16; r += kLanes) {
      Vi tail[4], scales[4];
      LoadWords(from, r, at + sizeof(BlockQ6_K) - 16, tail);  // d is its last half word
      LoadWords(from, r, at + offsetof(BlockQ6_K, scales), scales);
      const Vf d = HighHalves(tail[3]);
      if (tile.integer_scales != nullptr) {
        SplitScalesQ6_K(tile, b, r, scales, d);
      } else {
        for (uint32_t i = 0; i < 4; ++i) {
          StoreFour<true>(tile.scales, 16 * b + 4 * i, r, scales[i], d);
        }
      }
      for (uint32_t i = 0; i < 16; i += 4) {  // words of qh: 8 for each half of the block
        const uint64_t ql = at + i / 8 * 64 + i % 8 * 4;
        const uint32_t word = 64 * b + i / 8 * 32 + i % 8;
        Vi low[4], low32[4], qh[4];
        LoadWords(from, r, at + offsetof(BlockQ6_K, qh) + 4 * i, qh);
        LoadWords(from, r, ql, low);
        LoadWords(from, r, ql + 32, low32);
        for (uint32_t j = 0; j < 4; ++j) {
          const Vi bits = qh[j];
          StoreWord(tile, word + j, r, hn::Or(LowNibbles(low[j]), UpperTwoBits<0>(bits)));
          StoreWord(tile, word + 8 + j, r, hn::Or(LowNibbles(low32[j]), UpperTwoBits<1>(bits)));
          StoreWord(tile, word + 16 + j, r, hn::Or(HighNibbles(low[j]), UpperTwoBits<2>(bits)));
          StoreWord(tile, word + 24 + j, r, hn::Or(HighNibbles(low32[j]), UpperTwoBits<3>(bits)));
        }
      }
    }
  }
}

// Null for formats that go by way of kernels/unpack-inl.h.
inline BuildFn GetBuild(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return &BuildQ4_0;
    case DType::kQ4_1:
      return &BuildQ4_1;
    case DType::kQ5_0:
      return &BuildQ5_0;
    case DType::kQ8_0:
      return &BuildQ8_0;
    case DType::kQ4_K:
      return &BuildQ4_K;
    case DType::kQ5_K:
      return &BuildQ5_K;
    case DType::kQ6_K:
      return &BuildQ6_K;
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace weir
HWY_AFTER_NAMESPACE();

#endif  // a supported target
#endif  // include guard of this target
