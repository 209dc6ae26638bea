// Decoding of weights in shared memory to lanes of bytes, for the device.
//
// A warp takes a row in steps of 2048 columns, which lie in shared memory at any byte offset. A
// lane takes 64 columns of a step as four quarters of 16 columns, each quarter in order; which
// quarters depends on the format, so that every byte is decoded by one lane, mostly whole words at
// a time:
//
//   QuarterOf<Format<kDType>>(lane, i)   column / 16 of the lane's quarter i, in the step
//   LoadUnit<kDType>(...)                a lane's 64 columns
//
// In block formats w = scale * (u - zero) + offset (kernels/group_form.h; u is signed where zero is
// 0), and quarters 2i and 2i + 1 are the halves of one group of 32 columns, or all of one format's
// quarters are groups of their own. Layouts of the blocks: kernels/quant_blocks.h.
#ifndef WEIR_KERNELS_CUDA_UNPACK_H_
#define WEIR_KERNELS_CUDA_UNPACK_H_

#include <cstdint>

#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_namespace.h"
#include "kernels/dtype.h"
#include "kernels/quant_blocks.h"

namespace weir::WEIR_CUDA_NAMESPACE {

inline constexpr uint32_t kStepColumns = 2048;
inline constexpr uint32_t kQuarterColumns = 16;
inline constexpr uint32_t kReadAheadBytes = 6;  // that loads below may touch beyond the block

// A lane's part of a step in a block format.
struct WeightUnit {
  uint32_t values[16];  // four columns a word, quarter i in words 4i .. 4i + 3
  float scale[4];       // [i]: of quarter i, or with groups of 32 of quarters 2i and 2i + 1
  float offset[4];      // likewise, in formats that have offsets
};

// Bytes in shared memory: `base` is 16-byte aligned, `at` any number.
struct SharedBytes {
  const uint8_t* base;
  uint32_t at;
  WEIR_DEVICE SharedBytes operator+(uint32_t bytes) const { return {base, at + bytes}; }
};

template <uint32_t kWords>
WEIR_DEVICE void LoadWords(SharedBytes from, uint32_t* words) {
  const uint32_t* const aligned = reinterpret_cast<const uint32_t*>(from.base) + from.at / 4;
  const uint32_t shift = from.at % 4 * 8;
  uint32_t low = aligned[0];
  WEIR_UNROLL
  for (uint32_t i = 0; i < kWords; ++i) {
    const uint32_t high = aligned[i + 1];
    words[i] = FunnelShiftRight(low, high, shift);
    low = high;
  }
}
// The same, and if kAligned from.at is known to be a multiple of 16: then one load for four.
template <uint32_t kWords, bool kAligned>
WEIR_DEVICE void LoadWordsOrFours(SharedBytes from, uint32_t* words) {
  static_assert(kWords % 4 == 0);
  if constexpr (kAligned) {
    WEIR_UNROLL
    for (uint32_t i = 0; i < kWords; i += 4) {
      const Words4 four = *reinterpret_cast<const Words4*>(from.base + from.at + 4 * i);
      words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
    }
  } else {
    LoadWords<kWords>(from, words);
  }
}

WEIR_DEVICE float LowHalf(uint32_t word) { return HalfToFloat(static_cast<uint16_t>(word)); }
WEIR_DEVICE float HighHalf(uint32_t word) { return HalfToFloat(static_cast<uint16_t>(word >> 16)); }
WEIR_DEVICE uint32_t ByteOf(uint32_t word, uint32_t index) { return (word >> (8 * index)) & 0xFF; }
WEIR_DEVICE int32_t SignedByteOf(uint32_t word, uint32_t index) {
  return static_cast<int8_t>(word >> (8 * index));
}

// 32 columns in nibbles of 16 bytes: low ones the first quarter, high ones the second.
WEIR_DEVICE void Nibbles(const uint32_t* qs, uint32_t* values) {
  WEIR_UNROLL
  for (uint32_t i = 0; i < 4; ++i) {
    values[i] = qs[i] & 0x0F0F0F0F;
    values[4 + i] = (qs[i] >> 4) & 0x0F0F0F0F;
  }
}

// Bit 4 of 32 columns from bits 0 to 31.
WEIR_DEVICE void AddFifthBits(uint32_t bits, uint32_t* values) {
  WEIR_UNROLL
  for (uint32_t i = 0; i < 8; ++i) {
    // Bit j of four goes to bit 0 of byte j.
    const uint32_t spread = (((bits >> (4 * i)) & 0xF) * 0x204081) & 0x01010101;
    values[i] |= spread << 4;
  }
}

// A table of 16 bytes as four words.
struct ByteTable {
  uint32_t words[4];
};
constexpr ByteTable MakeByteTable(const int8_t (&bytes)[16]) {
  ByteTable table = {};
  for (int i = 0; i < 16; ++i) {
    table.words[i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (8 * (i % 4));
  }
  return table;
}

// Looks up the 32 nibbles of 16 bytes; order as Nibbles. A permutation of bytes is a table of
// eight: two for each half of the table, and bit 3 of each nibble chooses between them.
WEIR_DEVICE void LookUp(const ByteTable& table, const uint32_t* qs, uint32_t* values) {
  WEIR_UNROLL
  for (uint32_t i = 0; i < 4; ++i) {
    uint32_t found[2];  // of bytes 0, 1 and 2, 3: low nibble, high nibble, low, high
    WEIR_UNROLL
    for (uint32_t pair = 0; pair < 2; ++pair) {
      const uint32_t index = qs[i] >> (16 * pair);
      const uint32_t low = BytePermute(table.words[0], table.words[1], index & 0x7777);
      const uint32_t high = BytePermute(table.words[2], table.words[3], index & 0x7777);
      found[pair] = BytePermute(low, high, 0x3210 | ((index & 0x8888) >> 1));
    }
    values[i] = BytePermute(found[0], found[1], 0x6420);
    values[4 + i] = BytePermute(found[0], found[1], 0x7531);
  }
}

template <DType kDType>
struct Format;

// Two lanes share a line of 128 columns: lane % 2 moves a lane's quarters by kOddLane.
template <typename F>
WEIR_DEVICE uint32_t QuarterOf(uint32_t lane, uint32_t i) {
  return lane / 2 * 8 + lane % 2 * F::kOddLane + F::QuarterInLine(i);
}

// ---- blocks of 32: a lane takes two

// kZero, kGroup and kHasOffset are those of kernels/group_form.h, but for values that are signed.
template <typename BlockType, int kZeroPoint, bool kOffsets>
struct SmallFormat {
  static constexpr uint32_t kBlockBytes = sizeof(BlockType);
  static constexpr uint32_t kBlockColumns = kSmallBlock;
  static constexpr uint32_t kGroup = 32;
  static constexpr int kZero = kZeroPoint;
  static constexpr bool kHasOffset = kOffsets;
  static constexpr uint32_t kStepBytes = kStepColumns / kSmallBlock * kBlockBytes;
  static constexpr uint32_t kOddLane = 4;
  static constexpr uint32_t QuarterInLine(uint32_t i) { return i; }
};

// Calls LoadBlock for a lane's two blocks. What lies beyond the row is garbage, never used.
template <typename F>
WEIR_DEVICE void LoadBlocks(SharedBytes step, uint32_t lane, WeightUnit* unit) {
  WEIR_UNROLL
  for (uint32_t i = 0; i < 2; ++i) {
    F::LoadBlock(step + (2 * lane + i) * F::kBlockBytes, unit->values + 8 * i, &unit->scale[i],
                 &unit->offset[i]);
  }
}

template <>
struct Format<DType::kQ4_0> : SmallFormat<BlockQ4_0, 8, false> {
  WEIR_DEVICE static void LoadBlock(SharedBytes b, uint32_t* values, float* scale, float*) {
    uint32_t words[5];
    LoadWords<1>(b, words);
    LoadWords<4>(b + 2, words + 1);
    Nibbles(words + 1, values);
    *scale = LowHalf(words[0]);
  }
};
template <>
struct Format<DType::kQ4_1> : SmallFormat<BlockQ4_1, 0, true> {
  WEIR_DEVICE static void LoadBlock(SharedBytes b, uint32_t* values, float* scale, float* offset) {
    uint32_t words[5];
    LoadWords<5>(b, words);
    Nibbles(words + 1, values);
    *scale = LowHalf(words[0]);
    *offset = HighHalf(words[0]);
  }
};
template <>
struct Format<DType::kQ5_0> : SmallFormat<BlockQ5_0, 16, false> {
  WEIR_DEVICE static void LoadBlock(SharedBytes b, uint32_t* values, float* scale, float*) {
    uint32_t words[6];
    LoadWords<1>(b, words);
    LoadWords<5>(b + 2, words + 1);
    Nibbles(words + 2, values);
    AddFifthBits(words[1], values);
    *scale = LowHalf(words[0]);
  }
};
template <>
struct Format<DType::kQ5_1> : SmallFormat<BlockQ5_1, 0, true> {
  WEIR_DEVICE static void LoadBlock(SharedBytes b, uint32_t* values, float* scale, float* offset) {
    uint32_t words[6];
    LoadWords<6>(b, words);
    Nibbles(words + 2, values);
    AddFifthBits(words[1], values);
    *scale = LowHalf(words[0]);
    *offset = HighHalf(words[0]);
  }
};
template <>
struct Format<DType::kQ8_0> : SmallFormat<BlockQ8_0, 0, false> {
  WEIR_DEVICE static void LoadBlock(SharedBytes b, uint32_t* values, float* scale, float*) {
    uint32_t word;
    LoadWords<1>(b, &word);
    LoadWords<8>(b + 2, values);
    *scale = LowHalf(word);
  }
};
template <>
struct Format<DType::kIQ4_NL> : SmallFormat<BlockIQ4_NL, 0, false> {
  WEIR_DEVICE static void LoadBlock(SharedBytes b, uint32_t* values, float* scale, float*) {
    constexpr ByteTable kTable = MakeByteTable(kIQ4Values);
    uint32_t words[5];
    LoadWords<1>(b, words);
    LoadWords<4>(b + 2, words + 1);
    LookUp(kTable, words + 1, values);
    *scale = LowHalf(words[0]);
  }
};
template <>
struct Format<DType::kMXFP4> : SmallFormat<BlockMXFP4, 0, false> {
  WEIR_DEVICE static void LoadBlock(SharedBytes b, uint32_t* values, float* scale, float*) {
    constexpr ByteTable kTable = MakeByteTable(kMxfp4Values);
    uint32_t words[5];
    LoadWords<1>(b, words);
    LoadWords<4>(b + 1, words + 1);
    LookUp(kTable, words + 1, values);
    const uint32_t e = words[0] & 0xFF;  // 2^(e - 128), a denormal number for e < 2
    *scale = BitsToFloat(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  }
};

// ---- blocks of 256: four lanes take one, `part` being 0 to 3

template <typename BlockType, uint32_t kGroupColumns, int kZeroPoint, bool kOffsets>
struct SuperFormat {
  static constexpr uint32_t kBlockBytes = sizeof(BlockType);
  static constexpr uint32_t kBlockColumns = kSuperBlock;
  static constexpr uint32_t kGroup = kGroupColumns;
  static constexpr int kZero = kZeroPoint;
  static constexpr bool kHasOffset = kOffsets;
  static constexpr uint32_t kStepBytes = kStepColumns / kSuperBlock * kBlockBytes;
  static constexpr uint32_t kOddLane = 4;
  static constexpr uint32_t QuarterInLine(uint32_t i) { return i; }
};

template <>
struct Format<DType::kQ2_K> : SuperFormat<BlockQ2_K, 16, 0, true> {
  // Part (half, h): bytes 16h .. of a half's 32, whose four fields are 32 columns apart.
  static constexpr uint32_t kOddLane = 1;
  static constexpr uint32_t QuarterInLine(uint32_t i) { return 2 * i; }
  template <bool>
  WEIR_DEVICE static void LoadPart(SharedBytes b, uint32_t part, WeightUnit* unit) {
    const uint32_t half = part / 2, h = part % 2;
    uint32_t scales[2], qs[4], d;
    LoadWords<2>(b + 8 * half, scales);
    LoadWords<4>(b + 16 + 16 * part, qs);
    LoadWords<1>(b + 80, &d);
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      WEIR_UNROLL
      for (uint32_t k = 0; k < 4; ++k) unit->values[4 * i + k] = (qs[k] >> (2 * i)) & 0x03030303;
      const uint32_t packed = ByteOf(scales[i / 2], 2 * (i % 2) + h);
      unit->scale[i] = LowHalf(d) * static_cast<float>(packed & 15);
      unit->offset[i] = -(HighHalf(d) * static_cast<float>(packed >> 4));
    }
  }
};

template <>
struct Format<DType::kQ3_K> : SuperFormat<BlockQ3_K, 16, 4, false> {
  static constexpr uint32_t kOddLane = 1;
  static constexpr uint32_t QuarterInLine(uint32_t i) { return 2 * i; }
  template <bool>
  WEIR_DEVICE static void LoadPart(SharedBytes b, uint32_t part, WeightUnit* unit) {
    const uint32_t half = part / 2, h = part % 2;
    uint32_t high[4], qs[4], packed[4];
    LoadWords<4>(b + 16 * h, high);
    LoadWords<4>(b + 32 + 16 * part, qs);
    LoadWords<4>(b + 96, packed);  // 12 bytes of scales, then d
    // Scales 8 * half + 0..3 and 4..7: nibbles, and above them two bits.
    const uint32_t pairs = packed[2] >> (4 * half);
    const uint32_t scales[2] = {
        ((packed[0] >> (4 * half)) & 0x0F0F0F0F) | ((pairs & 0x03030303) << 4),
        ((packed[1] >> (4 * half)) & 0x0F0F0F0F) | (((pairs >> 2) & 0x03030303) << 4)};
    const float d = LowHalf(packed[3]);
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      WEIR_UNROLL
      for (uint32_t k = 0; k < 4; ++k) {
        const uint32_t bits = (high[k] >> (4 * half + i)) & 0x01010101;
        unit->values[4 * i + k] = ((qs[k] >> (2 * i)) & 0x03030303) | (bits << 2);
      }
      const uint32_t six_bits = ByteOf(scales[i / 2], 2 * (i % 2) + h);
      unit->scale[i] = d * static_cast<float>(static_cast<int32_t>(six_bits) - 32);
    }
  }
};

// Scales and offsets of groups 2 * part and 2 * part + 1 of Q4_K and Q5_K from d, dmin and 12
// bytes. Groups 0 to 3 have theirs in the low six bits of bytes 0 to 3 and 4 to 7; the others a
// nibble in bytes 8 to 11 and the top two bits of those.
WEIR_DEVICE void LoadScalesAndMinima(const uint32_t* header, uint32_t part, WeightUnit* unit) {
  const uint32_t shift = 16 * (part % 2);
  const uint32_t a = header[1] >> shift, b = header[2] >> shift, c = header[3] >> shift;
  const bool first = part < 2;
  const uint32_t scales = first ? a & 0x3F3F : (c & 0x0F0F) | ((a >> 2) & 0x3030);
  const uint32_t minima = first ? b & 0x3F3F : ((c >> 4) & 0x0F0F) | ((b >> 2) & 0x3030);
  WEIR_UNROLL
  for (uint32_t i = 0; i < 2; ++i) {
    unit->scale[i] = LowHalf(header[0]) * static_cast<float>(ByteOf(scales, i));
    unit->offset[i] = -(HighHalf(header[0]) * static_cast<float>(ByteOf(minima, i)));
  }
}

// 64 columns in nibbles of 32 bytes: the low ones are the first 32 columns.
WEIR_DEVICE void WideNibbles(const uint32_t* qs, uint32_t* values) {
  WEIR_UNROLL
  for (uint32_t k = 0; k < 8; ++k) {
    values[k] = qs[k] & 0x0F0F0F0F;
    values[8 + k] = (qs[k] >> 4) & 0x0F0F0F0F;
  }
}

template <>
struct Format<DType::kQ4_K> : SuperFormat<BlockQ4_K, 32, 0, true> {
  template <bool kAligned>
  WEIR_DEVICE static void LoadPart(SharedBytes b, uint32_t part, WeightUnit* unit) {
    uint32_t header[4], qs[8];
    LoadWordsOrFours<4, kAligned>(b, header);
    LoadWordsOrFours<8, kAligned>(b + 16 + 32 * part, qs);
    LoadScalesAndMinima(header, part, unit);
    WideNibbles(qs, unit->values);
  }
};
template <>
struct Format<DType::kQ5_K> : SuperFormat<BlockQ5_K, 32, 0, true> {
  template <bool kAligned>
  WEIR_DEVICE static void LoadPart(SharedBytes b, uint32_t part, WeightUnit* unit) {
    uint32_t header[4], high[8], qs[8];
    LoadWordsOrFours<4, kAligned>(b, header);
    LoadWordsOrFours<8, kAligned>(b + 16, high);
    LoadWordsOrFours<8, kAligned>(b + 48 + 32 * part, qs);
    LoadScalesAndMinima(header, part, unit);
    WideNibbles(qs, unit->values);
    WEIR_UNROLL
    for (uint32_t k = 0; k < 8; ++k) {
      const uint32_t bits = high[k] >> (2 * part);
      unit->values[k] |= (bits & 0x01010101) << 4;
      unit->values[8 + k] |= (bits & 0x02020202) << 3;
    }
  }
};

template <>
struct Format<DType::kQ6_K> : SuperFormat<BlockQ6_K, 16, 32, false> {
  // Part (half, k): 32 bytes of ql, whose low nibbles are 32 columns and high nibbles the 32 that
  // lie 64 further.
  static constexpr uint32_t kOddLane = 2;
  static constexpr uint32_t QuarterInLine(uint32_t i) { return 4 * (i / 2) + i % 2; }
  template <bool>
  WEIR_DEVICE static void LoadPart(SharedBytes b, uint32_t part, WeightUnit* unit) {
    const uint32_t half = part / 2, k2 = part % 2;
    uint32_t ql[8], qh[8], scales[2], d;
    LoadWords<8>(b + 32 * part, ql);
    LoadWords<8>(b + 128 + 32 * half, qh);
    LoadWords<2>(b + 192 + 8 * half, scales);
    LoadWords<1>(b + 208, &d);
    WEIR_UNROLL
    for (uint32_t k = 0; k < 8; ++k) {
      const uint32_t bits = qh[k] >> (2 * k2);
      unit->values[k] = (ql[k] & 0x0F0F0F0F) | ((bits & 0x03030303) << 4);
      unit->values[8 + k] = ((ql[k] >> 4) & 0x0F0F0F0F) | (bits & 0x30303030);
    }
    WEIR_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      const int32_t scale = SignedByteOf(scales[i / 2], 2 * k2 + i % 2);
      unit->scale[i] = LowHalf(d) * static_cast<float>(scale);
    }
  }
};

template <>
struct Format<DType::kIQ4_XS> : SuperFormat<BlockIQ4_XS, 32, 0, false> {
  template <bool>
  WEIR_DEVICE static void LoadPart(SharedBytes b, uint32_t part, WeightUnit* unit) {
    constexpr ByteTable kTable = MakeByteTable(kIQ4Values);
    uint32_t header[2], qs[8];
    LoadWords<2>(b, header);
    LoadWords<8>(b + 8 + 32 * part, qs);
    const uint32_t high = header[0] >> (16 + 4 * part);
    const uint32_t low = ByteOf(header[1], part);
    WEIR_UNROLL
    for (uint32_t i = 0; i < 2; ++i) {
      LookUp(kTable, qs + 4 * i, unit->values + 8 * i);
      const uint32_t six_bits = ((low >> (4 * i)) & 15) | (((high >> (2 * i)) & 3) << 4);
      unit->scale[i] = LowHalf(header[0]) * static_cast<float>(static_cast<int32_t>(six_bits) - 32);
    }
  }
};

// A lane's 64 columns of a step.
template <DType kDType>
WEIR_DEVICE void LoadUnit(SharedBytes step, uint32_t lane, WeightUnit* unit) {
  using F = Format<kDType>;
  if constexpr (F::kBlockColumns == kSmallBlock) {
    LoadBlocks<F>(step, lane, unit);
  } else {
    const SharedBytes block = step + lane / 4 * F::kBlockBytes;
    if (F::kBlockBytes % 16 == 0 && step.at % 16 == 0) {  // all of them, and most often
      F::template LoadPart<true>(block, lane % 4, unit);
    } else {
      F::template LoadPart<false>(block, lane % 4, unit);
    }
  }
}

}  // namespace weir::WEIR_CUDA_NAMESPACE

#endif  // WEIR_KERNELS_CUDA_UNPACK_H_
