// Slow double-precision references for the ops that are not matrix products, and a way to run ops
// on a CPU device of any number of threads. They share no code with kernels/.
#ifndef WEIR_TESTS_KERNELS_OP_REFERENCE_HELPER_H_
#define WEIR_TESTS_KERNELS_OP_REFERENCE_HELPER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"

namespace weir {

constexpr double kUnitRoundoff = 1.0 / (1 << 24);  // of float32

// Makes a CPU device on `isa` ("": the best), calls `enqueue` with a stream and waits for it.
void RunOnCpu(uint32_t threads, const std::string& isa,
              const std::function<void(Stream&)>& enqueue);

// `count` floats, uniform in [-scale, scale].
std::vector<float> RandomFloats(uint64_t count, uint64_t seed, float scale = 1.0f);

// The float16 value nearest to `value`, ties to even, at most 65504 in magnitude.
double ReferenceNearestHalf(float value);

// Pages of one layer of one sequence, lying at random places, filled with garbage.
class ReferencePages {
 public:
  ReferencePages(const KvLayout& layout, uint32_t positions, uint64_t seed);
  uint8_t* const* table() const { return table_.data(); }
  // All pages and what lies between, and where each page begins: for a copy elsewhere.
  const std::vector<uint8_t>& memory() const { return memory_; }
  std::vector<uint64_t> offsets() const;
  void SetMemory(const std::vector<uint8_t>& memory);  // as long as memory()
  // What a page holds, by the definition of its layout: a number, and, of float16, its bits or, of
  // q8_0, the bits of its scale.
  struct Element {
    double number;
    double scale;  // 1 in float16
    uint16_t bits;
  };
  Element Key(uint32_t position, uint32_t kv_head, uint32_t column) const;
  Element Value(uint32_t position, uint32_t kv_head, uint32_t column) const;
  // Overwrites all of one position with these numbers, or with such scales.
  void SetPosition(uint32_t position, uint16_t key_bits, uint16_t value_bits);
  void FillRandom(uint64_t seed);  // magnitudes of 2^-5 to 1, or codes and scales of that size

 private:
  struct Place {
    uint64_t code;  // byte of the page where the element lies
    uint64_t half;  // where its scale does, or, of float16, it itself
  };
  Place KeyPlace(uint32_t position, uint32_t kv_head, uint32_t column) const;
  Place ValuePlace(uint32_t position, uint32_t kv_head, uint32_t column) const;
  Element At(uint32_t position, KvFormat format, Place place) const;
  uint8_t* Page(uint32_t position) const { return table_[position / layout_.page_tokens]; }
  KvLayout layout_;
  uint32_t pages_;
  std::vector<uint8_t> memory_;
  std::vector<uint8_t*> table_;
};

// One output row of attention, and what bounds its error.
struct ReferenceAttentionRow {
  std::vector<double> output;     // [value_columns]
  std::vector<double> magnitude;  // [value_columns]: sum of weight * |value|
  double score_magnitude;         // max over positions of scale * sum |q k|
  uint32_t positions;             // attended to
};
ReferenceAttentionRow ReferenceAttention(const AttentionArgs& args, const ReferencePages& pages,
                                         uint32_t token, uint32_t head);

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_OP_REFERENCE_HELPER_H_
