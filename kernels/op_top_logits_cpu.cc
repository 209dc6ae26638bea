#include <algorithm>
#include <cmath>
#include <limits>

#include "io/base.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

struct Logit {
  float value;
  int32_t id;
};

bool Better(const Logit& a, const Logit& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// Keeps the best k so far as a heap, the worst of them at its top: nearly every logit of a large
// vocabulary is turned away by one comparison.
void TopOfRow(const TopLogitsArgs& args, uint64_t row) {
  const float* const logits = args.logits + row * args.stride;
  Logit best[kMaxTopLogits];
  uint32_t count = 0;
  for (uint32_t i = 0; i < args.vocabulary; ++i) {
    const float value = std::isnan(logits[i]) ? std::numeric_limits<float>::lowest() : logits[i];
    if (count == args.k) {
      // Ids ascend: an equal one is no better.
      if (value <= best[0].value) continue;
      std::pop_heap(best, best + count--, Better);
    }
    best[count++] = {value, static_cast<int32_t>(i)};
    std::push_heap(best, best + count, Better);
  }
  std::sort_heap(best, best + count, Better);
  for (uint32_t i = 0; i < count; ++i) {
    args.values[row * args.k + i] = best[i].value;
    args.ids[row * args.k + i] = best[i].id;
  }
}

}  // namespace

void TopLogitsCpu(CpuStream& stream, const TopLogitsArgs& args) {
  WEIR_CHECK(args.k >= 1 && args.k <= kMaxTopLogits && args.k <= args.vocabulary);
  stream.Launch([args](uint32_t worker, uint32_t workers, CpuStream&) {
    for (uint64_t row = worker; row < args.rows; row += workers) TopOfRow(args, row);
  });
}

}  // namespace weir
