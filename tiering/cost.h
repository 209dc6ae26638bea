// The cost model: time per pass >= max over links of bytes / bandwidth, and >= compute.
//
// With an accelerator the CPU may multiply some blocks where they lie. Steps of one group run on
// both devices at once, groups one after the other, and a group with steps on the CPU sends
// activations there and back:
//   compute path = sum over groups of max(accelerator's steps, CPU's steps + 2 x link latency)
#ifndef WEIR_TIERING_COST_H_
#define WEIR_TIERING_COST_H_

#include <cstdint>
#include <string>
#include <vector>

namespace weir {

// Measured on this machine, never typed in. Zero or empty: not measured.
struct Ceilings {
  double disk_bytes_per_s = 0;
  // Weight bytes that the compute device multiplies per second with one token, everything in
  // memory.
  double compute_bytes_per_s = 0;
  int64_t disk_latency_ns = 0;        // of one read alone
  std::vector<int64_t> step_ns = {};  // by step of the program: what each takes with one token
  // With an accelerator the two above are its own; the CPU's, for steps that it computes, and the
  // link from host memory to the accelerator's:
  double host_compute_bytes_per_s = 0;
  std::vector<int64_t> host_step_ns = {};
  double link_bytes_per_s = 0;
  int64_t link_latency_ns = 0;  // of one copy alone
};

// What one decode pass moves.
struct PassBytes {
  uint64_t streamed_bytes = 0;  // read from disk at every pass
  uint64_t computed_bytes = 0;  // weights multiplied
};

struct Prediction {
  double disk_s = 0;  // per pass
  double link_s = 0;
  double compute_s = 0;       // of all steps on the compute device; with an accelerator on that
  double host_compute_s = 0;  // of those on the CPU beside an accelerator
  double pass_s = 0;
  double decode_tokens_per_s = 0;  // 0 when a ceiling that it needs was not measured
  std::string bottleneck;          // "disk", "link", "compute", "cpu"; empty when unknown
};

Prediction Predict(const PassBytes& pass, const Ceilings& ceilings);

// What a group of steps takes on each device.
struct GroupTimes {
  double compute_s = 0;
  double host_compute_s = 0;
};

// A decode pass with an accelerator; `groups` in order.
struct AcceleratedPass {
  uint64_t streamed_bytes = 0;  // read from disk
  uint64_t copied_bytes = 0;    // over the link
  std::vector<GroupTimes> groups;
};

Prediction PredictAccelerated(const AcceleratedPass& pass, const Ceilings& ceilings);

// The same pass where nothing overlaps: disk, link and compute one after the other.
Prediction InTurn(Prediction prediction);

}  // namespace weir

#endif  // WEIR_TIERING_COST_H_
