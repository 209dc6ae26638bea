// The cost model: time per pass >= max over links of bytes / bandwidth, and >= compute.
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
};

// What one decode pass moves.
struct PassBytes {
  uint64_t streamed_bytes = 0;  // read from disk at every pass
  uint64_t computed_bytes = 0;  // weights multiplied
};

struct Prediction {
  double disk_s = 0;  // per pass
  double compute_s = 0;
  double pass_s = 0;
  double decode_tokens_per_s = 0;  // 0 when a ceiling that it needs was not measured
  std::string bottleneck;          // "disk", "compute"; empty when unknown
};

Prediction Predict(const PassBytes& pass, const Ceilings& ceilings);

}  // namespace weir

#endif  // WEIR_TIERING_COST_H_
