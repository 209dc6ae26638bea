// Matrix products of the CPU device, one line per format, instruction set and number of tokens:
// `GB/s` of weight bytes (the figure that counts for one token) and `GOP/s` (two operations per
// weight and token, what counts for many). The weights exceed the CPU's near memory and are walked
// in turn, so that every call reads them from further away. `read` gives what plain reading
// reaches.
//
//   kernels_bench [--threads=N] [--isa=NAME] [--weight_mib=N] [--rows=N] [Google Benchmark's flags]
// Calls of few tokens are enqueued several at once, as a model enqueues them.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/hardware_probe.h"
#include "kernels/ops.h"
#include "tests/bench/bench_flags.h"

namespace weir {
namespace {

constexpr uint32_t kColumns = 4096;

constexpr uint32_t kFewTokens = 8;
constexpr uint32_t kCalls = 8;

struct Settings {
  BenchFlags flags;
  uint32_t rows = 2048;
};

// Weights of one format with moderate scales, several matrices of them, and everything else that a
// product needs.
class Bench {
 public:
  Bench(const Settings& settings, DType dtype, uint32_t tokens, ActivationFormat format)
      : dtype_(dtype), rows_(settings.rows), tokens_(tokens), format_(format) {
    device_ = MakeBenchDevice(settings.flags);
    if (device_ == nullptr) return;
    stream_ = device_->NewStream();
    matrix_bytes_ = rows_ * RowBytes(dtype, kColumns);
    matrices_ = std::max<uint64_t>(1, settings.flags.mib * kMiB / matrix_bytes_);
    weights_ = *device_->Allocate(matrices_ * matrix_bytes_, 64, Touch::kNow);
    FillWeights();
    input_ = *device_->Allocate(uint64_t{4} * tokens * kColumns, 64, Touch::kNow);
    std::minstd_rand random;
    auto* input = reinterpret_cast<float*>(input_->data());
    for (uint64_t i = 0; i < uint64_t{tokens} * kColumns; ++i) {
      input[i] = static_cast<float>(random() % 2001) * 1e-3f - 1.0f;
    }
    quantized_input_ =
        *device_->Allocate(QuantizedActivationBytes(tokens, kColumns), 64, Touch::kNow);
    if (format != ActivationFormat::kF32) {
      QuantizeActivations(*stream_,
                          {input, kColumns, quantized_input_->data(), tokens, kColumns, format});
    }
    output_ = *device_->Allocate(uint64_t{4} * tokens * rows_, 64, Touch::kNow);
  }

  bool ok() const { return device_ != nullptr; }
  uint64_t matrix_bytes() const { return matrix_bytes_; }
  uint64_t weights() const { return uint64_t{rows_} * kColumns; }

  uint32_t calls() const { return tokens_ <= kFewTokens ? kCalls : 1; }
  void RunCalls() {
    for (uint32_t i = 0; i < calls(); ++i) Enqueue();
    stream_->Wait(stream_->Record());
  }

 private:
  void Enqueue() {
    MatMulArgs args;
    if (format_ != ActivationFormat::kF32) {
      args.quantized = quantized_input_->data();
      args.quantized_format = format_;
    } else {
      args.input = reinterpret_cast<const float*>(input_->data());
      args.input_stride = kColumns;
    }
    args.weight = weights_->data() + next_++ % matrices_ * matrix_bytes_;
    args.dtype = dtype_;
    args.output = reinterpret_cast<float*>(output_->data());
    args.output_stride = rows_;
    args.tokens = tokens_;
    args.rows = rows_;
    args.columns = kColumns;
    MatMul(*stream_, args);
  }

  // Random bytes of which no scale and no float is infinite or so small that arithmetic slows down.
  void FillWeights() {
    std::mt19937_64 random(1);
    uint8_t* bytes = weights_->data();
    const bool wide_exponent = dtype_ == DType::kF32 || dtype_ == DType::kBF16;
    const uint64_t element_bytes = GetDTypeInfo(dtype_).block_bytes;
    for (uint64_t i = 0; i < matrix_bytes_; ++i) {
      // Bit 6 cleared: a float16's exponent is below that of 2, and an element is just another one.
      bytes[i] = static_cast<uint8_t>(random() & 0xBF);
      if (wide_exponent && i % element_bytes == element_bytes - 1) {
        bytes[i] = static_cast<uint8_t>((bytes[i] & 0x80) | 0x3D);
      }
      if (dtype_ == DType::kMXFP4 && i % element_bytes == 0) bytes[i] = 120;  // 2^-8
    }
    for (uint64_t m = 1; m < matrices_; ++m) {
      memcpy(bytes + m * matrix_bytes_, bytes, matrix_bytes_);
    }
  }

  DType dtype_;
  uint32_t rows_;
  uint32_t tokens_;
  ActivationFormat format_;
  uint64_t matrix_bytes_ = 0, matrices_ = 0, next_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Buffer> weights_, input_, quantized_input_, output_;
  std::unique_ptr<Stream> stream_;
};

void MatMulBench(benchmark::State& state, const Settings& settings, DType dtype, uint32_t tokens,
                 ActivationFormat format) {
  Bench bench(settings, dtype, tokens, format);
  if (!bench.ok()) return state.SkipWithError("no device");
  for (auto _ : state) bench.RunCalls();
  const double calls = static_cast<double>(state.iterations() * bench.calls());
  state.counters["GB/s"] = benchmark::Counter(
      1e-9 * calls * static_cast<double>(bench.matrix_bytes()), benchmark::Counter::kIsRate);
  state.counters["GOP/s"] = benchmark::Counter(
      2e-9 * calls * static_cast<double>(tokens * bench.weights()), benchmark::Counter::kIsRate);
}

// What the memory gives at best.
void ReadBench(benchmark::State& state, const Settings& settings) {
  const std::unique_ptr<Device> device = MakeBenchDevice(settings.flags);
  if (device == nullptr) return state.SkipWithError("no device");
  const uint64_t bytes = settings.flags.mib * kMiB;
  const auto buffer = *device->Allocate(bytes, 64, Touch::kNow);
  double read_bytes = 0, seconds = 0;
  for (auto _ : state) {
    const auto probe =
        ProbeMemoryRead(absl::MakeSpan(buffer->data(), bytes), settings.flags.threads);
    if (!probe.ok()) return state.SkipWithError("no probe");
    read_bytes += static_cast<double>(probe->read_bytes);
    seconds += probe->seconds;
  }
  state.counters["GB/s"] = 1e-9 * read_bytes / seconds;
}

void Register(const Settings& settings, DType dtype, uint32_t tokens, ActivationFormat format) {
  const char* width = format == ActivationFormat::kQ16  ? "/q16"
                      : format == ActivationFormat::kQ8 ? "/q8"
                                                        : "/f32";
  const std::string name =
      std::string(GetDTypeInfo(dtype).name) + width + "/T=" + std::to_string(tokens);
  benchmark::RegisterBenchmark(
      name.c_str(),
      [=](benchmark::State& state) { MatMulBench(state, settings, dtype, tokens, format); })
      ->MeasureProcessCPUTime()
      ->UseRealTime();
}

int Main(std::vector<char*> arguments) {
  Settings settings;
  settings.flags = TakeBenchFlags(arguments, "--weight_mib=", 256);
  const std::string rows = TakeFlag(arguments, "--rows=");
  if (!rows.empty()) settings.rows = static_cast<uint32_t>(std::stoul(rows));
  benchmark::RegisterBenchmark("read", [=](benchmark::State& state) { ReadBench(state, settings); })
      ->MeasureProcessCPUTime()
      ->UseRealTime();
  for (const DTypeInfo& info : AllDTypes()) {
    for (const uint32_t tokens : {1u, 2u, 4u, 8u, 64u, 512u}) {
      if (UsesQuantizedActivations(info.dtype)) {
        Register(settings, info.dtype, tokens, ActivationFormat::kQ16);
        Register(settings, info.dtype, tokens, ActivationFormat::kQ8);
      }
      Register(settings, info.dtype, tokens, ActivationFormat::kF32);
    }
  }
  return RunBenchmarks(arguments);
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(std::vector<char*>(argv, argv + argc)); }
