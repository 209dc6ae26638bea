// SimDisk: a disk on a virtual clock. Every attempt of a read waits out a latency, all of them at
// once; the bandwidth then serves the reads in the order in which they were begun, urgent ones
// first, as a reader does that keeps the disk's queue full from the oldest transfer on. Faults are
// SimFaults'. Pure: the owner moves the time.
#ifndef WEIR_TIERING_SIM_DISK_H_
#define WEIR_TIERING_SIM_DISK_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "tiering/machine.h"
#include "tiering/sim_faults.h"

namespace weir {

struct SimDiskOptions {
  double bytes_per_s = 1e9;
  int64_t read_timeout_ns = 60'000'000'000;  // above 0; a read that has not ended by then fails
};

// What was injected so far.
struct SimFaultStats {
  uint64_t short_attempts = 0;
  uint64_t busy_errors = 0;
  uint64_t eio_errors = 0;
  uint64_t spikes = 0;
  uint64_t slow_reads = 0;
  uint64_t stuck_reads = 0;
};

class SimDisk {
 public:
  enum class End : uint8_t { kGood, kEio, kTimeout };
  // A read that has ended.
  struct Ended {
    Transfer transfer;
    uint64_t number = 0;  // of the transfer, in order of Begin
    End end = End::kGood;
    int64_t begin_ns = 0;
    int64_t end_ns = 0;
  };

  SimDisk(const SimDiskOptions& options, const SimFaults& faults);

  struct Request {
    uint64_t bytes = 0;
    int64_t latency_ns = 0;
    bool is_urgent = false;
  };
  void Begin(const Transfer& transfer, const Request& request, int64_t now_ns);
  // When something here next changes, if anything will; later than `now_ns`.
  std::optional<int64_t> NextChange(int64_t now_ns) const;
  // Moves bytes; nothing changes in between (NextChange).
  void Flow(int64_t now_ns, int64_t to_ns);
  // Appends what has ended by now, in the order of Begin.
  void Settle(int64_t now_ns, std::vector<Ended>* ended);

  int64_t busy_ns() const { return busy_ns_; }  // some read was past its latency
  const SimFaultStats& fault_stats() const { return fault_stats_; }

 private:
  struct Read {
    Transfer transfer;
    uint64_t number = 0;
    uint32_t attempt = 0;
    double attempt_bytes = 0;  // asked for
    double left_bytes = 0;     // of those that this attempt will bring
    double rest_bytes = 0;     // for the attempts behind it, when it is a short one
    int64_t latency_ns = 0;
    int64_t begin_ns = 0;
    int64_t flowing_ns = 0;  // when the attempt's latency is over
    uint32_t eio_left = 0;   // attempts that will fail
    uint32_t eio_met = 0;
    double slow_factor = 1;
    int64_t spike_ns = 0;
    bool is_stuck = false;
    std::optional<int64_t> held_until_ns = std::nullopt;  // all is there, but the disk sits on it
  };

  bool IsReadyToFlow(const Read& read, int64_t now_ns) const {
    return !read.held_until_ns.has_value() && !read.is_stuck && read.flowing_ns <= now_ns;
  }
  double Draw(const Read& read, SimDraw what) const;
  double BytesPerNs(int64_t now_ns) const;
  void BeginAttempt(Read* read, double bytes, int64_t now_ns);
  std::optional<End> EndOf(Read* read, int64_t now_ns);  // what became of it by now

  const SimDiskOptions options_;
  const SimFaults faults_;
  std::vector<Read> reads_;  // in the order in which they are served
  uint64_t begun_ = 0;
  int64_t busy_ns_ = 0;
  SimFaultStats fault_stats_;
};

}  // namespace weir

#endif  // WEIR_TIERING_SIM_DISK_H_
