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

// Where the weights are while text is generated: shares of their bytes, which add up to 1.
struct WeightShares {
  double device = 0;    // in the accelerator's memory
  double host = 0;      // in DRAM
  double disk = 0;      // read at every pass
  double in_place = 0;  // of host and disk, what the CPU multiplies beside an accelerator
};

// What a run with an accelerator says beside the rest.
struct AcceleratorReport {
  uint64_t hbm_budget_bytes = 0;
  uint64_t hbm_bytes = 0;  // in use: everything is taken when the engine opens
  uint64_t copies = 0;
  uint64_t copies_discarded = 0;  // of these, of no use
  uint64_t link_bytes = 0;
  double link_s = 0;  // some copy was in flight
  double link_ceiling_bytes_per_s = 0;
  double copy_stall_s = 0;
  double device_s = 0;        // the accelerator computed
  double host_s = 0;          // the CPU beside it did
  uint64_t graph_passes = 0;  // since the engine opened: enqueued as one graph each

  double link_bytes_per_s() const {
    return link_s > 0 ? static_cast<double>(link_bytes) / link_s : 0;
  }
};

struct RunReport {
  std::string model;
  std::string device;
  bool is_emulated = false;  // the device is an emulated accelerator
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
  WeightShares weights;
  std::optional<AcceleratorReport> accelerator;
  uint64_t weight_bytes_per_token = 0;  // of all matrices that a token is multiplied with
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

  double disk_bytes_per_s() const {
    return disk_s > 0 ? static_cast<double>(disk_bytes) / disk_s : 0;
  }
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
                        const Ceilings& ceilings, const RunBegin& begin, bool is_emulated);

// One line, before a run: the links' times for a token, and what follows from them.
std::string Forecast(const Prediction& prediction, const Ceilings& ceilings, bool is_emulated);

// Two lines, three with an accelerator, without a newline at the end.
std::string Footer(const RunReport& report);

// "34 % of weights resident", or with an accelerator where they are.
std::string WeightsText(const RunReport& report);

WeightShares SharesOf(const PlanSummary& summary);
// {"hbm", "dram", "disk", "in_place"}
nlohmann::json ToJson(const WeightShares& shares);
// Whose trace it is.
Trace::Process TraceProcess(bool is_emulated);

// Field names: README.
nlohmann::json ReportJson(const RunReport& report);

}  // namespace weir

#endif  // WEIR_TOOLS_REPORT_H_
