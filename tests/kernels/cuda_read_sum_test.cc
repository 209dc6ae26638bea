// ReadSum (kernels/cuda_stream.h), which only CUDA's devices have.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "io/base.h"
#include "io/split_mix.h"
#include "kernels/cuda_stream.h"
#include "tests/kernels/op_runner_helper.h"

namespace weir {
namespace {

std::vector<std::string> DevicesWithKernels() {
  std::vector<std::string> devices = OpDevices();
  std::erase(devices, "Cpu");
  return devices;
}

class ReadSumTest : public OpTest {};
INSTANTIATE_TEST_SUITE_P(Devices, ReadSumTest, testing::ValuesIn(DevicesWithKernels()),
                         OpDeviceName);
INSTANTIATE_TEST_SUITE_P(Gpu, ReadSumTest, testing::Values("Cuda"), OpDeviceName);

// Nothing, less than a block, whole rounds of all blocks and some more.
TEST_P(ReadSumTest, ReadsEveryWordOnce) {
  const std::unique_ptr<OpRunner> runner = MakeOpRunner(GetParam());
  auto& stream = static_cast<CudaStream&>(runner->stream());
  const uint64_t round = uint64_t{stream.multiprocessors()} * 8 * 256 * 4;  // words
  for (const uint64_t words :
       {uint64_t{0}, uint64_t{4}, uint64_t{1024}, 4 * round, 4 * round + 12, 9 * round + 1028}) {
    std::vector<uint32_t> values(words);
    uint64_t state = words;
    for (uint32_t& value : values) value = static_cast<uint32_t>(SplitMix64(&state));
    const uint32_t before = 7;
    uint32_t* const sum = runner->Upload(std::vector<uint32_t>{before});
    const uint32_t* const data = runner->Upload(values);
    stream.ops().read_sum(stream, {reinterpret_cast<const uint8_t*>(data), words * 4, sum});
    EXPECT_EQ(runner->Download(sum, 1)[0], std::accumulate(values.begin(), values.end(), before))
        << words << " words";
  }
}

}  // namespace
}  // namespace weir
