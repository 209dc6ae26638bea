#include "engine/device_probe.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/hardware_probe.h"
#include "io/clock.h"
#include "kernels/cuda_stream.h"
#include "kernels/host_memory.h"

namespace weir {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2 * kMiB;
constexpr uint64_t kFewestQueued = 4;
constexpr uint64_t kMostQueued = 256;  // a device's queue holds more
constexpr int64_t kDeviceReadNs = 100'000'000;
constexpr int kLaunches = 2000;
constexpr double kDramShare = 0.05;  // of the time; what is left of it is for the copies

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

CopyRate RateOf(uint64_t copies, uint64_t bytes, int64_t ns) {
  const double seconds = std::max(Seconds(ns), 1e-9);
  return {copies, bytes, seconds, static_cast<double>(bytes) / seconds};
}

// Enqueues copies of one size on a stream, one behind the other through its memory, and waits so
// that no more than the mode allows are enqueued.
class CopyTrain {
 public:
  CopyTrain(Stream& stream, const CopyMemory& memory, const CopyProbe& probe)
      : stream_(stream), memory_(memory), probe_(probe) {
    const uint64_t fit = kMostQueuedBytes / probe.bytes;
    const bool is_queued = probe.mode == CopyMode::kQueued;
    most_ = is_queued ? std::clamp(fit, kFewestQueued, kMostQueued) : 1;
  }

  void Next() {
    if (events_.size() == most_) {
      stream_.Wait(events_.front());
      events_.pop_front();
    }
    uint8_t* const host = memory_.host.data() + host_at_;
    uint8_t* const device = memory_.device.data() + device_at_;
    if (probe_.direction == CopyDirection::kToDevice) {
      stream_.CopyIn(device, host, probe_.bytes);
    } else {
      stream_.CopyOut(host, device, probe_.bytes);
    }
    events_.push_back(stream_.Record());
    if (most_ == 1) stream_.Wait(events_.back());
    host_at_ = After(host_at_, memory_.host.size());
    device_at_ = After(device_at_, memory_.device.size());
    ++copies_;
  }

  absl::Status Finish() {
    if (!events_.empty()) stream_.Wait(events_.back());
    return stream_.status();
  }

  uint64_t copies() const { return copies_; }

 private:
  uint64_t After(uint64_t at, uint64_t size) const {
    return at + 2 * probe_.bytes <= size ? at + probe_.bytes : 0;
  }

  Stream& stream_;
  const CopyMemory& memory_;
  const CopyProbe& probe_;
  uint64_t most_ = 1;
  std::deque<Event> events_;  // of copies that may still run, oldest first
  uint64_t host_at_ = 0;
  uint64_t device_at_ = 0;
  uint64_t copies_ = 0;
};

absl::Status CheckProbe(const CopyMemory& memory, uint64_t bytes) {
  const uint64_t most = std::min(memory.host.size(), memory.device.size());
  if (bytes != 0 && bytes <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("copies of ", bytes, " bytes: at least 1 and at most ", most, " are possible"));
}

// In huge pages where there are any; not touched.
absl::StatusOr<std::unique_ptr<Buffer>> MapAligned(uint64_t bytes) {
  return MapHostMemory(bytes, bytes >= kHugePageBytes ? kHugePageBytes : kPageBytes);
}

void TouchWithThreads(uint8_t* data, uint64_t bytes, uint32_t threads) {
  const uint64_t part = AlignUp(CeilDiv(bytes, threads), kHugePageBytes);
  std::vector<std::thread> team;
  for (uint64_t at = 0; at < bytes; at += part) {
    team.emplace_back([=] { TouchZeroPages(data + at, std::min(part, bytes - at)); });
  }
  for (std::thread& thread : team) thread.join();
}

// What all measurements of one ProbeDevice share.
struct Bench {
  std::unique_ptr<Buffer> host_in, host_out, host_pageable;
  std::unique_ptr<Buffer> device_in, device_out;
  std::unique_ptr<PinnedRange> pinned_in, pinned_out;  // before their memory ends
  std::unique_ptr<Stream> in, out;                     // first of all

  CopyMemory memory_in() const { return Pair(*host_in, *device_in); }
  CopyMemory memory_out() const { return Pair(*host_out, *device_out); }
  CopyMemory memory_pageable() const { return Pair(*host_pageable, *device_in); }

 private:
  static CopyMemory Pair(const Buffer& host, const Buffer& device) {
    return {absl::MakeSpan(host.data(), host.size_bytes()),
            absl::MakeSpan(device.data(), device.size_bytes())};
  }
};

absl::StatusOr<Bench> SetUp(Device& device, const DeviceProbeOptions& options) {
  Bench bench;
  for (std::unique_ptr<Buffer>* host : {&bench.host_in, &bench.host_out, &bench.host_pageable}) {
    WEIR_ASSIGN_OR_RETURN(*host, MapAligned(options.memory_bytes));
    TouchWithThreads((*host)->data(), options.memory_bytes, options.threads);
  }
  for (std::unique_ptr<Buffer>* memory : {&bench.device_in, &bench.device_out}) {
    WEIR_ASSIGN_OR_RETURN(*memory, device.Allocate(options.memory_bytes, kPageBytes, Touch::kNow));
  }
  WEIR_ASSIGN_OR_RETURN(bench.pinned_in, device.Pin(bench.host_in->data(), options.memory_bytes));
  WEIR_ASSIGN_OR_RETURN(bench.pinned_out, device.Pin(bench.host_out->data(), options.memory_bytes));
  bench.in = device.NewCopyStream();
  bench.out = device.NewCopyStream();
  return bench;
}

absl::Status CheckOptions(const DeviceProbeOptions& options) {
  uint64_t most = options.both_ways_bytes;
  for (const std::vector<uint64_t>& sizes : {options.copy_bytes, options.pageable_bytes}) {
    for (const uint64_t bytes : sizes) {
      if (bytes == 0) return absl::InvalidArgumentError("device probe: a copy of 0 bytes");
      most = std::max(most, bytes);
    }
  }
  if (options.both_ways_bytes == 0 || most > options.memory_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("device probe: copies of up to ", most,
                                                   " bytes need at least as much memory, ",
                                                   options.memory_bytes, " bytes were given"));
  }
  if (options.rounds < 1 || options.threads < 1 || options.limit_ns <= 0) {
    return absl::InvalidArgumentError("device probe: rounds, threads and time are at least 1");
  }
  return absl::OkStatus();
}

std::vector<CopyCell> CellsOf(const DeviceProbeOptions& options) {
  std::vector<CopyCell> cells;
  const auto add = [&](uint64_t bytes, CopyMode mode, bool is_pinned) {
    for (const CopyDirection direction : {CopyDirection::kToDevice, CopyDirection::kToHost}) {
      CopyCell cell;
      cell.probe.bytes = bytes;
      cell.probe.direction = direction;
      cell.probe.mode = mode;
      cell.is_pinned = is_pinned;
      cells.push_back(cell);
    }
  };
  for (const uint64_t bytes : options.copy_bytes) {
    add(bytes, CopyMode::kOneAtATime, true);
    add(bytes, CopyMode::kQueued, true);
  }
  for (const uint64_t bytes : options.pageable_bytes) add(bytes, CopyMode::kOneAtATime, false);
  return cells;
}

// One step after the other, each followed by the caller's question whether to go on.
class Rounds {
 public:
  Rounds(const DeviceProbeProgress& progress, size_t steps) : progress_(progress), steps_(steps) {}

  absl::Status Step() {
    ++done_;
    if (!progress_ || progress_(static_cast<double>(done_) / static_cast<double>(steps_))) {
      return absl::OkStatus();
    }
    return absl::CancelledError("the device probe was interrupted");
  }

 private:
  const DeviceProbeProgress& progress_;
  const size_t steps_;
  size_t done_ = 0;
};

// The options' memory where that is free, rounded down to whole words of the kernel.
uint64_t DeviceReadBytes(const Device& device, const DeviceProbeOptions& options) {
  const uint64_t most = device.memory().free_bytes / 4;
  return AlignDown(std::min(options.device_read_bytes, most), kPageBytes);
}

absl::Status DeviceReads(Device& device, const DeviceProbeOptions& options, Rounds* rounds,
                         DeviceProbeResult* result) {
  if (device.kind() != DeviceKind::kCuda) return absl::OkStatus();
  std::vector<double> rates, launches;
  for (int round = 0; round < options.rounds; ++round) {
    WEIR_ASSIGN_OR_RETURN(const DeviceReadRate rate,
                          ProbeDeviceRead(device, DeviceReadBytes(device, options), kDeviceReadNs));
    rates.push_back(rate.bytes_per_s);
    launches.push_back(rate.launch_s);
    WEIR_RETURN_IF_ERROR(rounds->Step());
  }
  result->device_read = SpreadOfRates(rates);
  std::sort(launches.begin(), launches.end());
  result->launch_s = launches[launches.size() / 2];
  return absl::OkStatus();
}

// Keeps the costs that are the median by their sum.
absl::StatusOr<std::vector<PinCost>> PinningCosts(Device& device, const DeviceProbeOptions& options,
                                                  Rounds* rounds) {
  std::vector<PinCost> costs;
  if (options.pin_bytes == 0) return costs;
  std::vector<PinCost> samples[2];
  for (int round = 0; round < options.rounds; ++round) {
    for (const bool touch : {true, false}) {
      WEIR_ASSIGN_OR_RETURN(const PinCost cost,
                            ProbePinning(device, options.pin_bytes, touch, options.threads));
      samples[touch].push_back(cost);
      WEIR_RETURN_IF_ERROR(rounds->Step());
    }
  }
  for (std::vector<PinCost>* kind : {&samples[1], &samples[0]}) {
    std::sort(kind->begin(), kind->end(), [](const PinCost& a, const PinCost& b) {
      return a.touch_s + a.pin_s < b.touch_s + b.pin_s;
    });
    costs.push_back((*kind)[kind->size() / 2]);
  }
  return costs;
}

}  // namespace

RateSpread SpreadOfRates(std::vector<double> rates) {
  std::sort(rates.begin(), rates.end());
  return {rates[rates.size() / 2], rates.front(), rates.back()};
}

std::string_view CopyDirectionName(CopyDirection direction) {
  return direction == CopyDirection::kToDevice ? "h2d" : "d2h";
}

std::string_view CopyModeName(CopyMode mode) {
  return mode == CopyMode::kOneAtATime ? "single" : "queued";
}

absl::StatusOr<CopyRate> ProbeCopies(Stream& stream, const CopyMemory& memory,
                                     const CopyProbe& probe) {
  WEIR_RETURN_IF_ERROR(CheckProbe(memory, probe.bytes));
  const RealClock clock;
  CopyTrain train(stream, memory, probe);
  const int64_t start_ns = clock.NowNs();
  while (train.copies() < kFewestQueued || clock.NowNs() - start_ns < probe.limit_ns) train.Next();
  WEIR_RETURN_IF_ERROR(train.Finish());
  const int64_t end_ns = clock.NowNs();
  return RateOf(train.copies(), train.copies() * probe.bytes, end_ns - start_ns);
}

absl::StatusOr<CopyRate> ProbeBothWays(Stream& in, const CopyMemory& in_memory, Stream& out,
                                       const CopyMemory& out_memory, uint64_t bytes,
                                       int64_t limit_ns) {
  WEIR_RETURN_IF_ERROR(CheckProbe(in_memory, bytes));
  WEIR_RETURN_IF_ERROR(CheckProbe(out_memory, bytes));
  CopyProbe to_device, to_host;
  to_device.bytes = to_host.bytes = bytes;
  to_host.direction = CopyDirection::kToHost;
  const RealClock clock;
  CopyTrain in_train(in, in_memory, to_device);
  CopyTrain out_train(out, out_memory, to_host);
  const int64_t start_ns = clock.NowNs();
  while (in_train.copies() < kFewestQueued || clock.NowNs() - start_ns < limit_ns) {
    in_train.Next();
    out_train.Next();
  }
  WEIR_RETURN_IF_ERROR(in_train.Finish());
  WEIR_RETURN_IF_ERROR(out_train.Finish());
  const int64_t end_ns = clock.NowNs();
  const uint64_t copies = in_train.copies() + out_train.copies();
  return RateOf(copies, copies * bytes, end_ns - start_ns);
}

absl::StatusOr<DeviceReadRate> ProbeDeviceRead(Device& device, uint64_t bytes, int64_t limit_ns) {
  if (device.kind() != DeviceKind::kCuda) {
    return absl::UnimplementedError(
        absl::StrCat(device.name(), " has no memory of its own that kernels read"));
  }
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> memory,
                        device.Allocate(bytes, kPageBytes, Touch::kNow));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> sum,
                        device.Allocate(sizeof(uint32_t), kPageBytes, Touch::kNow));
  const std::unique_ptr<Stream> stream = device.NewStream();
  WEIR_RETURN_IF_ERROR(stream->status());
  auto& cuda = static_cast<CudaStream&>(*stream);
  const ReadBytesArgs whole = {memory->data(), bytes, reinterpret_cast<uint32_t*>(sum->data())};
  ReadBytesArgs little = whole;
  little.bytes = std::min<uint64_t>(bytes, 16);
  const auto seconds_of = [&](const ReadBytesArgs& args, int count) {
    const RealClock clock;
    const int64_t start_ns = clock.NowNs();
    for (int i = 0; i < count; ++i) cuda.ops().read_bytes(cuda, args);
    stream->Wait(stream->Record());
    return std::max(Seconds(clock.NowNs() - start_ns), 1e-9);
  };
  const double first_s = seconds_of(whole, 1) + seconds_of(little, 1);  // loads the kernel, too
  const double again_s = std::min(first_s, seconds_of(whole, 1));
  const int count = static_cast<int>(std::clamp(Seconds(limit_ns) / again_s, 2.0, 1e4));
  DeviceReadRate rate;
  rate.bytes_per_s = static_cast<double>(bytes) * count / seconds_of(whole, count);
  rate.launch_s = seconds_of(little, kLaunches) / kLaunches;
  WEIR_RETURN_IF_ERROR(stream->status());
  return rate;
}

absl::StatusOr<PinCost> ProbePinning(Device& device, uint64_t bytes, bool touch, uint32_t threads) {
  if (bytes == 0 || threads == 0) {
    return absl::InvalidArgumentError("pinning: at least one byte and one thread");
  }
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> memory, MapAligned(bytes));
  PinCost cost{bytes, touch, threads, 0, 0};
  const RealClock clock;
  const int64_t start_ns = clock.NowNs();
  if (touch) TouchWithThreads(memory->data(), bytes, threads);
  const int64_t touched_ns = clock.NowNs();
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<PinnedRange> pinned,
                        device.Pin(memory->data(), bytes));
  cost.touch_s = Seconds(touched_ns - start_ns);
  cost.pin_s = Seconds(clock.NowNs() - touched_ns);
  return cost;
}

absl::StatusOr<DeviceProbeResult> ProbeDevice(Device& device, const DeviceProbeOptions& options,
                                              const DeviceProbeProgress& progress) {
  WEIR_RETURN_IF_ERROR(CheckOptions(options));
  WEIR_ASSIGN_OR_RETURN(const Bench bench, SetUp(device, options));
  DeviceProbeResult result;
  result.copies = CellsOf(options);
  const size_t visits = static_cast<size_t>(options.rounds) * (result.copies.size() + 2);
  const bool reads_device = device.kind() == DeviceKind::kCuda;
  const int others = (options.pin_bytes > 0 ? 2 : 0) + (reads_device ? 1 : 0);
  Rounds rounds(progress, visits + static_cast<size_t>(options.rounds * others));
  const auto dram_ns =
      static_cast<int64_t>(kDramShare * static_cast<double>(options.limit_ns)) / options.rounds;
  const int64_t cell_ns = (options.limit_ns - dram_ns * options.rounds) /
                          static_cast<int64_t>(options.rounds * (result.copies.size() + 1));
  std::vector<std::vector<double>> copy_rates(result.copies.size());
  std::vector<double> both_rates, dram_rates;
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < result.copies.size(); ++i) {
      CopyProbe& probe = result.copies[i].probe;
      probe.limit_ns = cell_ns;
      const bool in = probe.direction == CopyDirection::kToDevice;
      const CopyMemory memory = !result.copies[i].is_pinned ? bench.memory_pageable()
                                : in                        ? bench.memory_in()
                                                            : bench.memory_out();
      WEIR_ASSIGN_OR_RETURN(const CopyRate rate,
                            ProbeCopies(in ? *bench.in : *bench.out, memory, probe));
      copy_rates[i].push_back(rate.bytes_per_s);
      WEIR_RETURN_IF_ERROR(rounds.Step());
    }
    WEIR_ASSIGN_OR_RETURN(const CopyRate both,
                          ProbeBothWays(*bench.in, bench.memory_in(), *bench.out,
                                        bench.memory_out(), options.both_ways_bytes, cell_ns));
    both_rates.push_back(both.bytes_per_s);
    WEIR_RETURN_IF_ERROR(rounds.Step());
    WEIR_ASSIGN_OR_RETURN(const MemoryProbeResult dram,
                          ProbeMemoryRead(bench.memory_in().host, options.threads, dram_ns));
    dram_rates.push_back(dram.bytes_per_s);
    WEIR_RETURN_IF_ERROR(rounds.Step());
  }
  for (size_t i = 0; i < copy_rates.size(); ++i) {
    result.copies[i].rate = SpreadOfRates(copy_rates[i]);
  }
  result.both_ways = SpreadOfRates(both_rates);
  result.dram_read = SpreadOfRates(dram_rates);
  WEIR_RETURN_IF_ERROR(DeviceReads(device, options, &rounds, &result));
  WEIR_ASSIGN_OR_RETURN(result.pinning, PinningCosts(device, options, &rounds));
  return result;
}

}  // namespace weir
