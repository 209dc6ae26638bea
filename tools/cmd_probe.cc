#include "tools/cmd_probe.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <memory>
#include <set>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/planner.h"
#include "io/base.h"
#include "io/file.h"
#include "io/reader.h"
#include "tools/cmd_probe_all.h"
#include "tools/cmd_probe_cpu.h"
#include "tools/cmd_probe_gpu.h"
#include "tools/cmd_probe_memory.h"
#include "tools/disk_ceiling.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/output_file.h"
#include "tools/probe_parts.h"
#include "tools/progress.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr double kMaxCellSeconds = 3600;

// uring where it works; threads always: the fallback must be known, too.
std::vector<std::string> ReadersHere(std::string* note) {
  const auto probe = MakeReader("auto", ReaderOptions(), note);
  if (probe.ok() && (*probe)->name() == "uring") return {"uring", "threads"};
  return {"threads"};
}

absl::Status WriteJson(OutputFile* output, const nlohmann::json& document) {
  return WriteWhole(output,
                    document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

// In GB/s: small reads of a slow disk want more digits.
std::string RateText(double bytes_per_s) {
  return absl::StrFormat("%.*f", bytes_per_s < 0.1 * kGb ? 4 : 2, bytes_per_s / kGb);
}

absl::StatusOr<std::vector<DiskSweepCell>> MeasureWithProgress(const File& file,
                                                               const DiskSweepOptions& sweep) {
  CatchInterrupts();
  ProgressLine line("probing");
  uint64_t read_bytes = 0;
  absl::StatusOr<std::vector<DiskSweepCell>> cells =
      SweepDisk(file, sweep, [&](int done, int total, const DiskProbeResult& last) {
        read_bytes += last.read_bytes;
        line.Update(static_cast<double>(done) / total, read_bytes);
        return !Interrupted();
      });
  line.Finish();
  if (cells.ok()) return cells;
  const bool is_option = absl::IsInvalidArgument(cells.status());
  return WithProbeExitCode(is_option ? ExitCode::kUsage : ExitCode::kIo, cells.status());
}

}  // namespace

std::string KeepCeilings(const std::vector<DiskCeiling>& best, bool save) {
  const std::string path = save ? CeilingsPath() : "";
  std::string text;
  for (const DiskCeiling& ceiling : best) {
    absl::StrAppendFormat(&text, "%s: %d reads of %s in flight suit this disk: %.2f GB/s",
                          ceiling.reader, ceiling.depth, FormatBytes(ceiling.block_bytes),
                          ceiling.bytes_per_s / kGb);
    const absl::Status stored = path.empty() ? absl::OkStatus() : StoreCeiling(path, ceiling);
    if (!stored.ok()) absl::StrAppend(&text, "; not saved: ", std::string(stored.message()));
    if (stored.ok() && !path.empty()) absl::StrAppend(&text, "; saved for runs on it");
    text.push_back('\n');
  }
  return text;
}

absl::StatusOr<DiskSweepOptions> MakeSweep(const ProbeDiskOptions& options) {
  DiskSweepOptions sweep;
  sweep.is_random = options.random;
  if (options.random) {
    if (options.save.value_or(false)) {
      return absl::InvalidArgumentError(
          "--save: random reads do not tell which reads suit runs. Leave out --random");
    }
    sweep.block_bytes = {4 * kKiB};
    sweep.depths = {1, 4, 16, 64};
  }
  if (!options.readers.empty()) sweep.readers = options.readers;
  if (!options.depths.empty()) sweep.depths = options.depths;
  if (!options.blocks.empty()) sweep.block_bytes.clear();
  for (const std::string& block : options.blocks) {
    WEIR_ASSIGN_OR_RETURN(const uint64_t bytes, ParseBytes(block));
    sweep.block_bytes.push_back(bytes);
  }
  WEIR_RETURN_IF_ERROR(CheckProbeTimes(options.seconds, kMaxCellSeconds, options.rounds));
  sweep.cell_ns = static_cast<int64_t>(std::ceil(options.seconds * 1e9));
  sweep.rounds = options.rounds;
  sweep.footprint_bytes = RingBytes(0);
  return sweep;
}

nlohmann::json SweepToJson(const File& file, const DiskIdentity& disk, bool is_random,
                           const std::vector<DiskSweepCell>& cells) {
  nlohmann::json rows = nlohmann::json::array();
  for (const DiskSweepCell& cell : cells) {
    const DiskProbeResult& median = cell.median;
    nlohmann::json row = {
        {"reader", median.reader},
        {"block_bytes", median.block_bytes},
        {"depth", median.depth},
        {"gb_per_s", median.bytes_per_s / kGb},
        {"low_gb_per_s", cell.low_bytes_per_s / kGb},
        {"high_gb_per_s", cell.high_bytes_per_s / kGb},
        {"p50_latency_us", static_cast<double>(median.p50_latency_ns) / 1e3},
        {"p99_latency_us", static_cast<double>(median.p99_latency_ns) / 1e3},
        {"read_bytes", median.read_bytes},
        {"kernel_read_bytes", nullptr},
        {"note", median.note},
    };
    if (median.kernel_read_bytes) row["kernel_read_bytes"] = *median.kernel_read_bytes;
    rows.push_back(std::move(row));
  }
  return {{"file", file.path()},
          {"file_bytes", file.size_bytes()},
          {"order", is_random ? "random" : "sequential"},
          {"direct", file.is_direct()},
          {"alignment_bytes", file.alignment_bytes()},
          {"disk",
           {{"device", disk.device},
            {"name", disk.name},
            {"model", disk.model},
            {"file_system", disk.file_system}}},
          {"cells", std::move(rows)}};
}

std::string SweepToText(const File& file, const DiskIdentity& disk, bool is_random,
                        const std::vector<DiskSweepCell>& cells) {
  const auto known = [](const std::string& text) { return text.empty() ? "?" : text; };
  std::string text = absl::StrFormat("%s: %s on %s (%s%s%s), %s, alignment %d%s\n", file.path(),
                                     FormatBytes(file.size_bytes()), known(disk.name),
                                     known(disk.file_system), disk.model.empty() ? "" : ", ",
                                     disk.model, file.is_direct() ? "direct" : "buffered",
                                     file.alignment_bytes(), is_random ? ", random blocks" : "");
  absl::StrAppendFormat(&text, "%-8s %10s %6s %8s %17s %9s %10s %10s\n", "reader", "block", "depth",
                        "GB/s", "low-high", "reads/s", "p50 ms", "p99 ms");
  std::set<std::string> notes;
  for (const DiskSweepCell& cell : cells) {
    const DiskProbeResult& median = cell.median;
    const std::string range =
        absl::StrCat(RateText(cell.low_bytes_per_s), "-", RateText(cell.high_bytes_per_s));
    const double reads_per_s = median.bytes_per_s / static_cast<double>(median.block_bytes);
    absl::StrAppendFormat(&text, "%-8s %10s %6d %8s %17s %9.0f %10.2f %10.2f\n", median.reader,
                          FormatBytes(median.block_bytes), median.depth,
                          RateText(median.bytes_per_s), range, reads_per_s,
                          static_cast<double>(median.p50_latency_ns) / 1e6,
                          static_cast<double>(median.p99_latency_ns) / 1e6);
    if (!median.note.empty()) notes.insert(median.note);
  }
  for (const std::string& note : notes) absl::StrAppend(&text, "note: ", note, "\n");
  return text;
}

std::vector<DiskCeiling> BestReadings(const DiskIdentity& disk,
                                      const std::vector<DiskSweepCell>& cells) {
  std::set<std::string> readers;
  for (const DiskSweepCell& cell : cells) readers.insert(cell.median.reader);
  std::vector<DiskCeiling> best;
  for (const std::string& reader : readers) {
    const DiskProbeResult& chosen = BestCell(cells, reader, RingBytes(0))->median;
    best.push_back({.disk = disk,
                    .reader = reader,
                    .block_bytes = chosen.block_bytes,
                    .depth = chosen.depth,
                    .bytes_per_s = chosen.bytes_per_s,
                    .measured_unix_s = std::time(nullptr)});
  }
  return best;
}

absl::Status RunProbeDisk(const ProbeDiskOptions& options) {
  absl::StatusOr<DiskSweepOptions> sweep = MakeSweep(options);
  if (!sweep.ok()) return WithExitCode(ExitCode::kUsage, sweep.status());
  const auto file = File::Open(options.file, FileMode::kDirectOrBuffered);
  if (!file.ok()) return WithExitCode(ExitCode::kBadModel, file.status());
  const absl::StatusOr<DiskIdentity> disk = IdentifyDisk(**file);
  if (!disk.ok()) return WithExitCode(ExitCode::kIo, disk.status());
  absl::StatusOr<OutputFile> json = OutputFile::Open(options.json);
  if (!json.ok()) return WithExitCode(ExitCode::kOutput, json.status());
  std::string note;
  if (options.readers.empty()) sweep->readers = ReadersHere(&note);
  if (!(*file)->is_direct()) {
    absl::StrAppend(&note, note.empty() ? "" : "\n",
                    "Reads are buffered: ", (*file)->buffered_reason(), ".");
  }
  if (!note.empty()) std::fprintf(stderr, "%s\n", note.c_str());
  const absl::StatusOr<std::vector<DiskSweepCell>> cells = MeasureWithProgress(**file, *sweep);
  if (!cells.ok()) return cells.status();
  const bool is_whole = options.blocks.empty() && options.depths.empty();
  std::string kept;
  if (!options.random) {
    kept = KeepCeilings(BestReadings(*disk, *cells), options.save.value_or(is_whole));
  }
  if (options.json != "-") {
    WEIR_RETURN_IF_ERROR(PrintText(SweepToText(**file, *disk, options.random, *cells) + kept));
  }
  if (!json->is_open()) return absl::OkStatus();
  return WriteJson(&*json, SweepToJson(**file, *disk, options.random, *cells));
}

void AddProbeCommand(CLI::App& app, int* exit_code) {
  CLI::App* const probe = app.add_subcommand(
      "probe", "Measure what this machine's links deliver; without more: what was saved of `all`");
  probe->require_subcommand(0, 1);
  AddProbeAllCommand(*probe, exit_code);
  AddProbeDiskCommand(*probe, exit_code);
  AddProbeCpuCommand(*probe, exit_code);
  AddProbeMemoryCommand(*probe, exit_code);
  AddProbeGpuCommand(*probe, exit_code);
  probe->callback([probe, exit_code] {
    if (probe->get_subcommands().empty()) *exit_code = ReportStatus(ShowSavedProfile());
  });
}

void AddProbeDiskCommand(CLI::App& probe, int* exit_code) {
  const auto options = std::make_shared<ProbeDiskOptions>();
  CLI::App* const disk = probe.add_subcommand(
      "disk", "Read a file in place by block size, depth and reader; nothing is written to it");
  disk->add_option("file", options->file, "The file to read; larger than the disk's own cache")
      ->required();
  disk->add_option("--block", options->blocks, "Bytes of each read, such as 256K,1M,4M")
      ->delimiter(',');
  disk->add_option("--depth", options->depths, "Reads in flight, such as 1,8,32")->delimiter(',');
  disk->add_option("--reader", options->readers,
                   "uring, threads or auto; without it, all that work here")
      ->delimiter(',');
  disk->add_option("--seconds", options->seconds, "Time for one combination in one round")
      ->capture_default_str();
  disk->add_option("--rounds", options->rounds, "Visits of each combination; the median is shown")
      ->capture_default_str();
  disk->add_flag(
      "--random", options->random,
      "Random blocks instead of reading on, 4K in depths 1, 4, 16, 64 unless --block and "
      "--depth say otherwise; nothing is saved");
  disk->add_option("--json", options->json, "Write the results as JSON to this file (-: stdout)");
  disk->add_flag(
      "--save,!--no-save", options->save,
      "Save what suits the disk for later runs (default: unless --block or --depth narrow "
      "the choice)");
  disk->callback([options, exit_code] { *exit_code = ReportStatus(RunProbeDisk(*options)); });
}

}  // namespace weir
