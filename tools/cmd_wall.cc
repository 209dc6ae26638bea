#include "tools/cmd_wall.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "engine/hardware_probe.h"
#include "engine/sampler.h"
#include "io/base.h"
#include "io/clock.h"
#include "tools/exit_codes.h"
#include "tools/generate.h"
#include "tools/interrupt.h"
#include "tools/model_options.h"
#include "tools/open_engine.h"
#include "tools/output_file.h"
#include "tools/planned_run.h"
#include "tools/progress.h"
#include "tools/prompt.h"
#include "tools/wall_report.h"

namespace weir {
namespace {

constexpr char kPageByPage[] = "on disk, page by page";
constexpr uint64_t kPageReadBytes = 4 * kKiB;
constexpr int64_t kPageProbeNs = 1'000'000'000;

struct WallOptions {
  ModelOptions model;
  std::string prompt = "The capital of France is";
  uint32_t tokens = 8;
  uint32_t rounds = 5;
  std::vector<uint32_t> passes = {1, 4, 16, 64, 256, 512};
  bool is_short = false;
};

// Where the parameters are in one arm, and how they are read.
struct ArmSpec {
  const char* name;
  const char* resident;
  bool reads_ahead;
};
constexpr ArmSpec kResidentArm = {kWallResident, "100%", true};
constexpr ArmSpec kPipelinedArm = {kWallPipelined, "0%", true};
constexpr ArmSpec kArms[] = {kResidentArm,
                             {"half on disk", "50%", true},
                             {"3/4 on disk", "25%", true},
                             kPipelinedArm,
                             {kWallLiteral, "0%", false}};

ModelOptions OptionsOf(const WallOptions& options, const ArmSpec& arm) {
  ModelOptions model = options.model;
  model.resident = arm.resident;
  if (!arm.reads_ahead) {
    model.read_ahead = "off";
    model.read_depth = 1;
  }
  return model;
}

// An engine of one arm, with the ceilings of its prediction.
struct Opened {
  PlannedRun run;
  std::unique_ptr<Engine> engine;
};

absl::StatusOr<Opened> Open(const Model& model, const ModelOptions& options,
                            const ContextNeeds& needs, bool measures) {
  WEIR_ASSIGN_OR_RETURN(PlannedRun run, PlanFromOptions(model, options, needs));
  if (measures) WEIR_RETURN_IF_ERROR(MeasureCompute(model, options, &run));
  WEIR_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, OpenEngine(model, &run, options));
  if (measures) WEIR_RETURN_IF_ERROR(MeasureLinksOf(*engine, model, options, &run.ceilings));
  return Opened{std::move(run), std::move(engine)};
}

// What one round found of one arm.
struct Sample {
  std::vector<TokenId> tokens;
  double tokens_per_s = 0;
  double predicted_tokens_per_s = 0;
  double bytes_per_token = 0;
  double disk_share = 0;
  double compute_share = 0;
  double stall_share = 0;
  double disk_bytes_per_s = 0;  // the ceiling
  double compute_s = 0;         // of a pass, as rehearsed
};

class Wall {
 public:
  Wall(const WallOptions& options, const Model& model) : options_(options), model_(model) {}

  absl::StatusOr<WallReport> Run() {
    WEIR_ASSIGN_OR_RETURN(prompt_, EncodePrompt(model_, options_.prompt, "", /*raw=*/true));
    samples_.resize(std::size(kArms));
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      // Every round begins with another arm: a machine that changes its pace changes it for all.
      for (size_t i = 0; i < std::size(kArms); ++i) {
        WEIR_RETURN_IF_ERROR(RunArm((round + i) % std::size(kArms)));
      }
      WEIR_RETURN_IF_ERROR(ProbePages());
    }
    WEIR_RETURN_IF_ERROR(CheckSameTokens());
    Describe();
    if (!options_.passes.empty()) WEIR_RETURN_IF_ERROR(MeasurePasses());
    line_.Finish();
    return std::move(report_);
  }

 private:
  absl::Status RunArm(size_t arm) {
    const ModelOptions options = OptionsOf(options_, kArms[arm]);
    const auto prompt_tokens = static_cast<uint32_t>(prompt_.size());
    const ContextNeeds needs = {.min_context_tokens = prompt_tokens + options_.tokens + 1,
                                .prompt_tokens = prompt_tokens,
                                .position = prompt_tokens + options_.tokens / 2};
    WEIR_ASSIGN_OR_RETURN(Opened opened, Open(model_, options, needs, /*measures=*/true));
    Engine& engine = *opened.engine;
    const std::unique_ptr<Session> session = engine.NewSession();
    Sampler sampler({.temperature = 0}, model_.config.vocabulary);
    std::optional<SchedulerStats> at_first;
    WEIR_ASSIGN_OR_RETURN(
        const Generation made,
        Generate(engine, *session, sampler, *model_.tokenizer, prompt_,
                 {.max_tokens = options_.tokens + 1, .ignore_end = true}, [&](TokenId) {
                   if (!at_first.has_value()) at_first = engine.stats().scheduler;
                   return absl::OkStatus();
                 }));
    if (made.stop == Generation::Stop::kInterrupted) {
      return WithExitCode(InterruptExitCode(), absl::CancelledError("interrupted"));
    }
    samples_[arm].push_back(SampleOf(opened, made, *at_first));
    if (report_.device.empty()) {
      report_.device = engine.device_name();
      report_.weight_bytes = engine.program().payload_bytes();
    }
    return Tell();
  }

  static Sample SampleOf(const Opened& opened, const Generation& made,
                         const SchedulerStats& before) {
    const Engine& engine = *opened.engine;
    const SchedulerStats after = engine.stats().scheduler;
    const double ns = 1e9 * std::max(made.decode_s, 1e-9);
    const Ceilings& ceilings = opened.run.ceilings;
    const Prediction predicted = PredictPlan(engine.program(), engine.plan(), ceilings);
    Sample sample;
    sample.tokens = made.tokens;
    sample.tokens_per_s = made.decode_tokens_per_s();
    sample.predicted_tokens_per_s = predicted.decode_tokens_per_s;
    sample.bytes_per_token = static_cast<double>(made.decode_read_bytes) /
                             static_cast<double>(std::max<uint64_t>(1, made.decode_passes));
    sample.disk_bytes_per_s = ceilings.disk_bytes_per_s;
    if (ceilings.disk_bytes_per_s > 0) {
      sample.disk_share = made.decode_read_bytes_per_s() / ceilings.disk_bytes_per_s;
    }
    sample.compute_share = static_cast<double>(after.compute_ns - before.compute_ns) / ns;
    sample.stall_share = static_cast<double>(after.disk_stall_ns - before.disk_stall_ns) / ns;
    sample.compute_s = predicted.compute_s;
    return sample;
  }

  // A second of reads of 4 KiB one after the other, which is what a token's bytes are scaled by.
  absl::Status ProbePages() {
    DiskProbeOptions probe;
    probe.reader = "threads";
    probe.block_bytes = kPageReadBytes;
    probe.depth = 1;
    probe.limit_ns = kPageProbeNs;
    WEIR_ASSIGN_OR_RETURN(const DiskProbeResult result, ProbeDisk(*model_.files[0], probe));
    page_bytes_per_s_.push_back(result.bytes_per_s);
    return Tell();
  }

  absl::Status CheckSameTokens() const {
    const std::vector<TokenId>& expected = samples_[0][0].tokens;
    for (size_t arm = 0; arm < samples_.size(); ++arm) {
      for (const Sample& sample : samples_[arm]) {
        if (sample.tokens == expected) continue;
        return absl::InternalError(absl::StrCat("the arm '", kArms[arm].name,
                                                "' made other tokens than the resident one"));
      }
    }
    return absl::OkStatus();
  }

  static Spread SpreadOfField(const std::vector<Sample>& samples, double Sample::*field) {
    std::vector<double> values;
    values.reserve(samples.size());
    for (const Sample& sample : samples) values.push_back(sample.*field);
    return SpreadOf(std::move(values));
  }

  void Describe() {
    report_.model = model_.path;
    report_.is_direct = model_.files[0]->is_direct();
    const auto all_bytes = static_cast<double>(model_.index.tensor_bytes());
    double elements = 0;
    for (const TensorInfo& tensor : model_.index.tensors) {
      elements += static_cast<double>(tensor.rows() * tensor.columns());
    }
    report_.parameters = static_cast<double>(report_.weight_bytes) * elements / all_bytes;
    for (size_t i = 0; i < samples_.size(); ++i) {
      WallArm arm;
      arm.name = kArms[i].name;
      arm.tokens_per_s = SpreadOfField(samples_[i], &Sample::tokens_per_s);
      arm.bytes_per_token = SpreadOfField(samples_[i], &Sample::bytes_per_token).median;
      arm.disk_share = SpreadOfField(samples_[i], &Sample::disk_share).median;
      arm.compute_share = SpreadOfField(samples_[i], &Sample::compute_share).median;
      arm.stall_share = SpreadOfField(samples_[i], &Sample::stall_share).median;
      arm.predicted_tokens_per_s =
          SpreadOfField(samples_[i], &Sample::predicted_tokens_per_s).median;
      if (arm.name == kWallPipelined) {
        report_.disk_bytes_per_s = SpreadOfField(samples_[i], &Sample::disk_bytes_per_s).median;
      }
      report_.arms.push_back(std::move(arm));
    }
    DescribePages();
  }

  void DescribePages() {
    const double compute_s = SpreadOfField(samples_.back(), &Sample::compute_s).median;
    const WallArm& literal = report_.arms.back();
    WallArm arm;
    arm.name = kPageByPage;
    arm.is_scaled = true;
    arm.bytes_per_token = literal.bytes_per_token;
    const auto rate = [&](double bytes_per_s) {
      return 1 / (arm.bytes_per_token / bytes_per_s + compute_s);
    };
    const Spread pages = SpreadOf(page_bytes_per_s_);
    arm.tokens_per_s = {rate(pages.median), rate(pages.min), rate(pages.max)};
    arm.disk_share = pages.median / report_.disk_bytes_per_s;
    report_.arms.push_back(std::move(arm));
  }

  absl::StatusOr<double> TimePass(Engine& engine, uint32_t tokens) const {
    const std::vector<TokenId> ids(tokens, prompt_[0]);
    const std::unique_ptr<Session> session = engine.NewSession();
    const RealClock clock;
    const int64_t begin_ns = clock.NowNs();
    WEIR_RETURN_IF_ERROR(engine.Forward(*session, ids, 1, /*expect_more=*/true));
    return static_cast<double>(clock.NowNs() - begin_ns) * 1e-9;
  }

  // Both engines by turns, round after round. What round 0 took does not count: it brings what
  // stays.
  absl::Status MeasurePasses() {
    const uint32_t most = options_.passes.back();
    const ContextNeeds needs = {.min_context_tokens = most + 1, .prompt_tokens = most};
    const auto open = [&](const ArmSpec& arm) {
      ModelOptions options = OptionsOf(options_, arm);
      options.chunk_tokens = most;
      return Open(model_, options, needs, /*measures=*/false);
    };
    WEIR_ASSIGN_OR_RETURN(const Opened resident, open(kResidentArm));
    WEIR_ASSIGN_OR_RETURN(const Opened disk, open(kPipelinedArm));
    for (const uint32_t tokens : options_.passes) {
      std::vector<double> resident_s, disk_s;
      for (uint32_t round = 0; round <= options_.rounds; ++round) {
        WEIR_RETURN_IF_ERROR(CheckInterrupted());
        WEIR_ASSIGN_OR_RETURN(const double resident_one_s, TimePass(*resident.engine, tokens));
        WEIR_ASSIGN_OR_RETURN(const double disk_one_s, TimePass(*disk.engine, tokens));
        if (round == 0) continue;
        resident_s.push_back(resident_one_s);
        disk_s.push_back(disk_one_s);
      }
      report_.passes.push_back(
          {tokens, SpreadOf(std::move(resident_s)).median, SpreadOf(std::move(disk_s)).median});
      WEIR_RETURN_IF_ERROR(Tell());
    }
    return absl::OkStatus();
  }

  absl::Status Tell() {
    const size_t all = options_.rounds * (std::size(kArms) + 1) + options_.passes.size();
    line_.Update(static_cast<double>(++done_) / static_cast<double>(all), 0);
    return CheckInterrupted();
  }

  const WallOptions& options_;
  const Model& model_;
  ProgressLine line_{"wall"};
  size_t done_ = 0;
  std::vector<TokenId> prompt_;
  std::vector<std::vector<Sample>> samples_;  // by arm
  std::vector<double> page_bytes_per_s_;      // by round
  WallReport report_;
};

absl::Status CheckOptions(const WallOptions& options) {
  const auto refuse = [](const char* why) {
    return WithExitCode(ExitCode::kUsage, absl::InvalidArgumentError(why));
  };
  if (options.tokens == 0) return refuse("-n: at least 1 token");
  if (options.rounds == 0) return refuse("-r: at least 1 round");
  for (size_t i = 0; i < options.passes.size(); ++i) {
    if (options.passes[i] == 0 || (i > 0 && options.passes[i] <= options.passes[i - 1])) {
      return refuse("--passes: tokens in ascending order, from 1 on");
    }
  }
  return absl::OkStatus();
}

absl::Status RunWall(WallOptions options) {
  WEIR_RETURN_IF_ERROR(CheckOptions(options));
  if (options.is_short) {
    options.rounds = 1;
    options.tokens = std::min(options.tokens, 4u);
    options.passes = {1, 16, 128};
  }
  options.model.device.device = "cpu";
  WEIR_ASSIGN_OR_RETURN(OutputFile json, OutputFile::Open(options.model.json_path));
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, OpenModel(options.model));
  WEIR_ASSIGN_OR_RETURN(const WallReport report, Wall(options, *model).Run());
  if (options.model.json_path != "-") std::fputs(WallToText(report).c_str(), stdout);
  if (!json.is_open()) return absl::OkStatus();
  return WriteWhole(&json, WallToJson(report).dump(1) + "\n");
}

}  // namespace

void AddWallCommand(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<WallOptions>();
  CLI::App* const wall = app.add_subcommand(
      "wall", "what it costs that parameters lie on disk, measured against a resident run (CPU)");
  wall->add_option("model", options->model.model, "GGUF file, or the name of a fetched model")
      ->required();
  wall->add_option("-p,--prompt", options->prompt, "what is continued")->capture_default_str();
  wall->add_option("-n,--tokens", options->tokens, "tokens of each arm in a round")
      ->capture_default_str();
  wall->add_option("-r,--rounds", options->rounds, "rounds; medians are shown")
      ->capture_default_str();
  wall->add_option("--passes", options->passes, "tokens in a pass, such as 1,64,512")
      ->delimiter(',')
      ->capture_default_str();
  wall->add_flag("--short", options->is_short, "one round and three passes");
  wall->add_option("-t,--threads", options->model.threads,
                   "compute threads (0: one for each core that the process may use)");
  wall->add_option("--isa", options->model.isa,
                   "kernels for this instruction set instead of the best one");
  wall->add_option("--json", options->model.json_path,
                   "write the result here as JSON (- for standard output)");
  wall->callback([options, exit_code] { *exit_code = ReportStatus(RunWall(*options)); });
}

}  // namespace weir
