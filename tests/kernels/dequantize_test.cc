// Decoding of weights, on every instruction set: bit-equal to the values that the gguf package
// gives (tests/oracles/dequantize_oracle.py), and against an independent scalar reference.
#include "kernels/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/isa.h"
#include "tests/kernels/reference_helper.h"

namespace weir {
namespace {

struct GoldenRecord {
  std::string name;
  std::vector<uint8_t> bytes;
  std::vector<float> values;
};

// The records of a file of dequantize_oracle.py; empty when it cannot be read.
std::vector<GoldenRecord> ReadGolden(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<GoldenRecord> records;
  uint32_t name_bytes = 0;
  const auto read = [&](void* to, uint64_t bytes) {
    file.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes));
  };
  while (read(&name_bytes, 4), file) {
    GoldenRecord record;
    record.name.resize(name_bytes);
    read(record.name.data(), name_bytes);
    uint32_t sizes[2] = {};
    read(sizes, 8);
    if (!file) return {};
    record.values.resize(sizes[0]);
    record.bytes.resize(sizes[1]);
    read(record.bytes.data(), sizes[1]);
    read(record.values.data(), 4 * uint64_t{sizes[0]});
    if (!file) return {};
    records.push_back(std::move(record));
  }
  return records;
}

class IsaTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(SelectIsa(GetParam()).ok()); }
  void TearDown() override { ASSERT_TRUE(SelectIsa("").ok()); }
};
using DequantizeGoldenTest = IsaTest;
using DequantizeTest = IsaTest;

TEST_P(DequantizeGoldenTest, EveryBitAsTheGgufPackage) {
  const char* other = std::getenv("WEIR_DEQUANTIZE_GOLDEN");
  const auto records = ReadGolden(other ? other : "tests/data/dequantize_golden.bin");
  ASSERT_EQ(records.size(), AllDTypes().size());
  for (const GoldenRecord& record : records) {
    const std::optional<DType> dtype = DTypeFromName(record.name);
    ASSERT_TRUE(dtype.has_value()) << record.name;
    ASSERT_EQ(RowBytes(*dtype, record.values.size()), record.bytes.size());
    std::vector<float> got(record.values.size());
    DequantizeRow(*dtype, record.bytes.data(), got.size(), got.data());
    uint64_t different = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      different += std::bit_cast<uint32_t>(got[i]) != std::bit_cast<uint32_t>(record.values[i]);
    }
    EXPECT_EQ(different, 0u) << record.name << ", of " << got.size();
  }
}

// The row starts at every alignment and ends where its memory ends (which the address sanitizer
// sees); lengths are such that the last piece is partial.
TEST_P(DequantizeTest, AnyAddressAndLength) {
  uint64_t seed = 1;
  for (const DTypeInfo& info : AllDTypes()) {
    for (const uint64_t blocks : {1u, 2u, 3u, 7u, 37u}) {
      SCOPED_TRACE(testing::Message() << info.name << ", " << blocks << " blocks, seed " << seed);
      const uint64_t elements = blocks * info.block_elements;
      const std::vector<uint8_t> bytes = RandomWeights(info.dtype, 1, elements, seed++);
      for (const uint64_t shift : {0u, 1u, 2u, 3u, 9u}) {
        auto memory = std::make_unique<uint8_t[]>(bytes.size() + shift);
        memcpy(memory.get() + shift, bytes.data(), bytes.size());
        std::vector<float> got(elements);
        DequantizeRow(info.dtype, memory.get() + shift, elements, got.data());
        for (uint64_t i = 0; i < elements; ++i) {
          const double want = ReferenceElement(info.dtype, bytes.data(), i);
          // Two roundings, of scale * integer and of its sum with the offset.
          double parts = std::fabs(want);
          if (info.block_elements > 1) {
            const ReferenceParts p = ReferencePartsOf(info.dtype, bytes.data(), i);
            parts += std::fabs(static_cast<double>(p.scale) * p.integer);
          }
          ASSERT_LE(std::fabs(got[i] - want), std::ldexp(parts, -24)) << "element " << i;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, DequantizeGoldenTest, testing::ValuesIn(SupportedIsas()),
                         [](const auto& param) { return param.param; });
INSTANTIATE_TEST_SUITE_P(Isas, DequantizeTest, testing::ValuesIn(SupportedIsas()),
                         [](const auto& param) { return param.param; });

TEST(DTypeTest, TableIsFoundByIdAndName) {
  for (const DTypeInfo& info : AllDTypes()) {
    EXPECT_EQ(DTypeFromGgufId(info.gguf_id), info.dtype);
    EXPECT_EQ(DTypeFromName(info.name), info.dtype);
    EXPECT_EQ(RowBytes(info.dtype, 3 * info.block_elements), 3 * info.block_bytes);
  }
  EXPECT_EQ(DTypeFromName("q4_k"), DType::kQ4_K);
  EXPECT_EQ(DTypeFromName("Q4"), std::nullopt);
  EXPECT_EQ(DTypeFromGgufId(4), std::nullopt);  // Q4_2, long gone
  EXPECT_EQ(DTypeFromGgufId(255), std::nullopt);
}

TEST(IsaSelectionTest, RefusesWhatIsUnknown) {
  EXPECT_EQ(SelectIsa("AVX9").code(), absl::StatusCode::kInvalidArgument);
  ASSERT_FALSE(SupportedIsas().empty());
  for (const std::string& name : SupportedIsas()) {
    ASSERT_TRUE(SelectIsa(name).ok());
    EXPECT_EQ(SelectedIsa(), name);
  }
  ASSERT_TRUE(SelectIsa("").ok());
  EXPECT_EQ(SelectedIsa(), SupportedIsas().front());
}

}  // namespace
}  // namespace weir
