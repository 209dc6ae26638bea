// TopLogits against a stable sort of the whole row: values and ids are exact.
#include <gtest/gtest.h>

#include <cstdint>

#include "kernels/ops.h"
#include "tests/kernels/op_reference_helper.h"
#include "tests/kernels/top_logits_helper.h"

namespace weir {
namespace {

TEST(TopLogitsTest, MatchesAStableSort) {
  for (const TopLogitsCase& c : TopLogitsCases()) {
    for (const uint32_t threads : {1, 3}) {
      ExpectTopLogits(c, [threads](const TopLogitsArgs& args) {
        RunOnCpu(threads, "", [&args](Stream& stream) { TopLogits(stream, args); });
      });
    }
  }
}

}  // namespace
}  // namespace weir
