// What a run says of itself: the footer on stderr and the same as JSON.
#ifndef WEIR_TOOLS_REPORT_H_
#define WEIR_TOOLS_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "engine/engine.h"
#include "nlohmann/json.hpp"
#include "tools/generate.h"

namespace weir {

struct RunReport {
  std::string model;
  std::string device;
  std::string reader;
  Generation generation;
  double startup_s = 0;  // from the command's start until reading begins
  double ttft_s = 0;     // from the command's start
  double predicted_decode_tokens_per_s = 0;
  std::string predicted_bottleneck;
  // By the simulated machine with the same ceilings; 0 when one was not measured.
  double simulated_decode_tokens_per_s = 0;
  uint64_t peak_rss_bytes = 0;
  uint64_t dram_budget_bytes = 0;
  double resident_share = 0;
  uint64_t streamed_bytes_per_pass = 0;
  uint64_t read_bytes = 0;  // of each read at most
  uint32_t read_depth = 0;  // reads in flight at most
  uint64_t disk_bytes = 0;  // as returned by the kernel to the reader
  double disk_s = 0;        // some read was in flight
  double disk_ceiling_bytes_per_s = 0;
  uint64_t kernel_read_bytes = 0;  // /proc/self/io over the whole process; 0: not available
  double compute_s = 0;
  double disk_stall_s = 0;
  double other_s = 0;
  // Everything waited for memory meanwhile, by the kernel's count (PSI); absent where there is
  // none.
  std::optional<double> memory_stall_s;
};

// Where a command and its run began.
struct RunBegin {
  int64_t command_ns = 0;  // RealClock
  std::optional<uint64_t> memory_stall_us;
  int64_t reading_ns = 0;  // the first Forward

  static RunBegin Now();  // of the command
};

// What the shipped scheduler makes of these ceilings on the simulated machine; 0 when one is
// missing.
double SimulatedTokensPerS(const Program& program, const Plan& plan, const Ceilings& ceilings);

// Reads the engine's counters and the process's.
RunReport MakeRunReport(const Model& model, const Engine& engine, const Generation& generation,
                        const Ceilings& ceilings, const RunBegin& begin);

// One line, before a run: the links' times for a token, and what follows from them.
std::string Forecast(const Prediction& prediction, const Ceilings& ceilings);

// Two lines without a newline at the end.
std::string Footer(const RunReport& report);

// Field names: README.
nlohmann::json ReportJson(const RunReport& report);

}  // namespace weir

#endif  // WEIR_TOOLS_REPORT_H_
