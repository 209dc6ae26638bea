// ReadBytes on every CUDA device: it reads each word once.
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda_stream.h"
#include "tests/kernels/op_runner_helper.h"

namespace weir {
namespace {

using ReadBytesTest = OpTest;
WEIR_ON_EVERY_DEVICE(ReadBytesTest);

TEST_P(ReadBytesTest, AddsUpEveryWord) {
  const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
  if (runner->stream().kind() != DeviceKind::kCuda) GTEST_SKIP() << "for CUDA devices";
  auto& stream = static_cast<CudaStream&>(runner->stream());
  std::mt19937 random(1);
  for (const uint32_t words : {0u, 4u, 1024u, 70004u}) {
    std::vector<uint32_t> values(words);
    for (uint32_t& value : values) value = static_cast<uint32_t>(random());
    uint32_t* const sum = runner->Upload(std::vector<uint32_t>{7});
    const auto* const data = reinterpret_cast<const uint8_t*>(runner->Upload(values));
    stream.ops().read_bytes(stream, {data, 4 * values.size(), sum});
    EXPECT_EQ(runner->Download(sum, 1)[0], std::accumulate(values.begin(), values.end(), 7u));
  }
}

}  // namespace
}  // namespace weir
