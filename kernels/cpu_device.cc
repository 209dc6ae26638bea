#include "kernels/cpu_device.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/cpu_team.h"
#include "kernels/memory_limits.h"
#include "kernels/pinned_ranges.h"

namespace weir {
namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(std::unique_ptr<Team> team)
      : team_(std::move(team)),
        name_(absl::StrCat("cpu (", team_->description(), ")")),
        touch_stream_(team_.get()) {}

  DeviceKind kind() const override { return DeviceKind::kCpu; }
  std::string name() const override { return name_; }
  std::unique_ptr<Stream> NewStream() override { return std::make_unique<TeamStream>(team_.get()); }
  // The workers copy: there is no engine that would do so beside them.
  std::unique_ptr<Stream> NewCopyStream() override { return NewStream(); }
  // All memory is equally near: it is only written down.
  absl::StatusOr<std::unique_ptr<PinnedRange>> Pin(uint8_t* data, uint64_t bytes) override {
    return pinned_.Pin(data, bytes);
  }
  DeviceMemory memory() const override {
    const absl::StatusOr<MemoryLimits> limits = ReadMemoryLimits();
    if (!limits.ok()) return {};
    return {.total_bytes = limits->total_bytes, .free_bytes = limits->usable_bytes};
  }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                                   Touch touch) override {
    return MapTouchedMemory(touch_stream_, bytes, alignment_bytes, touch);
  }

 private:
  const std::unique_ptr<Team> team_;
  const std::string name_;
  TeamStream touch_stream_;  // declared after team_: it waits for it when destroyed
  PinnedRanges pinned_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const CpuDeviceOptions& options) {
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Team> team,
                        Team::Make({.threads = options.threads,
                                    .isa = options.isa,
                                    .queue_capacity = options.queue_capacity,
                                    .other_threads = options.other_threads,
                                    .times = options.times}));
  return std::make_unique<CpuDevice>(std::move(team));
}

}  // namespace weir
