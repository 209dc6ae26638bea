// Attention of one token on the CPU device, by the shapes of real models and by depth: `GB/s` of
// keys and values, which a token must read whole, and `of_read`, their share of what plain reading
// reaches with the same threads, measured in the same run. The pages exceed the CPU's near memory
// and are walked in turn, as a model's layers are.
//
//   attention_bench [--threads=N] [--isa=NAME] [--kv_mib=N] [Google Benchmark's flags]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/hardware_probe.h"
#include "kernels/ops.h"
#include "tests/bench/bench_flags.h"

namespace weir {
namespace {

constexpr uint32_t kPageTokens = 64;

struct Shape {
  const char* model;
  uint32_t heads, kv_heads, columns;
  KvFormat format = KvFormat::kF16;
};
constexpr Shape kShapes[] = {{"smollm2", 9, 3, 64},
                             {"gemma3", 4, 1, 256},
                             {"qwen2.5-coder", 12, 2, 128},
                             {"1b", 32, 8, 64},
                             {"qwen2.5-coder/q8_0", 12, 2, 128, KvFormat::kQ8_0},
                             {"1b/q8_0", 32, 8, 64, KvFormat::kQ8_0}};
constexpr uint32_t kDepths[] = {512, 640, 2048, 8192};
constexpr uint32_t kCalls = 8;  // enqueued at once, as the layers of a model are

// One token and the pages of as many layers as fill the memory asked for.
class Bench {
 public:
  Bench(const BenchFlags& flags, const Shape& shape, uint32_t depth) {
    device_ = MakeBenchDevice(flags);
    if (device_ == nullptr) return;
    stream_ = device_->NewStream();
    args_.heads = shape.heads;
    args_.layout = {kPageTokens,   shape.kv_heads,   shape.columns,
                    shape.columns, KvOrder::kByHead, {shape.format, shape.format}};
    args_.tokens = 1;
    args_.queries_stride = args_.output_stride = uint64_t{shape.heads} * shape.columns;
    args_.scale = 1.0f / std::sqrt(static_cast<float>(shape.columns));
    pages_ = (depth + kPageTokens - 1) / kPageTokens;
    layers_ = std::max<uint64_t>(1, flags.mib * kMiB / (pages_ * KvPageBytes(args_.layout)));
    position_ = static_cast<int32_t>(depth) - 1;
    FillPages();
    queries_.assign(args_.queries_stride, 0.25f);
    output_.resize(args_.output_stride);
    args_.queries = queries_.data();
    args_.positions = &position_;
    args_.output = output_.data();
  }

  bool ok() const { return device_ != nullptr; }
  double kv_bytes() const {
    return static_cast<double>(KvPositionBytes(args_.layout)) * (position_ + 1);
  }
  void RunCalls() {
    for (uint32_t i = 0; i < kCalls; ++i) {
      args_.pages = table_.data() + next_++ % layers_ * pages_;
      Attention(*stream_, args_);
    }
    stream_->Wait(stream_->Record());
  }

 private:
  // float16 numbers between 2^-15 and 2 of either sign, or codes and scales of such bits.
  void FillPages() {
    const uint64_t page_bytes = KvPageBytes(args_.layout);
    memory_ = *device_->Allocate(layers_ * pages_ * page_bytes, 64, Touch::kNow);
    uint64_t state = 1;
    auto* halves = reinterpret_cast<uint16_t*>(memory_->data());
    for (uint64_t i = 0; i < layers_ * pages_ * page_bytes / 2; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      halves[i] = static_cast<uint16_t>(((state >> 40) & 0xBFFF) | 0x0400);
    }
    for (uint64_t p = 0; p < layers_ * pages_; ++p) {
      table_.push_back(memory_->data() + p * page_bytes);
    }
  }

  AttentionArgs args_ = {};
  uint64_t pages_ = 0, layers_ = 0, next_ = 0;
  int32_t position_ = 0;
  std::vector<float> queries_, output_;
  std::vector<uint8_t*> table_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Buffer> memory_;
  std::unique_ptr<Stream> stream_;
};

// Bytes a second that plain reading reaches, the best of three: the machine is not always ours
// alone.
double ReadRate(const BenchFlags& flags) {
  const std::unique_ptr<Device> device = MakeBenchDevice(flags);
  if (device == nullptr) return 0;
  const uint64_t bytes = flags.mib * kMiB;
  const auto buffer = *device->Allocate(bytes, 64, Touch::kNow);
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const auto probe = ProbeMemoryRead(absl::MakeSpan(buffer->data(), bytes), flags.threads);
    if (probe.ok()) best = std::max(best, probe->bytes_per_s);
  }
  return best;
}

void AttentionBench(benchmark::State& state, const BenchFlags& flags, const Shape& shape,
                    uint32_t depth) {
  Bench bench(flags, shape, depth);
  if (!bench.ok()) return state.SkipWithError("no device");
  const double read_rate = ReadRate(flags);
  for (auto _ : state) bench.RunCalls();
  const double bytes = static_cast<double>(state.iterations()) * kCalls * bench.kv_bytes();
  state.counters["GB/s"] = benchmark::Counter(1e-9 * bytes, benchmark::Counter::kIsRate);
  state.counters["of_read"] = benchmark::Counter(bytes / read_rate, benchmark::Counter::kIsRate);
}

int Main(std::vector<char*> arguments) {
  const BenchFlags flags = TakeBenchFlags(arguments, "--kv_mib=", 512);
  for (const Shape& shape : kShapes) {
    for (const uint32_t depth : kDepths) {
      const std::string name = std::string(shape.model) + "/depth=" + std::to_string(depth);
      benchmark::RegisterBenchmark(
          name.c_str(),
          [=](benchmark::State& state) { AttentionBench(state, flags, shape, depth); })
          ->MeasureProcessCPUTime()
          ->UseRealTime();
    }
  }
  return RunBenchmarks(arguments);
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(std::vector<char*>(argv, argv + argc)); }
