#include "tools/report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "io/clock.h"
#include "kernels/memory_limits.h"
#include "tiering/simulate.h"

namespace weir {
namespace {

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

double Percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

std::string_view StopName(Generation::Stop stop) {
  switch (stop) {
    case Generation::Stop::kEndToken:
      return "end_token";
    case Generation::Stop::kLength:
      return "length";
    case Generation::Stop::kContextFull:
      return "context_full";
    case Generation::Stop::kInterrupted:
      break;
  }
  return "interrupted";
}

std::string DiskText(const RunReport& report) {
  if (report.disk_bytes == 0) return "disk nothing read";
  const double rate =
      report.disk_s > 0 ? static_cast<double>(report.disk_bytes) / report.disk_s : 0;
  std::string text = absl::StrFormat("disk %.2f GB read at %.2f GB/s",
                                     static_cast<double>(report.disk_bytes) * 1e-9, rate * 1e-9);
  if (report.disk_ceiling_bytes_per_s > 0) {
    absl::StrAppendFormat(&text, " (%.0f %% of the measured %.2f)",
                          Percent(rate, report.disk_ceiling_bytes_per_s),
                          report.disk_ceiling_bytes_per_s * 1e-9);
  }
  return text;
}

std::string PredictionText(const RunReport& report, double achieved) {
  if (report.predicted_decode_tokens_per_s <= 0) return "not predicted";
  std::string text = absl::StrFormat("predicted %.2f", report.predicted_decode_tokens_per_s);
  if (achieved > 0) {
    absl::StrAppendFormat(&text, ", %+.0f %%",
                          100 * (report.predicted_decode_tokens_per_s / achieved - 1));
  }
  return text + ", bound by " + report.predicted_bottleneck;
}

}  // namespace

double SimulatedTokensPerS(const Program& program, const Plan& plan, const Ceilings& ceilings) {
  const bool streams = Summarise(program, plan).streamed_read_bytes > 0;
  if (ceilings.step_ns.empty() || (streams && ceilings.disk_bytes_per_s <= 0)) return 0;
  SimHardware hardware = SimHardwareFrom(ceilings);
  if (hardware.disk_bytes_per_s <= 0)
    hardware.disk_bytes_per_s = 1e9;  // used by the first pass only
  return SimulateDecode(program, plan, hardware, SimFaults(), SimulateOptions(), nullptr)
      .tokens_per_s();
}

RunReport MakeRunReport(const Model& model, const Engine& engine, const Generation& generation,
                        const Ceilings& ceilings, int64_t begin_ns, int64_t run_begin_ns) {
  const EngineStats stats = engine.stats();
  const ProcessCounters process = ReadProcessCounters();
  RunReport report;
  report.model = model.path;
  report.device = engine.device_name();
  report.reader = std::string(engine.reader_name());
  report.generation = generation;
  report.startup_s = Seconds(run_begin_ns - begin_ns);
  report.ttft_s = Seconds(generation.first_token_ns - begin_ns);
  report.predicted_decode_tokens_per_s = engine.plan().prediction.decode_tokens_per_s;
  report.predicted_bottleneck = engine.plan().prediction.bottleneck;
  report.simulated_decode_tokens_per_s =
      SimulatedTokensPerS(engine.program(), engine.plan(), ceilings);
  report.peak_rss_bytes = process.peak_rss_bytes.value_or(0);
  report.kernel_read_bytes = process.disk_read_bytes.value_or(0);
  report.dram_budget_bytes = engine.plan().dram_budget_bytes;
  const PlanSummary summary = Summarise(engine.program(), engine.plan());
  report.resident_share = summary.resident_share();
  report.streamed_bytes_per_pass = summary.streamed_read_bytes;
  report.disk_bytes = stats.reader.bytes_read;
  report.disk_s = Seconds(stats.scheduler.disk_busy_ns);
  report.disk_ceiling_bytes_per_s = ceilings.disk_bytes_per_s;
  report.reading_cpu_s = Seconds(static_cast<int64_t>(stats.reading_cpu_ns));
  report.compute_s = Seconds(stats.scheduler.compute_ns);
  report.disk_stall_s = Seconds(stats.scheduler.disk_stall_ns);
  const double whole_s = Seconds(RealClock().NowNs() - run_begin_ns);
  report.other_s = std::max(0.0, whole_s - report.compute_s - report.disk_stall_s);
  return report;
}

std::string Footer(const RunReport& report) {
  const Generation& g = report.generation;
  const double achieved = g.decode_tokens_per_s();
  const double whole_s = report.compute_s + report.disk_stall_s + report.other_s;
  return absl::StrFormat(
      "%d prompt tokens at %.1f tok/s, %d generated at %.2f tok/s (%s), first token after %.2f s\n"
      "%s, %.0f %% of weights resident | time: compute %.0f %%, disk stall %.0f %%, other %.0f %%; "
      "reading takes %.1f %% of a core | peak memory %s (budget %s)",
      g.prompt_tokens, g.prompt_tokens_per_s(), g.tokens.size(), achieved,
      PredictionText(report, achieved), report.ttft_s, DiskText(report),
      100 * report.resident_share, Percent(report.compute_s, whole_s),
      Percent(report.disk_stall_s, whole_s), Percent(report.other_s, whole_s),
      Percent(report.reading_cpu_s, whole_s), FormatBytes(report.peak_rss_bytes),
      FormatBytes(report.dram_budget_bytes));
}

nlohmann::json ReportJson(const RunReport& report) {
  const Generation& g = report.generation;
  const double disk_rate =
      report.disk_s > 0 ? static_cast<double>(report.disk_bytes) / report.disk_s : 0;
  return {{"model", report.model},
          {"device", report.device},
          {"reader", report.reader},
          {"prompt_tokens", g.prompt_tokens},
          {"generated_tokens", g.tokens.size()},
          {"prompt_tokens_per_s", g.prompt_tokens_per_s()},
          {"decode_tokens_per_s", g.decode_tokens_per_s()},
          {"startup_s", report.startup_s},
          {"ttft_s", report.ttft_s},
          {"predicted_decode_tokens_per_s", report.predicted_decode_tokens_per_s},
          {"predicted_bottleneck", report.predicted_bottleneck},
          {"simulated_decode_tokens_per_s", report.simulated_decode_tokens_per_s},
          {"peak_rss_bytes", report.peak_rss_bytes},
          {"dram_budget_bytes", report.dram_budget_bytes},
          {"resident_share", report.resident_share},
          {"streamed_bytes_per_pass", report.streamed_bytes_per_pass},
          {"stop", StopName(g.stop)},
          {"links",
           {{"disk",
             {{"bytes", report.disk_bytes},
              {"kernel_bytes", report.kernel_read_bytes},
              {"seconds", report.disk_s},
              {"gb_per_s", disk_rate * 1e-9},
              {"ceiling_gb_per_s", report.disk_ceiling_bytes_per_s * 1e-9}}}}},
          {"decode",
           {{"seconds", g.decode_s},
            {"passes", g.decode_passes},
            {"read_bytes", g.decode_read_bytes},
            {"kernel_bytes", g.decode_kernel_bytes},
            {"gb_per_s", g.decode_read_bytes_per_s() * 1e-9}}},
          {"time_s",
           {{"compute", report.compute_s},
            {"disk_stall", report.disk_stall_s},
            {"other", report.other_s},
            {"reading_cpu", report.reading_cpu_s}}},
          {"tokens", g.tokens}};
}

}  // namespace weir
