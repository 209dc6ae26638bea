// Random but finite weights, generated as block bytes: no quantiser, so that a file of 40 GB is
// written at the speed of the disk.
#ifndef WEIR_MODELS_SYNTHETIC_BLOCKS_H_
#define WEIR_MODELS_SYNTHETIC_BLOCKS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/dtype.h"

namespace weir {

// xoshiro256** (Blackman & Vigna), seeded with splitmix64: small, fast, the same everywhere.
class FastRandom {
 public:
  explicit FastRandom(uint64_t seed);
  uint64_t Next();
  void Fill(absl::Span<uint8_t> out);

 private:
  uint64_t state_[4];
};

// Mixes a seed with the numbers of what is generated.
uint64_t MixSeed(uint64_t seed, uint64_t a, uint64_t b);

// Weights of one format around `mean` (float formats; block formats have a mean of zero) with a
// standard deviation of about `deviation`. Immutable after construction: any thread.
class WeightGenerator {
 public:
  WeightGenerator(DType dtype, double mean, double deviation);

  // `out` is whole blocks. The same seed and length give the same bytes.
  void Fill(uint64_t seed, absl::Span<uint8_t> out) const;

 private:
  static constexpr uint32_t kScales = 8;

  void FillFloat32(FastRandom& random, absl::Span<uint8_t> out) const;
  void FillFloat16(FastRandom& random, absl::Span<uint8_t> out) const;
  void FillBlocks(FastRandom& random, absl::Span<uint8_t> out) const;

  DType dtype_;
  double mean_;
  double half_width_;              // of the uniform distribution that float formats get
  std::vector<uint16_t> table_;    // F16, BF16: 65536 values spread evenly
  std::vector<uint16_t> scales_;   // [kScales] float16 (MXFP4: exponents): what blocks take as d
  std::vector<uint16_t> offsets_;  // [kScales] float16: m or dmin to go with it
};

}  // namespace weir

#endif  // WEIR_MODELS_SYNTHETIC_BLOCKS_H_
