// The kernels of the experiments: Adam's update and the softmax pass over rows,
// each against double precision, on every instruction set and several numbers
// of threads, which must agree bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/adam_update.h"
#include "kernels/cpu_device.h"
#include "kernels/isa.h"
#include "kernels/softmax_rows.h"
#include "tests/kernels/op_reference_helper.h"

namespace weir {
namespace {

// Hands `check` what one thread makes on each instruction set.
void OnEveryCpu(const std::function<std::vector<float>(CpuStream&)>& run,
                const std::function<void(const std::vector<float>&)>& check) {
  for (const std::string& isa : SupportedIsas()) {
    std::vector<float> first;
    for (const uint32_t threads : {1u, 2u, 3u}) {
      SCOPED_TRACE(testing::Message() << isa << ", " << threads << " threads");
      auto device = MakeCpuDevice({.threads = threads, .isa = isa});
      ASSERT_TRUE(device.ok()) << device.status();
      const std::unique_ptr<Stream> stream = (*device)->NewStream();
      const std::vector<float> result = run(static_cast<CpuStream&>(*stream));
      if (threads == 1) {
        first = result;
        check(first);
      }
      ASSERT_EQ(result, first);
    }
  }
}

TEST(AdamUpdate, MatchesDoublePrecision) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{77}, uint64_t{10'003}}) {
    const std::vector<float> gradient = RandomFloats(count, 1);
    const std::vector<float> first = RandomFloats(count, 2);
    std::vector<float> second = RandomFloats(count, 3);
    for (float& value : second) value = std::abs(value);
    const std::vector<float> weights = RandomFloats(count, 4);
    const auto run = [&](CpuStream& stream) {
      std::vector<float> all = first;
      all.insert(all.end(), second.begin(), second.end());
      all.insert(all.end(), weights.begin(), weights.end());
      AdamUpdate(stream, {.gradient = gradient.data(),
                          .first_moment = all.data(),
                          .second_moment = all.data() + count,
                          .weights = all.data() + 2 * count,
                          .count = count,
                          .learning_rate = 0.01f,
                          .beta1 = 0.9f,
                          .beta2 = 0.999f,
                          .epsilon = 1e-6f,
                          .first_correction = 1.5f,
                          .second_correction = 2.5f});
      stream.Wait(stream.Record());
      return all;
    };
    OnEveryCpu(run, [&](const std::vector<float>& got) {
      const double beta1 = 0.9f, beta2 = 0.999f;
      for (uint64_t i = 0; i < count; ++i) {
        const double g = gradient[i];
        const double m = beta1 * first[i] + (1 - beta1) * g;
        const double v = beta2 * second[i] + (1 - beta2) * g * g;
        const double w = weights[i] - 0.01 * (1.5 * m) / (std::sqrt(2.5 * v) + 1e-6);
        ASSERT_NEAR(got[i], m, 1e-6) << i;
        ASSERT_NEAR(got[count + i], v, 1e-6) << i;
        // The step is divided by a root that may be small.
        ASSERT_NEAR(got[2 * count + i], w, 1e-6 * (1 + std::abs(w - weights[i]) * 10)) << i;
      }
    });
  }
}

TEST(SoftmaxRows, MatchesDoublePrecision) {
  for (const uint32_t columns : {1u, 5u, 64u, 1003u}) {
    for (const float soft_cap : {0.0f, 3.0f}) {
      SCOPED_TRACE(testing::Message() << columns << " columns, cap " << soft_cap);
      constexpr uint32_t kTokens = 3, kRows = 2 * kTokens;
      const std::vector<float> scores = RandomFloats(uint64_t{kRows} * columns, 7, 5.0f);
      const auto last = static_cast<int32_t>(columns - 1);
      const std::vector<int32_t> positions = {0, last / 2, last};
      const auto run = [&](CpuStream& stream) {
        std::vector<float> rows = scores;
        SoftmaxRows(stream,
                    {rows.data(), positions.data(), kRows, kTokens, columns, 0.5f, soft_cap});
        stream.Wait(stream.Record());
        return rows;
      };
      OnEveryCpu(run, [&](const std::vector<float>& got) {
        for (uint32_t r = 0; r < kRows; ++r) {
          const int32_t end = positions[r % kTokens] + 1;
          const auto score = [&](int32_t c) {
            const double s = 0.5 * scores[uint64_t{r} * columns + c];
            return soft_cap > 0 ? soft_cap * std::tanh(s / soft_cap) : s;
          };
          double sum = 0;
          for (int32_t c = 0; c < end; ++c) sum += std::exp(score(c));
          for (int32_t c = 0; c <= last; ++c) {
            const double expected = c < end ? std::exp(score(c)) / sum : 0;
            ASSERT_NEAR(got[uint64_t{r} * columns + c], expected, 2e-6 * (expected + 1e-3))
                << r << ", " << c;
          }
        }
      });
    }
  }
}

}  // namespace
}  // namespace weir
