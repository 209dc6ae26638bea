#include "kernels/emulated_device.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "io/clock.h"
#include "kernels/cpu_team.h"
#include "kernels/device_thread.h"
#include "kernels/emulated_copy_stream.h"
#include "kernels/emulated_link.h"
#include "kernels/memory_budget.h"
#include "kernels/pinned_ranges.h"

namespace weir {
namespace {

constexpr int64_t kMaxLatencyNs = 1'000'000'000;

// A team's stream whose copies go over the link.
class EmulatedComputeStream final : public TeamStream {
 public:
  EmulatedComputeStream(Team* team, EmulatedLink* in, EmulatedLink* out)
      : TeamStream(team), in_(in), out_(out) {}

  void CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) override {
    CopyOver(in_, device, host, bytes);
  }
  void CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) override {
    CopyOver(out_, host, device, bytes);
  }

 private:
  void CopyOver(EmulatedLink* link, uint8_t* to, const uint8_t* from, uint64_t bytes) {
    LaunchUnlabelled([=](uint32_t worker, uint32_t workers, CpuStream&) {
      LinkWindow window;
      if (worker == 0) window = link->Reserve(bytes, RealClock().NowNs());
      CopyShare(to, from, bytes, worker, workers);
      if (worker == 0) SleepUntil(window.arrival_ns);
    });
  }

  EmulatedLink* const in_;
  EmulatedLink* const out_;
};

// Ordinary memory that counts against the device's budget.
class BudgetedBuffer final : public Buffer {
 public:
  BudgetedBuffer(std::unique_ptr<Buffer> memory, MemoryBudget* budget)
      : memory_(std::move(memory)), budget_(budget) {}
  ~BudgetedBuffer() override { budget_->Return(memory_->size_bytes()); }
  uint8_t* data() const override { return memory_->data(); }
  uint64_t size_bytes() const override { return memory_->size_bytes(); }

 private:
  const std::unique_ptr<Buffer> memory_;
  MemoryBudget* const budget_;
};

class EmulatedDevice final : public Device {
 public:
  EmulatedDevice(const EmulatedDeviceOptions& options, double d2h_bytes_per_s,
                 std::unique_ptr<Team> team)
      : queue_capacity_(options.queue_capacity),
        team_(std::move(team)),
        name_(absl::StrCat("emulated (", team_->description(), "; link ",
                           options.h2d_bytes_per_s / 1e9, " GB/s in, ", d2h_bytes_per_s / 1e9,
                           " GB/s out, ", FormatDuration(options.latency_ns), ")")),
        in_(options.h2d_bytes_per_s, options.latency_ns),
        out_(d2h_bytes_per_s, options.latency_ns),
        budget_("the emulated device", options.memory_bytes),
        touch_stream_(team_.get()) {}

  DeviceKind kind() const override { return DeviceKind::kEmulated; }
  std::string name() const override { return name_; }
  std::unique_ptr<Stream> NewStream() override {
    return std::make_unique<EmulatedComputeStream>(team_.get(), &in_, &out_);
  }
  std::unique_ptr<Stream> NewCopyStream() override {
    return std::make_unique<EmulatedCopyStream>(&in_, &out_, queue_capacity_);
  }
  absl::StatusOr<std::unique_ptr<PinnedRange>> Pin(uint8_t* data, uint64_t bytes) override {
    return pinned_.Pin(data, bytes);
  }
  DeviceMemory memory() const override { return budget_.memory(); }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                                   Touch touch) override {
    WEIR_RETURN_IF_ERROR(budget_.Take(bytes, 0));
    auto memory = MapTouchedMemory(touch_stream_, bytes, alignment_bytes, touch);
    if (!memory.ok()) {
      budget_.Return(bytes);
      return std::move(memory).status();
    }
    return std::make_unique<BudgetedBuffer>(*std::move(memory), &budget_);
  }

 private:
  const uint32_t queue_capacity_;
  const std::unique_ptr<Team> team_;
  const std::string name_;
  EmulatedLink in_;
  EmulatedLink out_;
  MemoryBudget budget_;
  PinnedRanges pinned_;
  TeamStream touch_stream_;  // declared after team_: it waits for it when destroyed
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeEmulatedDevice(const EmulatedDeviceOptions& options) {
  const double in = options.h2d_bytes_per_s;
  const double out = options.d2h_bytes_per_s == 0 ? in : options.d2h_bytes_per_s;
  // Within these the modelled clock cannot overflow.
  if (!(in >= 1e3 && in <= 1e15 && out >= 1e3 && out <= 1e15)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an emulated device's link has a rate of 1 kB/s to 1 PB/s, not ", in,
                     " B/s in and ", out, " B/s out. Pass for example --link-h2d 26GB/s."));
  }
  if (options.latency_ns < 0 || options.latency_ns > kMaxLatencyNs) {
    return absl::InvalidArgumentError(
        absl::StrCat("an emulated device's link has a latency of 0 to 1 s, not ",
                     options.latency_ns, " ns. Pass for example --link-latency 10us."));
  }
  if (options.memory_bytes == 0) {
    return absl::InvalidArgumentError(
        "an emulated device needs a size of its memory. Pass for example --hbm 4GiB.");
  }
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Team> team,
                        Team::Make({.threads = options.threads,
                                    .isa = options.isa,
                                    .queue_capacity = options.queue_capacity,
                                    .other_threads = options.other_threads,
                                    .thread_name = "weir-emu"}));
  return std::make_unique<EmulatedDevice>(options, out, std::move(team));
}

}  // namespace weir
