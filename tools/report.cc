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

// "disk 1.23 GB read at 1.88 GB/s (99 % of the measured 1.90)"; `moved` is "read" or "copied".
std::string LinkText(const char* link, const char* moved, uint64_t bytes, double bytes_per_s,
                     double ceiling_bytes_per_s) {
  if (bytes == 0) return absl::StrFormat("%s nothing %s", link, moved);
  std::string text = absl::StrFormat("%s %.2f GB %s at %.2f GB/s", link,
                                     static_cast<double>(bytes) * 1e-9, moved, bytes_per_s * 1e-9);
  if (ceiling_bytes_per_s > 0) {
    absl::StrAppendFormat(&text, " (%.0f %% of the measured %.2f)",
                          Percent(bytes_per_s, ceiling_bytes_per_s), ceiling_bytes_per_s * 1e-9);
  }
  return text;
}

std::string DiskText(const RunReport& report) {
  return LinkText("disk", "read", report.disk_bytes, report.disk_bytes_per_s(),
                  report.disk_ceiling_bytes_per_s);
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
  const bool copies = Summarise(program, plan).copied_bytes > 0;
  if (ceilings.step_ns.empty() || (streams && ceilings.disk_bytes_per_s <= 0)) return 0;
  if (copies && ceilings.link_bytes_per_s <= 0) return 0;
  SimHardware hardware = SimHardwareFrom(ceilings);
  if (hardware.disk_bytes_per_s <= 0)
    hardware.disk_bytes_per_s = 1e9;  // used by the first pass only
  return SimulateDecode(program, plan, hardware, SimFaults(), SimulateOptions(), nullptr)
      .tokens_per_s();
}

std::string Forecast(const Prediction& prediction, const Ceilings& ceilings, bool is_emulated) {
  const char* const emulated = is_emulated ? "emulated: " : "";
  if (prediction.decode_tokens_per_s <= 0) {
    return absl::StrCat(emulated, "no prediction: a ceiling could not be measured");
  }
  std::string links;
  const auto add = [&links](const char* link, double seconds, double bytes_per_s) {
    if (seconds <= 0) return;
    absl::StrAppendFormat(&links, "%s %.4g ms at %.2f GB/s, ", link, seconds * 1e3,
                          bytes_per_s * 1e-9);
  };
  add("disk", prediction.disk_s, ceilings.disk_bytes_per_s);
  add("link", prediction.link_s, ceilings.link_bytes_per_s);
  std::string text = absl::StrFormat(
      "%spredicted %.2f tok/s, bound by %s (a token: %scompute %.4g ms", emulated,
      prediction.decode_tokens_per_s, prediction.bottleneck, links, prediction.compute_s * 1e3);
  if (prediction.host_compute_s > 0) {
    absl::StrAppendFormat(&text, ", CPU %.4g ms", prediction.host_compute_s * 1e3);
  }
  return text + ")";
}

std::string WeightsText(const RunReport& report) {
  if (!report.accelerator) {
    return absl::StrFormat("%.0f %% of weights resident", 100 * report.resident_share);
  }
  const WeightShares& shares = report.weights;
  return absl::StrFormat(
      "weights: HBM %.0f %%, DRAM %.0f %%, disk %.0f %%, %.0f %% multiplied in place",
      100 * shares.device, 100 * shares.host, 100 * shares.disk, 100 * shares.in_place);
}

WeightShares SharesOf(const PlanSummary& summary) {
  const auto all =
      static_cast<double>(summary.resident_payload_bytes + summary.streamed_payload_bytes);
  if (all <= 0) return WeightShares();
  const auto share = [all](uint64_t bytes) { return static_cast<double>(bytes) / all; };
  return {.device = share(summary.device_payload_bytes),
          .host = share(summary.resident_payload_bytes - summary.device_payload_bytes),
          .disk = share(summary.streamed_payload_bytes),
          .in_place = share(summary.in_place_payload_bytes)};
}

Trace::Process TraceProcess(bool is_emulated) {
  return {.name = is_emulated ? "weir run, emulated accelerator" : "weir run"};
}

RunBegin RunBegin::Now() {
  RunBegin begin;
  begin.command_ns = begin.reading_ns = RealClock().NowNs();
  if (const auto pressure = ReadMemoryPressure()) begin.memory_stall_us = pressure->full_total_us;
  return begin;
}

namespace {

AcceleratorReport AcceleratorReportOf(const Engine& engine, const SchedulerStats& stats,
                                      const Ceilings& ceilings) {
  const auto busy_s = [&stats](ComputeDevice device) {
    return Seconds(stats.devices[static_cast<size_t>(device)].busy_ns);
  };
  AcceleratorReport report;
  report.hbm_budget_bytes = engine.plan().accelerator->hbm_budget_bytes;
  report.hbm_bytes = engine.accelerator_bytes_in_use();
  report.copies = stats.copies;
  report.copies_discarded = stats.copies_discarded;
  report.link_bytes = stats.copy_bytes;
  report.link_s = Seconds(stats.copy_busy_ns);
  report.link_ceiling_bytes_per_s = ceilings.link_bytes_per_s;
  report.copy_stall_s = Seconds(stats.copy_stall_ns);
  report.device_s = busy_s(ComputeDevice::kAccelerator);
  report.host_s = busy_s(ComputeDevice::kCpu);
  report.graph_passes = engine.graph_runs();
  return report;
}

void FillPlan(const Engine& engine, const Ceilings& ceilings, RunReport* report) {
  const Prediction prediction = PredictPlan(engine.program(), engine.plan(), ceilings);
  report->predicted_decode_tokens_per_s = prediction.decode_tokens_per_s;
  report->predicted_bottleneck = prediction.bottleneck;
  report->simulated_decode_tokens_per_s =
      SimulatedTokensPerS(engine.program(), engine.plan(), ceilings);
  const PlanSummary summary = Summarise(engine.program(), engine.plan());
  report->dram_budget_bytes = engine.plan().dram_budget_bytes;
  report->resident_share = summary.resident_share();
  report->weights = SharesOf(summary);
  report->weight_bytes_per_token = engine.program().payload_bytes();
  report->streamed_bytes_per_pass = summary.streamed_read_bytes;
}

}  // namespace

RunReport MakeRunReport(const Model& model, const Engine& engine, const Generation& generation,
                        const Ceilings& ceilings, const RunBegin& begin, bool is_emulated) {
  const EngineStats stats = engine.stats();
  const ProcessCounters process = ReadProcessCounters();
  RunReport report;
  report.model = model.path;
  report.device = engine.device_name();
  report.is_emulated = is_emulated;
  report.reader = std::string(engine.reader_name());
  report.generation = generation;
  report.startup_s = Seconds(begin.reading_ns - begin.command_ns);
  report.ttft_s = Seconds(generation.first_token_ns - begin.command_ns);
  FillPlan(engine, ceilings, &report);
  report.peak_rss_bytes = process.peak_rss_bytes.value_or(0);
  report.kernel_read_bytes = process.disk_read_bytes.value_or(0);
  report.read_bytes = engine.reader_options().chunk_bytes;
  report.read_depth = engine.reader_options().depth;
  report.disk_bytes = stats.reader.bytes_read;
  report.disk_s = Seconds(stats.scheduler.disk_busy_ns);
  report.disk_ceiling_bytes_per_s = ceilings.disk_bytes_per_s;
  report.compute_s = Seconds(stats.scheduler.compute_ns);
  report.disk_stall_s = Seconds(stats.scheduler.disk_stall_ns);
  double copy_stall_s = 0;
  if (engine.plan().accelerator.has_value()) {
    report.accelerator = AcceleratorReportOf(engine, stats.scheduler, ceilings);
    copy_stall_s = report.accelerator->copy_stall_s;
  }
  const double whole_s = Seconds(RealClock().NowNs() - begin.reading_ns);
  report.other_s = std::max(0.0, whole_s - report.compute_s - report.disk_stall_s - copy_stall_s);
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
  const AcceleratorReport* const accelerator = report.accelerator ? &*report.accelerator : nullptr;
  const double copy_stall_s = accelerator ? accelerator->copy_stall_s : 0;
  const double whole_s = report.compute_s + report.disk_stall_s + copy_stall_s + report.other_s;
  std::string text = absl::StrFormat(
      "%s%d prompt tokens at %.1f tok/s, %d generated at %.2f tok/s (%s), first token after %.2f "
      "s\n%s, ",
      report.is_emulated ? "emulated: " : "", g.prompt_tokens, g.prompt_tokens_per_s(),
      g.tokens.size(), achieved, PredictionText(report, achieved), report.ttft_s, DiskText(report));
  if (accelerator) {
    absl::StrAppend(
        &text,
        LinkText("link", "copied", accelerator->link_bytes, accelerator->link_bytes_per_s(),
                 accelerator->link_ceiling_bytes_per_s),
        " | ");
  }
  absl::StrAppend(&text, WeightsText(report), accelerator ? "\n" : " | ");
  absl::StrAppendFormat(&text, "time: compute %.0f %%, disk stall %.0f %%, ",
                        Percent(report.compute_s, whole_s), Percent(report.disk_stall_s, whole_s));
  if (accelerator) {
    absl::StrAppendFormat(&text, "copy stall %.0f %%, ", Percent(copy_stall_s, whole_s));
  }
  absl::StrAppendFormat(&text,
                        "other %.0f %%%s; reading takes %.1f %% of a core | peak memory %s "
                        "(budget %s)",
                        Percent(report.other_s, whole_s), MemoryStallText(report, whole_s),
                        Percent(g.decode_reading_cpu_s, g.decode_s),
                        FormatBytes(report.peak_rss_bytes), FormatBytes(report.dram_budget_bytes));
  if (accelerator) {
    absl::StrAppendFormat(&text, ", %sHBM %s (budget %s)", report.is_emulated ? "emulated " : "",
                          FormatBytes(accelerator->hbm_bytes),
                          FormatBytes(accelerator->hbm_budget_bytes));
  }
  return text;
}

namespace {

nlohmann::json DiskJson(const RunReport& report) {
  return {{"block_bytes", report.read_bytes},
          {"depth", report.read_depth},
          {"bytes", report.disk_bytes},
          {"kernel_bytes", report.kernel_read_bytes},
          {"seconds", report.disk_s},
          {"gb_per_s", report.disk_bytes_per_s() * 1e-9},
          {"ceiling_gb_per_s", report.disk_ceiling_bytes_per_s * 1e-9}};
}

// What there is with an accelerator only.
void AddAccelerator(const RunReport& report, nlohmann::json* json) {
  if (!report.accelerator) return;
  const AcceleratorReport& accelerator = *report.accelerator;
  nlohmann::json& out = *json;
  out["hbm_bytes"] = accelerator.hbm_bytes;
  out["hbm_budget_bytes"] = accelerator.hbm_budget_bytes;
  out["graph_passes"] = accelerator.graph_passes;
  out["links"]["link"] = {{"copies", accelerator.copies},
                          {"discarded", accelerator.copies_discarded},
                          {"bytes", accelerator.link_bytes},
                          {"seconds", accelerator.link_s},
                          {"gb_per_s", accelerator.link_bytes_per_s() * 1e-9},
                          {"ceiling_gb_per_s", accelerator.link_ceiling_bytes_per_s * 1e-9}};
  out["decode"]["copied_bytes"] = report.generation.decode_copy_bytes;
  out["decode"]["link_gb_per_s"] = report.generation.decode_copy_bytes_per_s() * 1e-9;
  out["time_s"]["copy_stall"] = accelerator.copy_stall_s;
  out["time_s"]["accelerator"] = accelerator.device_s;
  out["time_s"]["cpu"] = accelerator.host_s;
}

}  // namespace

nlohmann::json ToJson(const WeightShares& shares) {
  return {{"hbm", shares.device},
          {"dram", shares.host},
          {"disk", shares.disk},
          {"in_place", shares.in_place}};
}

nlohmann::json ReportJson(const RunReport& report) {
  const Generation& g = report.generation;
  nlohmann::json json = {{"model", report.model},
                         {"device", report.device},
                         {"emulated", report.is_emulated},
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
                         {"weight_bytes_per_token", report.weight_bytes_per_token},
                         {"streamed_bytes_per_pass", report.streamed_bytes_per_pass},
                         {"stop", StopName(g.stop)},
                         {"weights", ToJson(report.weights)},
                         {"links", {{"disk", DiskJson(report)}}},
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
  AddAccelerator(report, &json);
  return json;
}

}  // namespace weir
