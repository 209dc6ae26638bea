// What TopLogits must give, for the test of each device.
#ifndef WEIR_TESTS_KERNELS_TOP_LOGITS_HELPER_H_
#define WEIR_TESTS_KERNELS_TOP_LOGITS_HELPER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/ops.h"

namespace weir {

enum class LogitsKind : uint8_t {
  kRandom,
  kTies,    // of a dozen values, both zeros among them
  kDamaged  // ties, infinities and NaNs
};
struct TopLogitsCase {
  uint32_t rows;
  uint32_t vocabulary;
  uint32_t k;
  LogitsKind kind;
};
std::vector<TopLogitsCase> TopLogitsCases();

// Calls `run` with arguments of the case and compares what it wrote with a stable sort of each row.
void ExpectTopLogits(const TopLogitsCase& c, const std::function<void(const TopLogitsArgs&)>& run);

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_TOP_LOGITS_HELPER_H_
