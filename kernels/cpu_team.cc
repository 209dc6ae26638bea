#include "kernels/cpu_team.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/cpu_topology.h"
#include "kernels/device_thread.h"
#include "kernels/host_memory.h"
#include "kernels/isa.h"
#include "kernels/ops_cpu.h"

namespace weir {
namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr uint64_t kCopyAloneBytes = 64 * kKiB;   // less is copied by one worker
constexpr uint64_t kTouchAloneBytes = 16 * kMiB;  // less is touched by the caller's thread
// How long a worker stays awake without work: longer than the gaps between the kernels of a layer,
// shorter than a disk read.
constexpr int64_t kWorkerSpinNs = 50'000;
constexpr int64_t kHostSpinNs = 20'000;

}  // namespace

absl::StatusOr<std::unique_ptr<Team>> Team::Make(const TeamOptions& options) {
  if (options.threads == 0 || options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(absl::StrCat("a CPU device has 1 to ", kMaxThreads,
                                                   " threads, not ", options.threads, "."));
  }
  if (options.queue_capacity == 0) {
    return absl::InvalidArgumentError("a CPU device's queue_capacity must be at least 1.");
  }
  WEIR_RETURN_IF_ERROR(SelectIsa(options.isa));
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> scratch,
                        MapHostMemory(options.threads * CpuStream::kScratchBytes, 64));
  std::unique_ptr<Team> team(new Team(options, std::move(scratch)));
  WEIR_RETURN_IF_ERROR(team->Start(options.thread_name));
  return team;
}

Team::Team(const TeamOptions& options, std::unique_ptr<Buffer> scratch)
    : workers_(options.threads),
      ring_(options.queue_capacity),
      scratch_(std::move(scratch)),
      ranges_(options.threads),
      times_(options.times) {
  const std::vector<HardwareThread> usable = UsableThreads();
  place_ = PlaceTeam(usable, workers_);
  const uint64_t hardware_threads = usable.size();
  const uint64_t threads = uint64_t{workers_} + options.other_threads;
  // A spinning thread must not hold the hardware thread that the thread it waits for needs.
  worker_spin_ns_ = threads <= hardware_threads ? kWorkerSpinNs : 0;
  host_spin_ns_ = threads < hardware_threads ? kHostSpinNs : 0;
}

Team::~Team() {
  stopping_.store(true);
  worker_gate_.WakeAll();
  for (const Worker& worker : threads_) JoinDeviceThread(worker.thread);
}

absl::Status Team::Start(const char* thread_name) {
  threads_.reserve(workers_);  // workers keep pointers into it
  for (uint32_t i = 0; i < workers_; ++i) {
    threads_.push_back({this, i, {}});
    Worker& worker = threads_.back();
    const absl::Status started = StartDeviceThread(absl::StrCat(thread_name, "-", i),
                                                   &Team::WorkerMain, &worker, &worker.thread);
    if (!started.ok()) {
      threads_.pop_back();
      return absl::ResourceExhaustedError(
          absl::StrCat(started.message(), " (", i + 1, " of ", workers_, "). Use fewer threads."));
    }
  }
  return absl::OkStatus();
}

void* Team::WorkerMain(void* worker) {
  const Worker& self = *static_cast<const Worker*>(worker);
  const std::vector<std::vector<uint32_t>>& places = self.team->place_.workers;
  if (!places.empty()) BindThisThread(places[self.index]);
  self.team->RunWorker(self.index);
  return nullptr;
}

// Returns when entry `next` can be run, or the team stops.
void Team::WaitForEntry(uint32_t index, uint64_t next) {
  const bool times_it = times_ != nullptr && index == 0;
  const bool is_idle = times_it && published_.load() == next;
  // One condition for both reasons to wait: colleagues still in the entry before, no entry yet.
  worker_gate_.Wait(
      [&] { return completed_.load() == next && (published_.load() > next || stopping_.load()); },
      worker_spin_ns_);
  if (is_idle) times_->BeginAfterWaiting();
}

void Team::RunWorker(uint32_t index) {
  for (uint64_t next = 0;; ++next) {
    WaitForEntry(index, next);
    if (published_.load() == next) return;
    Entry& entry = ring_[next % ring_.size()];
    entry.fn(entry.kernel, index, workers_, *entry.stream);
    if (arrived_.fetch_add(1) + 1 != workers_) continue;
    arrived_.store(0);
    if (times_ != nullptr) times_->End(entry.label);
    completed_.store(next + 1);
    worker_gate_.WakeAll();
    host_gate_.WakeAll();
  }
}

void Team::Barrier() {
  const uint64_t barrier = barriers_.load();  // cannot move on before this worker arrives
  if (at_barrier_.fetch_add(1) + 1 == workers_) {
    at_barrier_.store(0);
    barriers_.store(barrier + 1);
    worker_gate_.WakeAll();
    return;
  }
  worker_gate_.Wait([&] { return barriers_.load() != barrier; }, worker_spin_ns_);
}

uint64_t Team::Enqueue(void (*fn)(const void*, uint32_t, uint32_t, CpuStream&), CpuStream* stream,
                       uint32_t label, const void* kernel, size_t kernel_bytes) {
  WEIR_CHECK(times_ == nullptr || label < times_->labels());
  WEIR_CHECK(kernel_bytes <= CpuStream::kMaxKernelBytes);
  const std::lock_guard<std::mutex> lock(enqueue_mutex_);
  const uint64_t number = published_.load() + 1;
  if (number > ring_.size()) Wait(number - ring_.size());  // the entry that lay here before
  Entry& entry = ring_[(number - 1) % ring_.size()];
  entry.fn = fn;
  entry.stream = stream;
  entry.label = label;
  std::memcpy(entry.kernel, kernel, kernel_bytes);
  published_.store(number);
  worker_gate_.WakeAll();
  return number;
}

std::string Team::description() const {
  return absl::StrCat(workers_, workers_ == 1 ? " thread, " : " threads, ",
                      AbslView(SelectedIsa()));
}

void TeamStream::Wait(Event event) {
  WEIR_CHECK(event.sequence <= last_.load());  // else of another device: it might never come
  team_->Wait(event.sequence);
}

void TeamStream::NotifyWhenComplete(void (*notify)(void*), void* argument) {
  LaunchUnlabelled([notify, argument](uint32_t worker, uint32_t, CpuStream&) {
    if (worker == 0) notify(argument);
  });
}

void TeamStream::WaitFor(Stream& other, Event event) {
  // Streams of one team run in the order of enqueuing anyway.
  const auto* same_kind = other.kind() == kind() ? static_cast<TeamStream*>(&other) : nullptr;
  if (same_kind != nullptr && same_kind->team_ == team_) return;
  if (other.IsComplete(event)) return;
  // The one kernel that waits: its colleagues wait for it before the next entry.
  LaunchUnlabelled([&other, event](uint32_t worker, uint32_t, CpuStream&) {
    if (worker == 0) other.Wait(event);
  });
}

void TeamStream::CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) {
  LaunchUnlabelled([=](uint32_t worker, uint32_t workers, CpuStream&) {
    CopyShare(device, host, bytes, worker, workers);
  });
}

void TeamStream::CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) {
  CopyIn(host, device, bytes);
}

void CopyShare(uint8_t* to, const uint8_t* from, uint64_t bytes, uint32_t worker,
               uint32_t workers) {
  const WorkShare share = ShareWork(bytes, 1, kCopyAloneBytes, worker, workers);
  if (share.begin == share.end) return;  // the pointers may be null then
  std::memcpy(to + share.begin, from + share.begin, share.end - share.begin);
}

absl::StatusOr<std::unique_ptr<Buffer>> MapTouchedMemory(TeamStream& stream, uint64_t bytes,
                                                         uint64_t alignment_bytes, Touch touch) {
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, MapHostMemory(bytes, alignment_bytes));
  // Before any page is there. Failing costs speed alone.
  (void)PlaceMemory(buffer->data(), bytes, stream.memory_nodes());
  if (touch == Touch::kAtFirstUse) return buffer;
  uint8_t* const data = buffer->data();
  if (bytes < kTouchAloneBytes) {
    TouchZeroPages(data, bytes);
    return buffer;
  }
  stream.Launch([data, bytes](uint32_t worker, uint32_t workers, CpuStream&) {
    const uint64_t share = AlignUp(CeilDiv(bytes, workers), 2 * kMiB);
    const uint64_t begin = std::min(bytes, worker * share);
    TouchZeroPages(data + begin, std::min(share, bytes - begin));
  });
  stream.Wait(stream.Record());
  return buffer;
}

}  // namespace weir
