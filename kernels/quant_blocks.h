// The block formats of quantised weights, byte for byte as they lie in a GGUF file: shared by host
// and device. All members are bytes, so a block may start at any address. Layouts are facts of
// ggml's formats, stated in docs/formats.md with the decoding rule of each.
//
// Naming: d is a float16 scale and m (or dmin) a float16 offset, both little-endian; qs holds the
// low bits of the elements, qh (or hmask) the high bits.
#ifndef WEIR_KERNELS_QUANT_BLOCKS_H_
#define WEIR_KERNELS_QUANT_BLOCKS_H_

#include <cstdint>

namespace weir {

inline constexpr uint32_t kSmallBlock = 32;   // elements of Q4_0 .. Q8_0, IQ4_NL, MXFP4
inline constexpr uint32_t kSuperBlock = 256;  // elements of the K formats and IQ4_XS

struct BlockQ4_0 {  // w = d * (q - 8)
  uint8_t d[2];
  uint8_t qs[16];  // element i: low nibble of byte i; element 16 + i: its high nibble
};
struct BlockQ4_1 {  // w = d * q + m
  uint8_t d[2];
  uint8_t m[2];
  uint8_t qs[16];
};
struct BlockQ5_0 {  // w = d * (q - 16)
  uint8_t d[2];
  uint8_t qh[4];  // bit i: bit 4 of element i
  uint8_t qs[16];
};
struct BlockQ5_1 {  // w = d * q + m
  uint8_t d[2];
  uint8_t m[2];
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ8_0 {  // w = d * q
  uint8_t d[2];
  int8_t qs[32];
};
struct BlockQ2_K {  // 16 groups of 16: w = d * low4(scale) * q - dmin * high4(scale)
  uint8_t scales[16];
  uint8_t
      qs[64];  // two halves of 32 bytes; bits 2s..2s+1 of byte l: element 128 * half + 32 * s + l
  uint8_t d[2];
  uint8_t dmin[2];
};
struct BlockQ3_K {     // 16 groups of 16: w = d * (scale - 32) * (q - 4)
  uint8_t hmask[32];   // bit s of byte l: bit 2 of element 32 * s + l
  uint8_t qs[64];      // as Q2_K
  uint8_t scales[12];  // 16 of 6 bits: low nibbles in bytes 0..7 (scale i and i + 8), high pairs
                       // in 8..11
  uint8_t d[2];
};
struct BlockQ4_K {  // 8 groups of 32: w = d * scale * q - dmin * minimum
  uint8_t d[2];
  uint8_t dmin[2];
  uint8_t scales[12];  // 8 scales and 8 minima of 6 bits
  uint8_t qs[128];     // four times 32 bytes: low nibbles are group 2j, high nibbles group 2j + 1
};
struct BlockQ5_K {  // as Q4_K with a fifth bit
  uint8_t d[2];
  uint8_t dmin[2];
  uint8_t scales[12];
  uint8_t qh[32];  // bit g of byte l: bit 4 of element 32 * g + l
  uint8_t qs[128];
};
struct BlockQ6_K {  // 16 groups of 16: w = d * scale * (q - 32)
  uint8_t ql[128];  // two halves of 64 bytes: low nibbles are the first 64 elements, high the next
  uint8_t
      qh[64];  // two halves of 32 bytes; bits 2s..2s+1 of byte l: element 128 * half + 32 * s + l
  int8_t scales[16];
  uint8_t d[2];
};
struct BlockIQ4_NL {  // w = d * kIQ4Values[q]
  uint8_t d[2];
  uint8_t qs[16];
};
struct BlockIQ4_XS {  // 8 groups of 32: w = d * (scale - 32) * kIQ4Values[q]
  uint8_t d[2];
  uint8_t scales_h[2];  // bits 2g..2g+1: high bits of scale g
  uint8_t scales_l[4];  // nibbles: low bits, group 2i in the low one
  uint8_t qs[128];      // eight times the layout of Q4_0
};
struct BlockMXFP4 {  // w = 2^(e - 128) * kMxfp4Values[q]; OCP Microscaling Formats 1.0
  uint8_t e;         // E8M0 exponent
  uint8_t qs[16];    // E2M1
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);
static_assert(sizeof(BlockMXFP4) == 17);

inline constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Twice the E2M1 values, so that they are integers; the scale is halved instead.
inline constexpr int8_t kMxfp4Values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                            0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace weir

#endif  // WEIR_KERNELS_QUANT_BLOCKS_H_
