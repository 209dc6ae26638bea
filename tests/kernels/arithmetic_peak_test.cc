#include "kernels/arithmetic_peak.h"

#include <gtest/gtest.h>

#include <string>

#include "kernels/isa.h"

namespace weir {
namespace {

// Two operations for each product; a vector has four times as many bytes as floats.
TEST(ArithmeticPeakTest, CountsWhatItDoesOnEveryInstructionSet) {
  for (const std::string& isa : SupportedIsas()) {
    ASSERT_TRUE(SelectIsa(isa).ok());
    const uint64_t floats = RunArithmetic(Arithmetic::kFloats, 1);
    EXPECT_EQ(floats % (2 * (isa == "AVX2" ? 8 : 16)), 0u) << isa;
    EXPECT_EQ(RunArithmetic(Arithmetic::kFloats, 7), 7 * floats) << isa;
    EXPECT_EQ(RunArithmetic(Arithmetic::kBytes, 7), 4 * 7 * floats) << isa;
    EXPECT_EQ(RunArithmetic(Arithmetic::kBytes, 0), 0u) << isa;
  }
  ASSERT_TRUE(SelectIsa("").ok());
}

}  // namespace
}  // namespace weir
