#include "tools/cmd_wall.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/hardware_probe.h"
#include "engine/mapped_probe.h"
#include "io/base.h"
#include "tools/exit_codes.h"
#include "tools/model_options.h"
#include "tools/model_path.h"
#include "tools/output_file.h"
#include "tools/prompt.h"
#include "tools/version.h"
#include "tools/wall_arms.h"
#include "tools/wall_extras.h"
#include "tools/wall_journal.h"
#include "tools/wall_passes.h"
#include "tools/wall_report.h"
#include "tools/wall_steps.h"

namespace weir {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kPageReadBytes = 4 * kKiB;
constexpr int64_t kPageProbeNs = 1'000'000'000;
constexpr double kGuessedBytesPerS = 1e9;  // of a disk, before it was measured
constexpr double kGuessedOpsPerS = 150e9;  // of a processor
constexpr double kGuessedOpenS = 1;        // of an engine, with its ceilings
constexpr double kMostCachedShare = 0.01;  // of a file whose pages were dropped
constexpr uint32_t kPasses[] = {1, 2, 4, 16, 64, 256, 1024, 4096};
constexpr uint32_t kShortTokens = 4;
constexpr uint32_t kShortPasses[] = {1, 16, 128};

struct WallOptions {
  ModelOptions model;
  std::string prompt = "The capital of France is";
  uint32_t tokens = 8;
  uint32_t rounds = 5;
  std::vector<uint32_t> passes;  // empty: kPasses that the model's context has room for
  bool is_short = false;
  bool resumes = false;
  std::string text_file;   // --text
  std::string trace_path;  // --trace
  WallExtras extras;
};

std::string ArmKey(size_t arm, uint32_t round) {
  return absl::StrCat("arm ", arm, ", round ", round + 1);
}
std::string PagesKey(uint32_t round) { return absl::StrCat("page by page, round ", round + 1); }
std::string MappedKey(uint32_t round) { return absl::StrCat("mmap, round ", round + 1); }
std::string PassKey(uint32_t tokens) { return absl::StrCat("pass of ", tokens); }

std::string LadderOf(const ChosenDevice& device) {
  switch (device.accelerator.kind) {
    case AcceleratorKind::kNone:
      return "cpu";
    case AcceleratorKind::kEmulated:
      return "emulated";
    case AcceleratorKind::kCuda:
      return absl::StrCat("cuda:", device.accelerator.ordinal);
  }
  WEIR_CHECK(false);
}

class Wall {
 public:
  Wall(const WallOptions& options, const Model& model, ChosenDevice device)
      : options_(options), model_(model), device_(std::move(device)) {}

  absl::StatusOr<WallReport> Run() {
    WEIR_ASSIGN_OR_RETURN(prompt_, EncodePrompt(model_, options_.prompt, "", /*raw=*/true));
    WEIR_ASSIGN_OR_RETURN(arms_,
                          WallArms(model_, options_.model, NeedsOf(prompt_, options_.tokens)));
    const uint32_t most_tokens = options_.passes.back();
    ModelOptions wide = options_.model;
    wide.chunk_tokens = most_tokens;
    WEIR_ASSIGN_OR_RETURN(pass_arms_, WallArms(model_, wide,
                                               {.min_context_tokens = most_tokens + 1,
                                                .prompt_tokens = most_tokens}));
    WEIR_ASSIGN_OR_RETURN(WallJournal journal,
                          WallJournal::Open(JournalPath(), Identity(), options_.resumes));
    const absl::Status measured = Measure(&journal);
    if (!measured.ok()) return WithHint(measured, journal);
    WEIR_RETURN_IF_ERROR(CheckSameTokens());
    WEIR_ASSIGN_OR_RETURN(WallReport report, Describe());
    journal.Remove();
    return report;
  }

  // One more run of the arm that reads ahead.
  absl::StatusOr<std::string> Trace() const {
    WallArmSpec arm = FindArm(arms_, kWallPipelined);
    arm.options.trace_path = options_.trace_path;
    std::string trace;
    WEIR_RETURN_IF_ERROR(MeasureArm(model_, arm, prompt_, options_.tokens, &trace).status());
    return trace;
  }

 private:
  bool IsOnCpu() const { return !device_.accelerator.is_used(); }

  std::string JournalPath() const {
    const std::string folder = UserCacheFolder();
    if (folder.empty()) return "";
    const std::string& path = model_.path;
    return absl::StrCat(folder, "/wall/", path.substr(path.rfind('/') + 1), "-", LadderOf(device_),
                        ".jsonl");
  }

  Json Identity() const {
    uint64_t bytes = 0;
    for (const auto& file : model_.files) bytes += file->size_bytes();
    const DeviceFlags& device = options_.model.device;
    return {{"version", VersionText()},
            {"model", model_.path},
            {"bytes", bytes},
            {"prompt", options_.prompt},
            {"tokens", options_.tokens},
            {"rounds", options_.rounds},
            {"passes", options_.passes},
            {"threads", ThreadsFrom(options_.model)},
            {"isa", options_.model.isa},
            {"ladder", LadderOf(device_)},
            {"skip", options_.extras.skipped},
            {"text", options_.extras.text},
            {"scratch", options_.extras.scratch},
            {"link", {device.link_h2d, device.link_d2h, device.link_latency}}};
  }

  static absl::Status WithHint(const absl::Status& status, const WallJournal& journal) {
    if (journal.path().empty() || !absl::IsCancelled(status)) return status;
    std::fprintf(stderr, "weir: what was measured is kept: --resume goes on from there\n");
    return status;
  }

  absl::Status Measure(WallJournal* journal) {
    std::vector<WallStep> steps;
    for (uint32_t round = 0; round < options_.rounds; ++round) AddRound(round, &steps);
    WallPasses passes(model_, pass_arms_.front(), FindArm(pass_arms_, kWallPipelined),
                      options_.passes.back(), prompt_[0]);
    AddPasses(&passes, &steps);
    WEIR_ASSIGN_OR_RETURN(std::vector<WallStep> extras, ExtraSteps(model_, options_.extras));
    std::move(extras.begin(), extras.end(), std::back_inserter(steps));
    WEIR_ASSIGN_OR_RETURN(values_, RunSteps(steps, journal));
    return absl::OkStatus();
  }

  // Every round begins with another arm: a machine that changes its pace changes it for all.
  void AddRound(uint32_t round, std::vector<WallStep>* steps) {
    const auto weight_bytes = static_cast<double>(model_.index.tensor_bytes());
    for (size_t i = 0; i < arms_.size(); ++i) {
      const size_t arm = (round + i) % arms_.size();
      const double guess_s =
          kGuessedOpenS + (arm == 0 ? 1 : options_.tokens + 1) * weight_bytes / kGuessedBytesPerS;
      steps->push_back({ArmKey(arm, round), absl::StrCat("arm ", arm), guess_s,
                        [this, arm]() -> absl::StatusOr<Json> {
                          WEIR_ASSIGN_OR_RETURN(
                              const WallSample sample,
                              MeasureArm(model_, arms_[arm], prompt_, options_.tokens));
                          return ToJson(sample);
                        }});
    }
    steps->push_back({PagesKey(round), "pages", 1, [this] { return ProbePages(); }});
    if (!IsOnCpu()) return;
    steps->push_back({MappedKey(round), "mmap", weight_bytes / kGuessedBytesPerS,
                      [this] { return MeasureMapped(); }});
  }

  void AddPasses(WallPasses* passes, std::vector<WallStep>* steps) {
    for (const uint32_t tokens : options_.passes) {
      const double pass_s = static_cast<double>(model_.index.tensor_bytes()) *
                            std::max(1 / kGuessedBytesPerS, tokens * 3 / kGuessedOpsPerS);
      const bool is_long = pass_s > kLongPassS;
      steps->push_back(
          {PassKey(tokens), PassKey(tokens), 2 * pass_s * (is_long ? 1 : 1 + options_.rounds),
           [this, passes, tokens]() -> absl::StatusOr<Json> {
             WEIR_ASSIGN_OR_RETURN(const WallPass pass, passes->Measure(tokens, options_.rounds));
             if (tokens == options_.passes.back()) passes->Close();
             return ToJson(pass);
           }});
    }
  }

  // A second of reads of 4 KiB one after the other, which is what a token's bytes are scaled by.
  absl::StatusOr<Json> ProbePages() const {
    DiskProbeOptions probe;
    probe.reader = "threads";
    probe.block_bytes = kPageReadBytes;
    probe.depth = 1;
    probe.limit_ns = kPageProbeNs;
    WEIR_ASSIGN_OR_RETURN(const DiskProbeResult result, ProbeDisk(*model_.files[0], probe));
    return Json(result.bytes_per_s);
  }

  // The rate at which page faults bring a pass's bytes; null where the page cache has them for
  // good.
  absl::StatusOr<Json> MeasureMapped() const {
    WEIR_ASSIGN_OR_RETURN(const PlannedRun run,
                          PlanFromOptions(model_, FindArm(arms_, kWallPipelined).options, {}));
    WEIR_ASSIGN_OR_RETURN(
        const MappedProbeResult result,
        ProbeMapped(model_, run.made.transformer->program(), ThreadsFrom(options_.model)));
    if (result.cached_share > kMostCachedShare) return Json();
    return Json(static_cast<double>(result.bytes) / result.seconds);
  }

  absl::StatusOr<std::vector<WallSample>> SamplesOf(size_t arm) const {
    std::vector<WallSample> samples;
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      WEIR_ASSIGN_OR_RETURN(WallSample sample, WallSampleFrom(values_.at(ArmKey(arm, round))));
      samples.push_back(std::move(sample));
    }
    return samples;
  }

  absl::Status CheckSameTokens() {
    for (size_t arm = 0; arm < arms_.size(); ++arm) {
      WEIR_ASSIGN_OR_RETURN(std::vector<WallSample> samples, SamplesOf(arm));
      samples_.push_back(std::move(samples));
      for (const WallSample& sample : samples_.back()) {
        if (sample.tokens == samples_[0][0].tokens) continue;
        return absl::InternalError(absl::StrCat("the arm '", arms_[arm].name,
                                                "' made other tokens than the resident one"));
      }
    }
    return absl::OkStatus();
  }

  static Spread SpreadOfField(const std::vector<WallSample>& samples, double WallSample::*field) {
    std::vector<double> values;
    values.reserve(samples.size());
    for (const WallSample& sample : samples) values.push_back(sample.*field);
    return SpreadOf(std::move(values));
  }

  absl::StatusOr<WallReport> Describe() const {
    WallReport report;
    report.model = options_.model.model;
    report.ladder = LadderOf(device_);
    report.device = samples_[0][0].device;
    report.weight_bytes = samples_[0][0].weight_bytes;
    report.is_direct = model_.files[0]->is_direct();
    double elements = 0;
    for (const TensorInfo& tensor : model_.index.tensors) {
      elements += static_cast<double>(tensor.rows() * tensor.columns());
    }
    report.parameters =
        report.weight_bytes * elements / static_cast<double>(model_.index.tensor_bytes());
    const std::vector<WallSample>& pipelined =
        samples_[&FindArm(arms_, kWallPipelined) - arms_.data()];
    report.disk_bytes_per_s = SpreadOfField(pipelined, &WallSample::disk_bytes_per_s).median;
    report.link_bytes_per_s = SpreadOfField(pipelined, &WallSample::link_bytes_per_s).median;
    for (size_t i = 0; i < samples_.size(); ++i) {
      report.arms.push_back(DescribeArm(arms_[i].name, samples_[i]));
    }
    DescribeScaled(kWallMapped, MappedKey, &report);
    DescribeScaled(kWallPageByPage, PagesKey, &report);
    for (const uint32_t tokens : options_.passes) {
      WEIR_ASSIGN_OR_RETURN(const WallPass pass, WallPassFrom(values_.at(PassKey(tokens))));
      report.passes.push_back(pass);
    }
    report.sections = ExtraSections(values_);
    return report;
  }

  static WallArm DescribeArm(const std::string& name, const std::vector<WallSample>& samples) {
    const auto median = [&](double WallSample::*field) {
      return SpreadOfField(samples, field).median;
    };
    std::vector<double> errors;
    errors.reserve(samples.size());
    for (const WallSample& sample : samples) {
      errors.push_back(sample.predicted_tokens_per_s / sample.tokens_per_s - 1);
    }
    return {.name = name,
            .tokens_per_s = SpreadOfField(samples, &WallSample::tokens_per_s),
            .bytes_per_token = median(&WallSample::bytes_per_token),
            .link_bytes_per_token = median(&WallSample::link_bytes_per_token),
            .disk_share = median(&WallSample::disk_share),
            .link_share = median(&WallSample::link_share),
            .compute_share = median(&WallSample::compute_share),
            .disk_stall_share = median(&WallSample::disk_stall_share),
            .copy_stall_share = median(&WallSample::copy_stall_share),
            .predicted_tokens_per_s = median(&WallSample::predicted_tokens_per_s),
            .prediction_error = SpreadOf(std::move(errors)).median};
  }

  // A token's bytes at the rate that was found in each round, then its compute; nothing where no
  // rate was found.
  void DescribeScaled(const char* name, std::string (*key)(uint32_t), WallReport* report) const {
    std::vector<double> rates;
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      const auto found = values_.find(key(round));
      if (found != values_.end() && found->second.is_number() && found->second.get<double>() > 0) {
        rates.push_back(found->second.get<double>());
      }
    }
    if (rates.empty()) return;
    const double compute_s = SpreadOfField(samples_.back(), &WallSample::compute_s).median;
    WallArm arm;
    arm.name = name;
    arm.is_scaled = true;
    arm.bytes_per_token = SpreadOfField(samples_.back(), &WallSample::bytes_per_token).median;
    const auto tokens_per_s = [&](double bytes_per_s) {
      return 1 / (arm.bytes_per_token / bytes_per_s + compute_s);
    };
    const Spread rate = SpreadOf(std::move(rates));
    arm.tokens_per_s = {tokens_per_s(rate.median), tokens_per_s(rate.min), tokens_per_s(rate.max)};
    if (report->disk_bytes_per_s > 0) arm.disk_share = rate.median / report->disk_bytes_per_s;
    report->arms.push_back(std::move(arm));
  }

  const WallOptions& options_;
  const Model& model_;
  const ChosenDevice device_;
  std::vector<TokenId> prompt_;
  std::vector<WallArmSpec> arms_;
  std::vector<WallArmSpec> pass_arms_;            // the same, for passes of the most tokens
  std::map<std::string, Json> values_;            // by step
  std::vector<std::vector<WallSample>> samples_;  // by arm and round
};

absl::Status CheckOptions(const WallOptions& options) {
  const auto refuse = [](const std::string& why) {
    return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(why));
  };
  if (options.tokens == 0) return refuse("-n: at least 1 token");
  if (options.rounds == 0) return refuse("-r: at least 1 round");
  for (size_t i = 0; i < options.passes.size(); ++i) {
    if (options.passes[i] == 0 || (i > 0 && options.passes[i] <= options.passes[i - 1])) {
      return refuse("--passes: tokens in ascending order, from 1 on");
    }
  }
  for (const std::string& part : options.extras.skipped) {
    const auto end = std::end(kWallExtraParts);
    if (std::find(std::begin(kWallExtraParts), end, part) == end) {
      return refuse(absl::StrCat("--skip ", part, ": no part is called so; there are ",
                                 "hierarchy, training, levers and precision"));
    }
  }
  const auto skips = [&](const char* part) { return IsSkipped(options.extras, part); };
  if (!options.text_file.empty() && skips("precision")) {
    return refuse("--text: only the precision ladder takes it. Leave it out of --skip");
  }
  if (!options.extras.scratch.empty() && skips("precision") && skips("training")) {
    return refuse("--scratch: only training and precision write there. Leave one out of --skip");
  }
  return absl::OkStatus();
}

absl::Status FillPasses(uint32_t context_tokens, WallOptions* options) {
  if (!options->passes.empty()) {
    if (options->passes.back() < context_tokens) return absl::OkStatus();
    return WithExitCode(ExitCode::kContext,
                        absl::OutOfRangeError(absl::StrCat(
                            "--passes: a pass of ", options->passes.back(),
                            " tokens does not fit into the model's context of ", context_tokens)));
  }
  const auto take = [&](absl::Span<const uint32_t> passes) {
    std::copy_if(passes.begin(), passes.end(), std::back_inserter(options->passes),
                 [&](uint32_t tokens) { return tokens < context_tokens; });
  };
  options->is_short ? take(kShortPasses) : take(kPasses);
  return absl::OkStatus();
}

absl::Status RunWall(WallOptions options) {
  WEIR_RETURN_IF_ERROR(CheckOptions(options));
  if (options.is_short) {
    options.rounds = 1;
    options.tokens = kShortTokens;
    options.extras.skipped.assign(std::begin(kWallExtraParts), std::end(kWallExtraParts));
  }
  WEIR_ASSIGN_OR_RETURN(ChosenDevice device,
                        ChooseDevice(options.model.device, PlanFor::kAny, &ListCudaDevices));
  if (!device.note.empty()) std::fprintf(stderr, "weir: %s\n", device.note.c_str());
  options.model.device.device = LadderOf(device);
  options.model.is_quiet = true;  // every arm would say the same
  if (!options.text_file.empty()) {
    WEIR_ASSIGN_OR_RETURN(options.extras.text, ReadTextFile(options.text_file));
  }
  options.extras.base = options.model;
  options.extras.prompt = options.prompt;
  options.extras.tokens = options.tokens;
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.model.json_path));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options.model));
  WEIR_RETURN_IF_ERROR(FillPasses(model->config.context_length, &options));
  WEIR_ASSIGN_OR_RETURN(OutputFile trace, OutputFile::Open(options.trace_path));
  Wall wall(options, *model, std::move(device));
  WEIR_ASSIGN_OR_RETURN(const WallReport report, wall.Run());
  if (trace.is_open()) {
    WEIR_ASSIGN_OR_RETURN(const std::string text, wall.Trace());
    WEIR_RETURN_IF_ERROR(WriteWhole(&trace, text));
  }
  if (options.model.json_path != "-") std::fputs(WallToText(report).c_str(), stdout);
  if (!json.is_open()) return absl::OkStatus();
  return WriteWhole(&json, WallToJson(report).dump(1) + "\n");
}

}  // namespace

void AddWallCommand(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<WallOptions>();
  CLI::App* const wall = app.add_subcommand(
      "wall", "what it costs that parameters lie on disk, measured against a resident run");
  wall->add_option("model", options->model.model, "GGUF file, or the name of a fetched model")
      ->required();
  wall->add_option("-p,--prompt", options->prompt, "what is continued")->capture_default_str();
  CLI::Option* const tokens =
      wall->add_option("-n,--tokens", options->tokens, "tokens of each arm in a round")
          ->capture_default_str();
  CLI::Option* const rounds =
      wall->add_option("-r,--rounds", options->rounds, "rounds; medians are shown")
          ->capture_default_str();
  wall->add_option("--passes", options->passes,
                   "tokens in a pass, such as 1,64,512 (default: up to 4096, as far as the model's "
                   "context goes)")
      ->delimiter(',');
  CLI::Option* const skip =
      wall->add_option("--skip", options->extras.skipped,
                       "parts to leave out: hierarchy (weir probe all), training (a step's traffic "
                       "through a scratch file), levers (attention, KV cache, recomputing), "
                       "precision (the model in other formats, written to scratch files)")
          ->delimiter(',');
  CLI::Option* const scratch =
      wall->add_option("--scratch", options->extras.scratch,
                       "folder on a disk for scratch files; nothing stays there");
  CLI::Option* const text =
      wall->add_option("--text", options->text_file,
                       "a text whose perplexity tells formats apart (default: a short one)");
  CLI::Option* const is_short =
      wall->add_flag("--short", options->is_short,
                     "4 tokens, one round and three passes; none of the parts that --skip names");
  for (CLI::Option* const other : {tokens, rounds, skip, scratch, text}) is_short->excludes(other);
  wall->add_flag("--resume", options->resumes,
                 "go on where the same command was interrupted, from its journal in the user's "
                 "folder for such files");
  wall->add_option("-t,--threads", options->model.threads,
                   "compute threads (0: one for each core that the process may use)");
  wall->add_option("--isa", options->model.isa,
                   "kernels for this instruction set instead of the best one");
  DeviceFlags* const device = &options->model.device;
  wall->add_option("--device", device->device,
                   "auto (default: cuda:0 if there is one, else the CPU), cpu, cuda:N, or emulated "
                   "(the CPU poses as an accelerator)");
  wall->add_option("--link-h2d", device->link_h2d, "emulated: rate of the link");
  wall->add_option("--link-d2h", device->link_d2h, "emulated: and back (default: as --link-h2d)");
  wall->add_option("--link-latency", device->link_latency, "emulated: latency of the link");
  wall->add_option("--json", options->model.json_path,
                   "write the result here as JSON (- for standard output); tools/plot draws it");
  wall->add_option("--trace", options->trace_path,
                   "write a trace for Perfetto here, of the arm that is on disk and reads ahead");
  wall->callback([options, exit_code] { *exit_code = ReportStatus(RunWall(*options)); });
}

}  // namespace weir
