// A team of worker threads and the one ring of kernels that it empties: what the CPU device and the
// emulated accelerator compute with. Private to kernels/.
//
// Streams only tag the ring's entries: all run in the order in which they were enqueued, whatever
// stream they came from.
#ifndef WEIR_KERNELS_CPU_TEAM_H_
#define WEIR_KERNELS_CPU_TEAM_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cpu_device.h"
#include "kernels/cpu_topology.h"
#include "kernels/device.h"
#include "kernels/entry_times.h"
#include "kernels/wait_gate.h"
#include "kernels/work_ranges.h"

namespace weir {

// As in CpuDeviceOptions.
struct TeamOptions {
  uint32_t threads = 1;
  std::string isa;
  uint32_t queue_capacity = 4096;
  uint32_t other_threads = 0;
  const char* thread_name = "weir-cpu";  // followed by the worker's number
  EntryTimes* times = nullptr;
};

class Team {
 public:
  // Selects the instruction set, for the process. Errors as MakeCpuDevice.
  static absl::StatusOr<std::unique_ptr<Team>> Make(const TeamOptions& options);
  ~Team();

  // Numbers entries from 1. Blocks while the ring is full. Any thread but a worker.
  uint64_t Enqueue(void (*fn)(const void*, uint32_t, uint32_t, CpuStream&), CpuStream* stream,
                   uint32_t label, const void* kernel, size_t kernel_bytes);
  bool IsComplete(uint64_t sequence) const { return completed_.load() >= sequence; }
  void Wait(uint64_t sequence) {
    host_gate_.Wait([&] { return IsComplete(sequence); }, host_spin_ns_);
  }
  void Barrier();
  WorkRanges& ranges() { return ranges_; }
  uint32_t workers() const { return workers_; }
  // Where memory that all workers share belongs: TeamPlace::nodes.
  const std::vector<uint32_t>& memory_nodes() const { return place_.nodes; }
  uint8_t* scratch(uint32_t worker) { return scratch_->data() + worker * CpuStream::kScratchBytes; }
  // "2 threads, AVX3_DL".
  std::string description() const;

 private:
  struct alignas(64) Entry {
    void (*fn)(const void* kernel, uint32_t worker, uint32_t workers, CpuStream& stream);
    CpuStream* stream;
    uint32_t label;  // of EntryTimes
    alignas(16) uint8_t kernel[CpuStream::kMaxKernelBytes];
  };
  struct Worker {
    Team* team;
    uint32_t index;
    pthread_t thread;
  };

  Team(const TeamOptions& options, std::unique_ptr<Buffer> scratch);
  absl::Status Start(const char* thread_name);
  static void* WorkerMain(void* worker);
  void RunWorker(uint32_t index);
  void WaitForEntry(uint32_t index, uint64_t next);

  const uint32_t workers_;
  TeamPlace place_;
  int64_t worker_spin_ns_;
  int64_t host_spin_ns_;
  std::vector<Entry> ring_;  // entry number n lies at (n - 1) % capacity
  const std::unique_ptr<Buffer> scratch_;
  WorkRanges ranges_;
  EntryTimes* const times_;  // null: nothing is timed
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

// The only CpuStream there is; copies are the workers' own.
class TeamStream : public CpuStream {
 public:
  explicit TeamStream(Team* team) : team_(team) {}
  ~TeamStream() override { team_->Wait(last_.load()); }

  uint32_t threads() const final { return team_->workers(); }
  uint8_t* scratch(uint32_t worker) final { return team_->scratch(worker); }
  void Barrier() final { team_->Barrier(); }
  WorkRanges& ranges() final { return team_->ranges(); }
  void SetLabel(uint32_t label) final { label_ = label; }
  const std::vector<uint32_t>& memory_nodes() const { return team_->memory_nodes(); }
  Event Record() final { return Event{last_.load()}; }
  bool IsComplete(Event event) const final { return team_->IsComplete(event.sequence); }
  void Wait(Event event) final;
  void NotifyWhenComplete(void (*notify)(void*), void* argument) final;
  void WaitFor(Stream& other, Event event) final;
  void CopyIn(uint8_t* device, const uint8_t* host, uint64_t bytes) override;
  void CopyOut(uint8_t* host, const uint8_t* device, uint64_t bytes) override;

 protected:
  void Enqueue(KernelFn fn, const void* kernel, size_t kernel_bytes) final {
    last_.store(team_->Enqueue(fn, this, label_, kernel, kernel_bytes));
  }
  template <typename Kernel>
  void LaunchUnlabelled(const Kernel& kernel) {
    const uint32_t label = std::exchange(label_, 0);
    Launch(kernel);
    label_ = label;
  }

 private:
  Team* const team_;
  std::atomic<uint64_t> last_{0};  // number of this stream's latest entry
  uint32_t label_ = 0;
};

// One worker's part of a copy; small ones are worker 0's alone.
void CopyShare(uint8_t* to, const uint8_t* from, uint64_t bytes, uint32_t worker, uint32_t workers);

// Maps zeroed memory on the nodes where the team is; with Touch::kNow all workers touch it before
// this returns. Any thread.
absl::StatusOr<std::unique_ptr<Buffer>> MapTouchedMemory(TeamStream& stream, uint64_t bytes,
                                                         uint64_t alignment_bytes, Touch touch);

}  // namespace weir

#endif  // WEIR_KERNELS_CPU_TEAM_H_
