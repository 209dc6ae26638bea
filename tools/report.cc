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

template <typename T>
nlohmann::json OrNull(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

// Only what is worth a word: a machine that paged is why a run was slow.
std::string MemoryStallText(const RunReport& report, double whole_s) {
  const double percent = Percent(report.memory_stall_s.value_or(0), whole_s);
  return percent < 1 ? "" : absl::StrFormat(", waiting for memory %.0f %%", percent);
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

std::string Forecast(const Prediction& prediction, const Ceilings& ceilings) {
  if (prediction.decode_tokens_per_s <= 0) {
    return "no prediction: a ceiling could not be measured";
  }
  std::string disk;
  if (prediction.disk_s > 0) {
    disk = absl::StrFormat("disk %.4g ms at %.2f GB/s, ", prediction.disk_s * 1e3,
                           ceilings.disk_bytes_per_s * 1e-9);
  }
  return absl::StrFormat("predicted %.2f tok/s, bound by %s (a token: %scompute %.4g ms)",
                         prediction.decode_tokens_per_s, prediction.bottleneck, disk,
                         prediction.compute_s * 1e3);
}

RunBegin RunBegin::Now() {
  RunBegin begin;
  begin.command_ns = begin.reading_ns = RealClock().NowNs();
  if (const auto pressure = ReadMemoryPressure()) begin.memory_stall_us = pressure->full_total_us;
  return begin;
}

RunReport MakeRunReport(const Model& model, const Engine& engine, const Generation& generation,
                        const Ceilings& ceilings, const RunBegin& begin) {
  const EngineStats stats = engine.stats();
  const ProcessCounters process = ReadProcessCounters();
  RunReport report;
  report.model = model.path;
  report.device = engine.device_name();
  report.reader = std::string(engine.reader_name());
  report.generation = generation;
  report.startup_s = Seconds(begin.reading_ns - begin.command_ns);
  report.ttft_s = Seconds(generation.first_token_ns - begin.command_ns);
  const Prediction prediction = PredictPlan(engine.program(), engine.plan(), ceilings);
  report.predicted_decode_tokens_per_s = prediction.decode_tokens_per_s;
  report.predicted_bottleneck = prediction.bottleneck;
  report.simulated_decode_tokens_per_s =
      SimulatedTokensPerS(engine.program(), engine.plan(), ceilings);
  report.peak_rss_bytes = process.peak_rss_bytes.value_or(0);
  report.kernel_read_bytes = process.disk_read_bytes.value_or(0);
  report.dram_budget_bytes = engine.plan().dram_budget_bytes;
  const PlanSummary summary = Summarise(engine.program(), engine.plan());
  report.resident_share = summary.resident_share();
  report.streamed_bytes_per_pass = summary.streamed_read_bytes;
  report.read_bytes = engine.reader_options().chunk_bytes;
  report.read_depth = engine.reader_options().depth;
  report.disk_bytes = stats.reader.bytes_read;
  report.disk_s = Seconds(stats.scheduler.disk_busy_ns);
  report.disk_ceiling_bytes_per_s = ceilings.disk_bytes_per_s;
  report.compute_s = Seconds(stats.scheduler.compute_ns);
  report.disk_stall_s = Seconds(stats.scheduler.disk_stall_ns);
  const double whole_s = Seconds(RealClock().NowNs() - begin.reading_ns);
  report.other_s = std::max(0.0, whole_s - report.compute_s - report.disk_stall_s);
  const std::optional<MemoryPressure> pressure = ReadMemoryPressure();
  if (pressure && begin.memory_stall_us) {
    report.memory_stall_s =
        static_cast<double>(pressure->full_total_us - *begin.memory_stall_us) * 1e-6;
  }
  return report;
}

std::string Footer(const RunReport& report) {
  const Generation& g = report.generation;
  const double achieved = g.decode_tokens_per_s();
  const double whole_s = report.compute_s + report.disk_stall_s + report.other_s;
  return absl::StrFormat(
      "%d prompt tokens at %.1f tok/s, %d generated at %.2f tok/s (%s), first token after %.2f s\n"
      "%s, %.0f %% of weights resident | time: compute %.0f %%, disk stall %.0f %%, other %.0f "
      "%%%s; "
      "reading takes %.1f %% of a core | peak memory %s (budget %s)",
      g.prompt_tokens, g.prompt_tokens_per_s(), g.tokens.size(), achieved,
      PredictionText(report, achieved), report.ttft_s, DiskText(report),
      100 * report.resident_share, Percent(report.compute_s, whole_s),
      Percent(report.disk_stall_s, whole_s), Percent(report.other_s, whole_s),
      MemoryStallText(report, whole_s), Percent(g.decode_reading_cpu_s, g.decode_s),
      FormatBytes(report.peak_rss_bytes), FormatBytes(report.dram_budget_bytes));
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
             {{"block_bytes", report.read_bytes},
              {"depth", report.read_depth},
              {"bytes", report.disk_bytes},
              {"kernel_bytes", report.kernel_read_bytes},
              {"seconds", report.disk_s},
              {"gb_per_s", disk_rate * 1e-9},
              {"ceiling_gb_per_s", report.disk_ceiling_bytes_per_s * 1e-9}}}}},
          {"decode",
           {{"seconds", g.decode_s},
            {"passes", g.decode_passes},
            {"read_bytes", g.decode_read_bytes},
            {"kernel_bytes", g.decode_kernel_bytes},
            {"gb_per_s", g.decode_read_bytes_per_s() * 1e-9},
            {"reading_cpu_s", g.decode_reading_cpu_s},
            {"allocations", OrNull(g.decode_allocations)}}},
          {"time_s",
           {{"compute", report.compute_s},
            {"disk_stall", report.disk_stall_s},
            {"other", report.other_s},
            {"memory_stall", OrNull(report.memory_stall_s)}}},
          {"tokens", g.tokens}};
}

}  // namespace weir
