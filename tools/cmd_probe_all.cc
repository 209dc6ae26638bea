#include "tools/cmd_probe_all.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <system_error>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/planner.h"
#include "io/base.h"
#include "io/system_files.h"
#include "tools/device_options.h"
#include "tools/disk_ceiling.h"
#include "tools/exit_codes.h"
#include "tools/hierarchy_claims.h"
#include "tools/hierarchy_report.h"
#include "tools/interrupt.h"
#include "tools/model_path.h"
#include "tools/output_file.h"
#include "tools/probe_parts.h"
#include "tools/progress.h"

namespace weir {
namespace {

constexpr double kMostSeconds = 3600;
// Shares of the time, and what setting up takes beside it.
constexpr double kCpuShare = 0.30, kMemoryShare = 0.05, kRemoteShare = 0.05, kDiskShare = 0.40;
constexpr double kGpuShare = 0.20;
constexpr double kCpuSetUpS = 3, kMemorySetUpS = 0.5, kGpuSetUpS = 3;
constexpr double kCpuCells = 60;  // of a machine with three caches, in one round
constexpr int64_t kLeastCellNs = 1'000'000;
constexpr uint64_t kSmallReadBytes = 4 * kKiB;
constexpr uint64_t kSmallCopyBytes = 4 * kKiB;
constexpr char kMostCopy[] = "64MiB";
// Below that a disk's own cache, or its host's, may hold the file.
constexpr uint64_t kSmallFileBytes = 1 * kGiB;

int64_t CellNs(double seconds) {
  return std::max(kLeastCellNs, static_cast<int64_t>(std::llround(seconds * 1e9)));
}

std::string ProfilePath() {
  const std::string folder = UserCacheFolder();
  return folder.empty() ? "" : absl::StrCat(folder, "/machine.json");
}

// One line of progress over parts of different lengths.
class Parts {
 public:
  Parts(double total_s, bool is_quiet) : total_s_(total_s), is_quiet_(is_quiet), line_("probing") {}

  void Begin(double expected_s) {
    done_s_ += part_s_;
    part_s_ = expected_s;
  }
  bool Tell(double share) {
    const double done_s = done_s_ + part_s_ * std::min(1.0, share);
    if (!is_quiet_) line_.Update(std::min(1.0, done_s / total_s_), 0);
    return !Interrupted();
  }
  void Finish() { line_.Finish(); }

 private:
  const double total_s_;
  const bool is_quiet_;
  double done_s_ = 0, part_s_ = 0;
  ProgressLine line_;
};

nlohmann::json BufferedToJson(const BufferedReads& reads) {
  nlohmann::json json = WithRate({{"read_bytes", reads.read_bytes},
                                  {"kernel_read_bytes", nullptr},
                                  {"cached_share", reads.cached_share}},
                                 reads.rate);
  if (reads.kernel_read_bytes) json["kernel_read_bytes"] = *reads.kernel_read_bytes;
  return json;
}

// What the command was given, checked; a file and a device where there are some.
struct Inputs {
  ProbeAllTimes times;
  std::unique_ptr<File> file;
  DiskIdentity disk;
  std::vector<CudaDeviceInfo> gpus;
  std::string no_gpu;  // why there is none to measure, in few words
  std::string no_gpu_details;
  ProbeGpuOptions gpu;    // where there is one
  std::string pci_bus;    // of a GPU that is measured
  bool is_whole = false;  // nothing of the machine was left out
};

absl::Status OpenFile(const ProbeAllOptions& options, Inputs* inputs) {
  std::string path = options.file.empty() ? DefaultProbeFile() : options.file;
  if (path.empty()) return absl::OkStatus();
  if (!options.file.empty()) {
    WEIR_ASSIGN_OR_RETURN(path, ResolveModel(options.file));
  }
  absl::StatusOr<std::unique_ptr<File>> file = File::Open(path, FileMode::kDirectOrBuffered);
  if (!file.ok()) return WithExitCode(ExitCode::kBadModel, file.status());
  if ((*file)->size_bytes() == 0) {
    return WithExitCode(ExitCode::kBadModel, absl::InvalidArgumentError(absl::StrCat(
                                                 path, " is empty: there is nothing to read")));
  }
  absl::StatusOr<DiskIdentity> disk = IdentifyDisk(**file);
  if (!disk.ok()) return WithExitCode(ExitCode::kIo, disk.status());
  inputs->file = *std::move(file);
  inputs->disk = *std::move(disk);
  return absl::OkStatus();
}

absl::Status ChooseGpu(const ProbeAllOptions& options, Inputs* inputs) {
  absl::StatusOr<std::vector<CudaDeviceInfo>> gpus = ListCudaDevices();
  if (gpus.ok()) inputs->gpus = *gpus;
  DeviceFlags flags;
  flags.device = options.device;
  if (flags.device == "auto") {
    flags.device = inputs->gpus.empty() ? "cpu" : absl::StrCat("cuda:", inputs->gpus[0].ordinal);
  }
  WEIR_ASSIGN_OR_RETURN(const ChosenDevice chosen,
                        ChooseDevice(flags, PlanFor::kAny, [&] { return gpus; }));
  if (!chosen.accelerator.is_used()) {
    inputs->no_gpu = options.device == "cpu" ? "left out: --device cpu" : "no GPU";
    if (!gpus.ok()) inputs->no_gpu_details = std::string(gpus.status().message());
  }
  for (const CudaDeviceInfo& gpu : inputs->gpus) {
    if (chosen.accelerator.kind == AcceleratorKind::kCuda &&
        gpu.ordinal == chosen.accelerator.ordinal) {
      inputs->pci_bus = gpu.pci_bus;
    }
  }
  inputs->gpu.device = flags;
  inputs->gpu.max_copy = kMostCopy;
  inputs->gpu.seconds = inputs->times.gpu_s;
  inputs->gpu.rounds = options.rounds;
  inputs->is_whole = options.device != "cpu" && options.device != "emulated";
  return absl::OkStatus();
}

// Measures one part after the other. Statuses carry exit codes.
class Machine {
 public:
  Machine(const ProbeAllOptions& options, Inputs inputs)
      : options_(options), inputs_(std::move(inputs)), parts_(TotalS(), options.is_quiet) {}

  absl::StatusOr<MachineProbe> Run() {
    absl::Status status = Measure();
    parts_.Finish();
    if (!status.ok()) return status;
    RelateToL1(found_.cpu.hierarchy.clock_hz, &found_.rows);
    return std::move(found_);
  }

  // What of the sequential reads suits the disk; empty where nothing was read or accepted.
  const std::vector<DiskCeiling>& best() const { return best_; }

 private:
  double TotalS() {
    choice_ = ChooseNodes(UsableThreads());
    const double t = options_.seconds;
    return t * (kCpuShare + kMemoryShare) + kCpuSetUpS + kMemorySetUpS +
           (choice_.pair ? t * kRemoteShare : 0) + (inputs_.file != nullptr ? t * kDiskShare : 0) +
           (inputs_.no_gpu.empty() ? t * kGpuShare + kGpuSetUpS : 0);
  }

  absl::Status Measure() {
    found_.machine = IdentifyMachine();
    found_.machine.devices = DescribeGpus(inputs_.gpus);
    found_.machine.disk = inputs_.disk;
    WEIR_RETURN_IF_ERROR(MeasureCores());
    WEIR_RETURN_IF_ERROR(MeasureRemote());
    WEIR_RETURN_IF_ERROR(MeasureFile());
    return MeasureDevice();
  }

  std::function<bool(double)> Tell() {
    return [this](double share) { return parts_.Tell(share); };
  }

  absl::Status MeasureCores() {
    parts_.Begin(options_.seconds * kCpuShare + kCpuSetUpS);
    absl::StatusOr<CpuProbe> cpu = MeasureCpu(inputs_.times.cpu, Tell());
    if (!cpu.ok()) return WithProbeExitCode(ExitCode::kBudget, cpu.status());
    found_.cpu = *std::move(cpu);
    found_.rows = CpuRows(found_.cpu.hierarchy);
    AddMissingLevels(&found_.rows);
    parts_.Begin(options_.seconds * kMemoryShare + kMemorySetUpS);
    ProbeMemoryOptions memory;
    memory.rounds = options_.rounds;
    absl::StatusOr<MemoryProbe> made = MakeMemoryProbe(memory, LastLevelCacheBytes());
    if (!made.ok()) return WithExitCode(ExitCode::kInternal, made.status());
    made->round_ns = inputs_.times.memory_round_ns;
    const absl::Status measured = weir::MeasureMemory(Tell(), &*made);
    if (!measured.ok()) return WithProbeExitCode(ExitCode::kBudget, measured);
    found_.memory = *std::move(made);
    return absl::OkStatus();
  }

  absl::Status MeasureRemote() {
    if (!choice_.pair) {
      found_.rows.push_back(NoRemoteRow(choice_.missing));
      return absl::OkStatus();
    }
    parts_.Begin(options_.seconds * kRemoteShare);
    NodeMemoryProbe remote = inputs_.times.remote;
    const MemoryLevel& dram = found_.cpu.hierarchy.levels.back();
    remote.bytes = dram.plan.probe_bytes;
    const absl::StatusOr<NodeMemoryFigures> figures =
        ProbeNodeMemory(*choice_.pair, remote, [this] { return parts_.Tell(0); });
    if (absl::IsCancelled(figures.status())) return CheckInterrupted();
    found_.rows.push_back(figures.ok() ? RemoteRow(choice_, *figures, dram.one_core[0])
                                       : NoRemoteRow(std::string(figures.status().message())));
    return absl::OkStatus();
  }

  absl::Status MeasureFile() {
    if (inputs_.file == nullptr) {
      Append(NoDiskRows("no file to read. Give one: weir probe all FILE"));
      return absl::OkStatus();
    }
    const File& file = *inputs_.file;
    const double part_s = options_.seconds * kDiskShare;
    DiskLevels levels;
    levels.buffered_reason = file.buffered_reason();
    levels.link = DiskLink(inputs_.disk.device);
    if (file.is_direct()) {
      WEIR_ASSIGN_OR_RETURN(levels.sequential, Sweep(inputs_.times.sequential, 0.75 * part_s));
      WEIR_ASSIGN_OR_RETURN(levels.random, Sweep(inputs_.times.random, 0.12 * part_s));
    }
    parts_.Begin(0.13 * part_s);
    levels.buffered =
        ProbeBuffered(file.path(), inputs_.times.buffered, [this] { return parts_.Tell(0.5); });
    if (absl::IsCancelled(levels.buffered.status())) return CheckInterrupted();
    if (!levels.buffered.ok()) return WithExitCode(ExitCode::kIo, levels.buffered.status());
    const RateSpread& dram = found_.cpu.hierarchy.levels.back().all_cores[0];
    Append(DiskRows(levels, dram));
    if (file.size_bytes() < kSmallFileBytes) {
      HierarchyRow& row = *std::find_if(found_.rows.begin(), found_.rows.end(),
                                        [](const auto& r) { return r.level == kDiskLevel; });
      absl::StrAppend(&row.note, row.note.empty() ? "" : "; ", "a file of ",
                      FormatBytes(file.size_bytes()),
                      ", which a cache of the disk or its host may hold");
    }
    std::string refused;
    best_ =
        BestReadings(inputs_.disk, AcceptedCells(levels.sequential, levels.link, dram, &refused));
    found_.disk = {{"sequential", SweepToJson(file, inputs_.disk, false, levels.sequential)},
                   {"random", SweepToJson(file, inputs_.disk, true, levels.random)},
                   {"buffered",
                    {{"block_bytes", levels.buffered->block_bytes},
                     {"cold", BufferedToJson(levels.buffered->cold)},
                     {"hot", BufferedToJson(levels.buffered->hot)}}}};
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<DiskSweepCell>> Sweep(const DiskSweepOptions& sweep, double part_s) {
    parts_.Begin(part_s);
    absl::StatusOr<std::vector<DiskSweepCell>> cells =
        SweepDisk(*inputs_.file, sweep, [this](int done, int total, const DiskProbeResult&) {
          return parts_.Tell(static_cast<double>(done) / total);
        });
    if (!cells.ok()) return WithProbeExitCode(ExitCode::kIo, cells.status());
    return cells;
  }

  absl::Status MeasureDevice() {
    if (!inputs_.no_gpu.empty()) {
      Append(NoGpuRows(inputs_.no_gpu, inputs_.no_gpu_details));
      return absl::OkStatus();
    }
    parts_.Begin(options_.seconds * kGpuShare + kGpuSetUpS);
    absl::StatusOr<DeviceProbeOptions> made = MakeDeviceProbe(inputs_.gpu);
    if (!made.ok()) return WithExitCode(ExitCode::kInternal, made.status());
    made->copy_bytes.insert(made->copy_bytes.begin(), kSmallCopyBytes);
    WEIR_ASSIGN_OR_RETURN(const GpuProbe probe, MeasureGpu(inputs_.gpu.device, *made, Tell()));
    Append(GpuRows(probe, inputs_.pci_bus.empty() ? std::nullopt : GpuLink(inputs_.pci_bus)));
    found_.gpu = GpuProbeToJson(probe);
    return absl::OkStatus();
  }

  void Append(std::vector<HierarchyRow> rows) {
    for (HierarchyRow& row : rows) found_.rows.push_back(std::move(row));
  }

  const ProbeAllOptions& options_;
  const Inputs inputs_;
  NodeChoice choice_;
  Parts parts_;
  MachineProbe found_;
  std::vector<DiskCeiling> best_;
};

// Saves profile and ceilings; sentences to print.
std::string Keep(const MachineProbe& probe, const std::vector<DiskCeiling>& best,
                 const ProbeAllOptions& options, bool is_whole) {
  const std::string path = options.no_save ? "" : ProfilePath();
  if (!path.empty()) {
    std::error_code error;  // saving tells of it
    std::filesystem::create_directories(UserCacheFolder(), error);
  }
  std::string text = KeepCeilings(best, !path.empty());
  if (path.empty()) return text;
  if (!is_whole) {
    return absl::StrCat(text, "the table is not saved: --device ", options.device,
                        " leaves out what this machine has\n");
  }
  const absl::Status stored =
      StoreProfile(path, {probe.machine, probe.rows, static_cast<int64_t>(std::time(nullptr))});
  return absl::StrCat(
      text, stored.ok()
                ? "the table is saved; `weir probe` shows it\n"
                : absl::StrCat("the table is not saved: ", std::string(stored.message()), "\n"));
}

std::string TimeText(int64_t unix_s) {
  const std::time_t time = unix_s;
  std::tm parts = {};
  if (gmtime_r(&time, &parts) == nullptr) return "at an unknown time";
  char text[64];
  const size_t length = std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &parts);
  return std::string(text, length);
}

}  // namespace

absl::StatusOr<ProbeAllTimes> MakeProbeAllTimes(const ProbeAllOptions& options) {
  WEIR_RETURN_IF_ERROR(CheckProbeTimes(options.seconds, kMostSeconds, options.rounds));
  const double round_s = options.seconds / options.rounds;
  ProbeAllTimes times;
  times.cpu.cell_ns = CellNs(round_s * kCpuShare / kCpuCells);
  times.cpu.rounds = options.rounds;
  times.remote.cell_ns = CellNs(round_s * kRemoteShare / 2);
  times.remote.rounds = options.rounds;
  times.memory_round_ns = CellNs(round_s * kMemoryShare);
  DiskSweepOptions& sequential = times.sequential;
  const auto cells = static_cast<double>(sequential.block_bytes.size() * sequential.depths.size());
  // Two kinds of small reads, and cold ones.
  sequential.cell_ns = CellNs(round_s * kDiskShare / (cells + 4));
  sequential.rounds = options.rounds;
  sequential.footprint_bytes = RingBytes(0);
  times.random = sequential;
  times.random.block_bytes = {kSmallReadBytes};
  times.random.depths = {1, kDeepReads};
  times.random.is_random = true;
  times.buffered.limit_ns = sequential.cell_ns;
  times.buffered.rounds = options.rounds;
  times.gpu_s = options.seconds * kGpuShare;
  return times;
}

nlohmann::json MachineProbeToJson(const MachineProbe& probe) {
  return {{"machine", IdentityToJson(probe.machine)},
          {"table", RowsToJson(probe.rows)},
          {"claims", VerdictsToJson(JudgeRows(probe.rows))},
          {"cpu", CpuProbeToJson(probe.cpu)},
          {"memory", MemoryProbeToJson(probe.memory)},
          {"disk", probe.disk},
          {"gpu", probe.gpu}};
}

std::string MachineProbeToText(const MachineProbe& probe) {
  return absl::StrCat(IdentityToText(probe.machine), "\n\n", RowsToText(probe.rows),
                      MemoryProbeToText(probe.memory), PeaksToText(probe.cpu), "\n",
                      VerdictsToText(JudgeRows(probe.rows)));
}

std::string DefaultProbeFile() {
  std::error_code error;
  std::filesystem::directory_iterator entry(UserCacheFolder() + "/models", error);
  std::string largest;
  uintmax_t most_bytes = 0;
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::error_code unknown;
    const uintmax_t bytes = entry->is_regular_file(unknown) ? entry->file_size(unknown) : 0;
    if (unknown || entry->path().extension() != ".gguf" || bytes <= most_bytes) continue;
    largest = entry->path().string();
    most_bytes = bytes;
  }
  return largest;
}

absl::StatusOr<MachineProbe> MeasureMachine(const ProbeAllOptions& options, bool* is_whole,
                                            std::vector<DiskCeiling>* best) {
  Inputs inputs;
  absl::StatusOr<ProbeAllTimes> times = MakeProbeAllTimes(options);
  if (!times.ok()) return WithExitCode(ExitCode::kUsage, times.status());
  inputs.times = *std::move(times);
  WEIR_RETURN_IF_ERROR(OpenFile(options, &inputs));
  WEIR_RETURN_IF_ERROR(ChooseGpu(options, &inputs));
  CatchInterrupts();
  if (is_whole != nullptr) *is_whole = inputs.is_whole;
  Machine machine(options, std::move(inputs));
  WEIR_ASSIGN_OR_RETURN(MachineProbe probe, machine.Run());
  if (best != nullptr) *best = machine.best();
  return probe;
}

absl::Status RunProbeAll(const ProbeAllOptions& options) {
  absl::StatusOr<OutputFile> json = OutputFile::Open(options.json);
  if (!json.ok()) return WithExitCode(ExitCode::kOutput, json.status());
  bool is_whole = false;
  std::vector<DiskCeiling> best;
  WEIR_ASSIGN_OR_RETURN(const MachineProbe probe, MeasureMachine(options, &is_whole, &best));
  const std::string kept = Keep(probe, best, options, is_whole);
  if (options.json != "-") WEIR_RETURN_IF_ERROR(PrintText(MachineProbeToText(probe) + "\n" + kept));
  if (!json->is_open()) return absl::OkStatus();
  return WriteWhole(&*json, MachineProbeToJson(probe).dump(
                                2, ' ', false, nlohmann::json::error_handler_t::replace) +
                                "\n");
}

absl::Status ShowSavedProfile() {
  constexpr char kHow[] = "`weir probe all` measures this machine and saves it\n";
  const std::string path = ProfilePath();
  MachineIdentity now = IdentifyMachine();
  const absl::StatusOr<std::vector<CudaDeviceInfo>> gpus = ListCudaDevices();
  if (gpus.ok()) now.devices = DescribeGpus(*gpus);
  const std::string text = path.empty() ? "" : ReadSystemFile(path).value_or("");
  const SavedProfile old = ParseProfile(text, path);
  if (old.profile && old.profile->machine.disk != DiskIdentity()) {
    now.disk = DescribeDevice(old.profile->machine.disk.device, "");
  }
  const SavedProfile saved = path.empty() ? SavedProfile() : LoadProfile(path, now);
  if (!saved.profile) {
    const std::string why =
        saved.note.empty() ? "No profile of this machine is saved." : saved.note;
    return PrintText(absl::StrCat(why, "\n", kHow));
  }
  return PrintText(absl::StrCat(IdentityToText(saved.profile->machine), "\nmeasured ",
                                TimeText(saved.profile->measured_unix_s), "\n\n",
                                RowsToText(saved.profile->rows), "\n",
                                VerdictsToText(JudgeRows(saved.profile->rows))));
}

void AddProbeAllCommand(CLI::App& probe, int* exit_code) {
  const auto options = std::make_shared<ProbeAllOptions>();
  CLI::App* const all = probe.add_subcommand(
      "all", "Every level in one table, from the first cache to the disk and a GPU; saved");
  all->add_option("file", options->file,
                  "The file to read, or a model's name; larger than the disk's own cache (default: "
                  "the largest model that tools/fetch_model has fetched)");
  all->add_option("--device", options->device,
                  "auto (the first GPU), cpu (none), cuda:N, or emulated: a modelled link")
      ->capture_default_str();
  all->add_option("--seconds", options->seconds, "Time of all measuring, about; setting up is more")
      ->capture_default_str();
  all->add_option("--rounds", options->rounds, "Visits of each measurement; the median is shown")
      ->capture_default_str();
  all->add_option("--json", options->json, "Write the results as JSON to this file (-: stdout)");
  all->add_flag("--no-save", options->no_save,
                "Save neither the table nor what suits the disk for later runs");
  all->callback([options, exit_code] { *exit_code = ReportStatus(RunProbeAll(*options)); });
}

}  // namespace weir
