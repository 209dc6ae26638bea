#include "kernels/cpu_device.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "kernels/host_memory.h"
#include "kernels/isa.h"
#include "kernels/memory_limits.h"
#include "kernels/ops_cpu.h"
#include "kernels/wait_gate.h"

namespace weir {
namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr uint64_t kCopyAloneBytes = 64 * kKiB;   // less is copied by one worker
constexpr uint64_t kTouchAloneBytes = 16 * kMiB;  // less is touched by the caller's thread
// How long a worker stays awake without work: longer than the gaps between the kernels of a layer,
// shorter than a disk read.
constexpr int64_t kWorkerSpinNs = 50'000;
constexpr int64_t kHostSpinNs = 20'000;

// Cores that this process may use.
uint32_t AvailableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<uint32_t>(CPU_COUNT(&set));
}

// The workers and the one ring they empty. Streams only tag entries: all entries run in the order
// in which they were enqueued, whatever stream they came from.
class Team {
 public:
  Team(uint32_t workers, uint32_t capacity, std::unique_ptr<Buffer> scratch)
      : workers_(workers), ring_(capacity), scratch_(std::move(scratch)) {
    const uint32_t cores = AvailableCores();
    // A spinning thread must not hold the core that the thread it waits for needs.
    worker_spin_ns_ = workers <= cores ? kWorkerSpinNs : 0;
    host_spin_ns_ = workers < cores ? kHostSpinNs : 0;
  }
  ~Team();

  absl::Status Start();

  // Numbers entries from 1. Blocks while the ring is full. Any thread but a worker.
  uint64_t Enqueue(void (*fn)(const void*, uint32_t, uint32_t, CpuStream&), CpuStream* stream,
                   const void* kernel, size_t kernel_bytes);
  bool IsComplete(uint64_t sequence) const { return completed_.load() >= sequence; }
  void Wait(uint64_t sequence) {
    host_gate_.Wait([&] { return IsComplete(sequence); }, host_spin_ns_);
  }
  void Barrier();
  uint32_t workers() const { return workers_; }
  uint8_t* scratch(uint32_t worker) { return scratch_->data() + worker * CpuStream::kScratchBytes; }

 private:
  struct alignas(64) Entry {
    void (*fn)(const void* kernel, uint32_t worker, uint32_t workers, CpuStream& stream);
    CpuStream* stream;
    alignas(16) uint8_t kernel[CpuStream::kMaxKernelBytes];
  };
  struct Worker {
    Team* team;
    uint32_t index;
    pthread_t thread;
  };

  static void* WorkerMain(void* worker);
  void RunWorker(uint32_t index);

  const uint32_t workers_;
  int64_t worker_spin_ns_;
  int64_t host_spin_ns_;
  std::vector<Entry> ring_;  // entry number n lies at (n - 1) % capacity
  const std::unique_ptr<Buffer> scratch_;
  std::vector<Worker> threads_;
  std::mutex enqueue_mutex_;
  std::atomic<bool> stopping_{false};

  // Written by different threads, hence on different cache lines.
  alignas(64) std::atomic<uint64_t> published_{0};   // entries in the ring so far
  alignas(64) std::atomic<uint64_t> completed_{0};   // entries that all workers have left
  alignas(64) std::atomic<uint32_t> arrived_{0};     // workers that have left entry completed_ + 1
  alignas(64) std::atomic<uint32_t> at_barrier_{0};  // workers waiting in Barrier
  alignas(64) std::atomic<uint64_t> barriers_{0};    // barriers that all have passed
  alignas(64) WaitGate worker_gate_;
  alignas(64) WaitGate host_gate_;
};

Team::~Team() {
  stopping_.store(true);
  worker_gate_.WakeAll();
  for (Worker& worker : threads_) WEIR_CHECK(pthread_join(worker.thread, nullptr) == 0);
}

absl::Status Team::Start() {
  threads_.reserve(workers_);  // workers keep pointers into it
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  // Signals (Ctrl-C) are for the program's own threads.
  WEIR_CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
  int error = 0;
  for (uint32_t i = 0; i < workers_ && error == 0; ++i) {
    threads_.push_back({this, i, {}});
    error = pthread_create(&threads_.back().thread, nullptr, &Team::WorkerMain, &threads_.back());
    if (error != 0) threads_.pop_back();
  }
  WEIR_CHECK(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  if (error == 0) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("cannot start worker thread ",
                                                   threads_.size() + 1, " of ", workers_,
                                                   ": errno ", error, ". Use fewer threads."));
}

// A team as large as the machine gets one core for each worker: left alone, the kernel wakes a
// worker on its colleague's core time and again, and the barriers then wait for the scheduler. A
// smaller team stays free, since another program may have chosen the same cores.
void PinToCore(uint32_t index, uint32_t workers) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  if (workers < 2 || workers != static_cast<uint32_t>(CPU_COUNT(&allowed))) return;
  for (uint32_t core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &allowed) || index-- > 0) continue;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(core, &own);
    // Failing costs speed alone.
    (void)pthread_setaffinity_np(pthread_self(), sizeof(own), &own);
    return;
  }
}

void* Team::WorkerMain(void* worker) {
  const Worker& self = *static_cast<const Worker*>(worker);
  PinToCore(self.index, self.team->workers());
  pthread_setname_np(pthread_self(), absl::StrCat("weir-cpu-", self.index).c_str());
  self.team->RunWorker(self.index);
  return nullptr;
}

void Team::RunWorker(uint32_t index) {
  for (uint64_t next = 0;; ++next) {
    // One condition for both reasons to wait: colleagues still in the entry before, no entry yet.
    worker_gate_.Wait(
        [&] { return completed_.load() == next && (published_.load() > next || stopping_.load()); },
        worker_spin_ns_);
    if (published_.load() == next) return;
    Entry& entry = ring_[next % ring_.size()];
    entry.fn(entry.kernel, index, workers_, *entry.stream);
    if (arrived_.fetch_add(1) + 1 != workers_) continue;
    arrived_.store(0);
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
                       const void* kernel, size_t kernel_bytes) {
  WEIR_CHECK(kernel_bytes <= CpuStream::kMaxKernelBytes);
  const std::lock_guard<std::mutex> lock(enqueue_mutex_);
  const uint64_t number = published_.load() + 1;
  if (number > ring_.size()) Wait(number - ring_.size());  // the entry that lay here before
  Entry& entry = ring_[(number - 1) % ring_.size()];
  entry.fn = fn;
  entry.stream = stream;
  std::memcpy(entry.kernel, kernel, kernel_bytes);
  published_.store(number);
  worker_gate_.WakeAll();
  return number;
}

class TeamStream final : public CpuStream {
 public:
  explicit TeamStream(Team* team) : team_(team) {}
  ~TeamStream() override { team_->Wait(last_.load()); }

  uint32_t threads() const override { return team_->workers(); }
  uint8_t* scratch(uint32_t worker) override { return team_->scratch(worker); }
  void Barrier() override { team_->Barrier(); }
  Event Record() override { return Event{last_.load()}; }
  bool IsComplete(Event event) const override { return team_->IsComplete(event.sequence); }
  void Wait(Event event) override {
    WEIR_CHECK(event.sequence <= last_.load());  // else of another device: it might never come
    team_->Wait(event.sequence);
  }
  void NotifyWhenComplete(void (*notify)(void*), void* argument) override {
    Launch([notify, argument](uint32_t worker, uint32_t, CpuStream&) {
      if (worker == 0) notify(argument);
    });
  }
  void WaitFor(Stream& other, Event event) override {
    // Streams of one team run in the order of enqueuing anyway.
    const auto* same_kind = other.kind() == kind() ? static_cast<TeamStream*>(&other) : nullptr;
    if (same_kind != nullptr && same_kind->team_ == team_) return;
    if (other.IsComplete(event)) return;
    // The one kernel that waits: its colleagues wait for it before the next entry.
    Launch([&other, event](uint32_t worker, uint32_t, CpuStream&) {
      if (worker == 0) other.Wait(event);
    });
  }
  void CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) override {
    Copy(device, host, bytes);
  }
  void CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) override {
    Copy(host, device, bytes);
  }

 protected:
  void Enqueue(KernelFn fn, const void* kernel, size_t kernel_bytes) override {
    last_.store(team_->Enqueue(fn, this, kernel, kernel_bytes));
  }

 private:
  void Copy(uint8_t* to, const uint8_t* from, uint64_t bytes) {
    Launch([=](uint32_t worker, uint32_t workers, CpuStream&) {
      const WorkShare share = ShareWork(bytes, 1, kCopyAloneBytes, worker, workers);
      std::memcpy(to + share.begin, from + share.begin, share.end - share.begin);
    });
  }

  Team* const team_;
  std::atomic<uint64_t> last_{0};  // number of this stream's latest entry
};

class CpuDevice final : public Device {
 public:
  CpuDevice(std::string name, std::unique_ptr<Team> team)
      : name_(std::move(name)), team_(std::move(team)), touch_stream_(team_.get()) {}

  DeviceKind kind() const override { return DeviceKind::kCpu; }
  std::string name() const override { return name_; }
  std::unique_ptr<Stream> NewStream() override { return std::make_unique<TeamStream>(team_.get()); }
  // The workers copy: there is no engine that would do so beside them.
  std::unique_ptr<Stream> NewCopyStream() override { return NewStream(); }
  absl::StatusOr<std::unique_ptr<PinnedRange>> Pin(uint8_t*, uint64_t) override {
    return std::make_unique<PinnedRange>();  // all memory is equally near
  }
  DeviceMemory memory() const override {
    const absl::StatusOr<MemoryLimits> limits = ReadMemoryLimits();
    if (!limits.ok()) return {};
    return {.total_bytes = limits->usable_bytes, .free_bytes = AvailableHostBytes().value_or(0)};
  }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(uint64_t bytes, uint64_t alignment_bytes,
                                                   Touch touch) override {
    WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, MapHostMemory(bytes, alignment_bytes));
    if (touch == Touch::kAtFirstUse) return buffer;
    uint8_t* const data = buffer->data();
    if (bytes < kTouchAloneBytes) {
      TouchZeroPages(data, bytes);
      return buffer;
    }
    touch_stream_.Launch([data, bytes](uint32_t worker, uint32_t workers, CpuStream&) {
      const uint64_t share = AlignUp(CeilDiv(bytes, workers), 2 * kMiB);
      const uint64_t begin = std::min(bytes, worker * share);
      TouchZeroPages(data + begin, std::min(share, bytes - begin));
    });
    touch_stream_.Wait(touch_stream_.Record());
    return buffer;
  }

 private:
  const std::string name_;
  const std::unique_ptr<Team> team_;
  TeamStream touch_stream_;  // declared after team_: it waits for it when destroyed
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const CpuDeviceOptions& options) {
  if (options.threads == 0 || options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(absl::StrCat("a CPU device has 1 to ", kMaxThreads,
                                                   " threads, not ", options.threads, "."));
  }
  if (options.queue_capacity == 0) {
    return absl::InvalidArgumentError("the CPU device's queue_capacity must be at least 1.");
  }
  WEIR_RETURN_IF_ERROR(SelectIsa(options.isa));
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> scratch,
                        MapHostMemory(options.threads * CpuStream::kScratchBytes, 64));
  auto team = std::make_unique<Team>(options.threads, options.queue_capacity, std::move(scratch));
  WEIR_RETURN_IF_ERROR(team->Start());
  std::string name =
      absl::StrCat("cpu (", options.threads, options.threads == 1 ? " thread, " : " threads, ",
                   SelectedIsa(), ")");
  return std::make_unique<CpuDevice>(std::move(name), std::move(team));
}

}  // namespace weir
