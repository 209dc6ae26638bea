#include "tools/cmd_probe_memory.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/hardware_probe.h"
#include "io/base.h"
#include "kernels/host_memory.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/output_file.h"
#include "tools/probe_parts.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr double kMaxSeconds = 3600;
constexpr uint32_t kMaxThreads = 1024;
constexpr uint64_t kAlignmentBytes = 64;

}  // namespace

absl::Status MeasureMemory(const std::function<bool(double)>& progress, MemoryProbe* probe) {
  const auto memory = MapHostMemory(probe->bytes, kAlignmentBytes);
  if (!memory.ok()) return memory.status();
  TouchZeroPages((*memory)->data(), probe->bytes);
  std::vector<double> rates;
  for (int round = 0; round < probe->rounds; ++round) {
    if (!progress(static_cast<double>(round) / probe->rounds)) {
      return absl::CancelledError("interrupted");
    }
    WEIR_ASSIGN_OR_RETURN(
        const MemoryProbeResult result,
        ProbeMemoryRead({(*memory)->data(), probe->bytes}, probe->threads, probe->round_ns));
    rates.push_back(result.bytes_per_s);
  }
  probe->read = SpreadOfRates(std::move(rates));
  return absl::OkStatus();
}

uint64_t LeastProbeBytes(uint64_t last_level_cache_bytes) {
  return std::max<uint64_t>(1 * kGiB, 4 * last_level_cache_bytes);
}

absl::StatusOr<MemoryProbe> MakeMemoryProbe(const ProbeMemoryOptions& options,
                                            uint64_t last_level_cache_bytes) {
  MemoryProbe probe;
  probe.last_level_cache_bytes = last_level_cache_bytes;
  probe.bytes = LeastProbeBytes(last_level_cache_bytes);
  if (!options.size.empty()) {
    const absl::StatusOr<uint64_t> size = ParseBytes(options.size);
    if (!size.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--size: ", size.status().message()));
    }
    if (*size < probe.bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("--size ", options.size, " is too little: caches of ",
                       FormatBytes(last_level_cache_bytes), " would be measured; ",
                       FormatBytes(probe.bytes), " at least"));
    }
    probe.bytes = *size;
  }
  if (options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads ", options.threads, " is not possible: at most ", kMaxThreads));
  }
  WEIR_RETURN_IF_ERROR(CheckProbeTimes(options.seconds, kMaxSeconds, options.rounds));
  probe.threads =
      options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  probe.round_ns = std::max<int64_t>(1, static_cast<int64_t>(options.seconds * 1e9));
  probe.rounds = options.rounds;
  return probe;
}

nlohmann::json MemoryProbeToJson(const MemoryProbe& probe) {
  return {{"threads", probe.threads},
          {"bytes", probe.bytes},
          {"last_level_cache_bytes", probe.last_level_cache_bytes},
          {"read", WithRate(nlohmann::json::object(), probe.read)}};
}

std::string MemoryProbeToText(const MemoryProbe& probe) {
  const std::string cache = probe.last_level_cache_bytes > 0
                                ? FormatBytes(probe.last_level_cache_bytes)
                                : std::string("of unknown size");
  return absl::StrFormat(
      "reading %s with %d threads: %.2f GB/s (%.2f to %.2f, median of %d rounds); last-level cache "
      "%s\n",
      FormatBytes(probe.bytes), probe.threads, probe.read.median_bytes_per_s / kGb,
      probe.read.low_bytes_per_s / kGb, probe.read.high_bytes_per_s / kGb, probe.rounds, cache);
}

absl::Status RunProbeMemory(const ProbeMemoryOptions& options) {
  absl::StatusOr<MemoryProbe> probe = MakeMemoryProbe(options, LastLevelCacheBytes());
  if (!probe.ok()) return WithExitCode(ExitCode::kUsage, probe.status());
  absl::StatusOr<OutputFile> json = OutputFile::Open(options.json);
  if (!json.ok()) return WithExitCode(ExitCode::kOutput, json.status());
  CatchInterrupts();
  const absl::Status measured = MeasureMemory([](double) { return !Interrupted(); }, &*probe);
  if (!measured.ok()) return WithProbeExitCode(ExitCode::kBudget, measured);
  if (options.json != "-") WEIR_RETURN_IF_ERROR(PrintText(MemoryProbeToText(*probe)));
  if (!json->is_open()) return absl::OkStatus();
  return WriteWhole(&*json, MemoryProbeToJson(*probe).dump(2) + "\n");
}

void AddProbeMemoryCommand(CLI::App& probe, int* exit_code) {
  const auto options = std::make_shared<ProbeMemoryOptions>();
  CLI::App* const memory =
      probe.add_subcommand("memory", "What memory delivers to threads that read it");
  memory->add_option("-t,--threads", options->threads, "Threads that read; 0: all of the CPU's")
      ->capture_default_str();
  memory->add_option("--size", options->size,
                     "Memory to read (default: four times the last-level cache, at least 1GiB)");
  memory->add_option("--seconds", options->seconds, "Time of reading in one round")
      ->capture_default_str();
  memory->add_option("--rounds", options->rounds, "Rounds; the median is shown")
      ->capture_default_str();
  memory->add_option("--json", options->json, "Write the results as JSON to this file (-: stdout)");
  memory->callback([options, exit_code] { *exit_code = ReportStatus(RunProbeMemory(*options)); });
}

}  // namespace weir
