#include "tests/kernels/host_grid/device.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/cuda_intrinsics.h"
#include "kernels/cuda_stream.h"
#include "kernels/ops_cuda.h"
#include "tests/kernels/host_grid/fibers.h"

namespace weir::host_grid {
namespace {

constexpr uint8_t kGarbage = 0xFB;

class HostGridBuffer : public Buffer {
 public:
  HostGridBuffer(uint64_t bytes, uint64_t alignment_bytes) : bytes_(bytes) {
    void* memory = nullptr;
    const uint64_t alignment = std::max<uint64_t>(alignment_bytes, sizeof(void*));
    WEIR_CHECK(posix_memalign(&memory, alignment, std::max<uint64_t>(bytes, 1)) == 0);
    memset(memory, 0, bytes);
    data_.reset(static_cast<uint8_t*>(memory));
  }
  uint8_t* data() const override { return data_.get(); }
  uint64_t size_bytes() const override { return bytes_; }

 private:
  struct Free {
    void operator()(uint8_t* memory) const { free(memory); }
  };
  std::unique_ptr<uint8_t[], Free> data_;
  uint64_t bytes_;
};

struct HostGridGraph : public Graph {
  std::vector<std::function<void()>> calls;
};

class HostGridStream : public CudaStream {
 public:
  explicit HostGridStream(const HostGridOptions& options)
      : options_(options), scratch_(options.scratch_bytes, 256) {
    memset(scratch_.data(), kGarbage, scratch_.size_bytes());
  }

  Event Record() override {
    WEIR_CHECK(recorded_ == nullptr);
    return {++sequence_};
  }
  bool IsComplete(Event event) const override { return event.sequence <= sequence_; }
  void Wait(Event event) override { WEIR_CHECK(IsComplete(event)); }
  void NotifyWhenComplete(void (*notify)(void*), void* argument) override {
    WEIR_CHECK(recorded_ == nullptr);
    notify(argument);
  }
  void WaitFor(Stream& other, Event event) override {
    WEIR_CHECK(recorded_ == nullptr);
    other.Wait(event);
  }
  void CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) override {
    Copy(device, host, bytes);
  }
  void CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) override {
    Copy(host, device, bytes);
  }

  bool has_graphs() const override { return true; }
  std::unique_ptr<Graph> RecordGraph(absl::FunctionRef<void()> enqueue) override {
    auto graph = std::make_unique<HostGridGraph>();
    recorded_ = graph.get();
    enqueue();
    recorded_ = nullptr;
    return graph;
  }
  void RunGraph(const Graph& graph) override {
    WEIR_CHECK(recorded_ == nullptr);
    for (const auto& call : static_cast<const HostGridGraph&>(graph).calls) call();
  }

  const CudaOps& ops() const override { return host_grid::Ops(); }
  uint8_t* scratch() override { return scratch_.data(); }
  uint64_t scratch_bytes() const override { return scratch_.size_bytes(); }
  uint32_t multiprocessors() const override { return options_.multiprocessors; }
  void Launch(const KernelCall& call, const LaunchShape& shape) override {
    // Kept: the caller's is gone when a graph runs.
    const auto* const bytes = static_cast<const uint8_t*>(call.argument);
    std::vector<uint64_t> argument(CeilDiv(call.argument_bytes, sizeof(uint64_t)));
    memcpy(argument.data(), bytes, call.argument_bytes);
    Do([shape, function = call.function, run_thread = call.run_thread,
        argument = std::move(argument)] {
      RunGrid(shape, [&] { run_thread(function, argument.data()); });
    });
  }
  void Gemm(const GemmArgs& args) override {
    Do([args] { Multiply(args); });
  }

 private:
  static void Multiply(const GemmArgs& args);
  void Copy(uint8_t* to, const uint8_t* from, uint64_t bytes) const {
    WEIR_CHECK(recorded_ == nullptr);
    if (bytes > 0) memcpy(to, from, bytes);
  }
  // Now, or whenever the graph that is recorded runs.
  void Do(std::function<void()> call) {
    if (recorded_ == nullptr) return call();
    recorded_->calls.push_back(std::move(call));
  }

  const HostGridOptions options_;
  HostGridBuffer scratch_;
  uint64_t sequence_ = 0;
  HostGridGraph* recorded_ = nullptr;
};

void HostGridStream::Multiply(const GemmArgs& args) {
  WEIR_CHECK(args.a_stride % 8 == 0 && args.b_stride % 8 == 0);
  CheckAligned(args.a, 16);
  CheckAligned(args.b, 16);
  std::vector<float> b(uint64_t{args.n} * args.k);
  for (uint32_t n = 0; n < args.n; ++n) {
    for (uint32_t k = 0; k < args.k; ++k) {
      b[uint64_t{n} * args.k + k] = HalfToFloat(args.b[n * args.b_stride + k]);
    }
  }
  std::vector<float> a(args.k);
  for (uint32_t m = 0; m < args.m; ++m) {
    for (uint32_t k = 0; k < args.k; ++k) a[k] = HalfToFloat(args.a[m * args.a_stride + k]);
    for (uint32_t n = 0; n < args.n; ++n) {
      const float* const row = b.data() + uint64_t{n} * args.k;
      float sum = 0;
      for (uint32_t k = 0; k < args.k; ++k) sum += a[k] * row[k];
      args.c[m * args.c_stride + n] = sum;
    }
  }
}

class HostGridPinnedRange : public PinnedRange {};

class HostGridDevice : public Device {
 public:
  explicit HostGridDevice(const HostGridOptions& options) : options_(options) {}

  DeviceKind kind() const override { return DeviceKind::kCuda; }
  std::string name() const override { return "host grid"; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                                   Touch) override {
    return std::make_unique<HostGridBuffer>(bytes, alignment_bytes);
  }
  std::unique_ptr<Stream> NewStream() override {
    return std::make_unique<HostGridStream>(options_);
  }
  std::unique_ptr<Stream> NewCopyStream() override { return NewStream(); }
  absl::StatusOr<std::unique_ptr<PinnedRange>> Pin(uint8_t*, uint64_t) override {
    return std::make_unique<HostGridPinnedRange>();
  }
  DeviceMemory memory() const override { return {kGiB, kGiB}; }

 private:
  const HostGridOptions options_;
};

}  // namespace

std::unique_ptr<Device> MakeHostGridDevice(const HostGridOptions& options) {
  return std::make_unique<HostGridDevice>(options);
}

}  // namespace weir::host_grid
