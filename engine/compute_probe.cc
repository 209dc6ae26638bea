#include "engine/compute_probe.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/kv_pages.h"
#include "engine/small_tensors.h"
#include "engine/workspace.h"
#include "io/base.h"
#include "io/clock.h"
#include "kernels/cpu_device.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kSamples = 6;         // of each kind of step
constexpr uint32_t kStepsInFlight = 64;  // the device's queue holds their kernels

// Everything that a pass needs, with a stand-in for the weights.
class Rehearsal {
 public:
  static absl::StatusOr<std::unique_ptr<Rehearsal>> Make(const Model& model,
                                                         const Transformer& transformer,
                                                         const ComputeProbeOptions& options) {
    auto rehearsal = std::make_unique<Rehearsal>(model, transformer);
    WEIR_ASSIGN_OR_RETURN(rehearsal->device_,
                          MakeCpuDevice({.threads = options.threads, .isa = options.isa}));
    WEIR_RETURN_IF_ERROR(rehearsal->Allocate(options));
    rehearsal->stream_ = rehearsal->device_->NewStream();
    return rehearsal;
  }

  Rehearsal(const Model& model, const Transformer& transformer)
      : model_(model), transformer_(transformer) {}

  // Runs the steps one behind the other; the time of each.
  std::vector<int64_t> Run(absl::Span<const StepId> steps) {
    std::vector<Stamp> stamps(steps.size() + 1);
    // Wakes the workers: nothing waits for them afterwards.
    Enqueue(0, &stamps[0]);
    for (size_t i = 0; i < steps.size(); ++i) {
      if (i % kStepsInFlight == kStepsInFlight - 1) stream_->Wait(half_way_);
      if (i % kStepsInFlight == kStepsInFlight / 2) half_way_ = stream_->Record();
      Enqueue(steps[i], &stamps[i + 1]);
    }
    stream_->Wait(stream_->Record());
    std::vector<int64_t> took_ns(steps.size());
    for (size_t i = 0; i < steps.size(); ++i) took_ns[i] = stamps[i + 1].ns - stamps[i].ns;
    return took_ns;
  }

 private:
  struct Stamp {
    const RealClock* clock = nullptr;
    int64_t ns = 0;
  };

  static void SetStamp(void* argument) {
    auto* stamp = static_cast<Stamp*>(argument);
    stamp->ns = stamp->clock->NowNs();
  }

  void Enqueue(StepId step, Stamp* stamp) {
    stamp->clock = &clock_;
    transformer_.Enqueue(step, *stream_, small_, workspace_, input_, block_memory_);
    stream_->NotifyWhenComplete(&SetStamp, stamp);
  }

  absl::Status Allocate(const ComputeProbeOptions& options) {
    auto take = [this](uint64_t bytes, std::unique_ptr<Buffer>* buffer) -> absl::Status {
      WEIR_ASSIGN_OR_RETURN(*buffer, device_->Allocate(std::max(bytes, kPage), kPage, Touch::kNow));
      return absl::OkStatus();
    };
    const uint32_t context_tokens = options.position + 1;
    const WorkspaceShape shape = {.chunk_tokens = 1, .logit_rows = 1};
    WEIR_RETURN_IF_ERROR(take(WorkspaceBytes(model_.config, shape), &workspace_memory_));
    WEIR_RETURN_IF_ERROR(take(KvBytes(model_.config, context_tokens), &kv_memory_));
    WEIR_RETURN_IF_ERROR(take(SmallTensors::Bytes(model_), &small_memory_));
    WEIR_RETURN_IF_ERROR(PlaceBlocks(options.memory_bytes));
    small_ = SmallTensors::OfOnes(model_, small_memory_->data());
    workspace_ = LayOutWorkspace(model_.config, shape, workspace_memory_->data());
    workspace_.positions[0] = static_cast<int32_t>(options.position);
    workspace_.rows[0] = weights_->data();
    pages_ = std::make_unique<KvPages>(model_.config, context_tokens, kv_memory_->data());
    table_ = pages_->NewTable();
    WEIR_CHECK(pages_->Grow(&table_, context_tokens));
    input_ = {.tokens = 1, .logit_rows = 1, .page_tables = table_.layers()};
    return absl::OkStatus();
  }

  // One block behind the other through the memory, round and round.
  absl::Status PlaceBlocks(uint64_t memory_bytes) {
    const Program& program = transformer_.program();
    uint64_t all_bytes = 0;
    for (const Block& block : program.blocks) all_bytes += AlignUp(block.memory_bytes, kPage);
    const uint64_t row_bytes = RowBytes(model_.tensors.embedding->dtype, model_.config.columns);
    const uint64_t least = std::max(AlignUp(program.max_memory_bytes(), kPage), row_bytes);
    const uint64_t bytes = std::max(std::min(memory_bytes, all_bytes), least);
    WEIR_ASSIGN_OR_RETURN(weights_, device_->Allocate(bytes, kPage, Touch::kNow));
    uint64_t at = 0;
    for (const Block& block : program.blocks) {
      if (at + block.memory_bytes > bytes) at = 0;
      block_memory_.push_back(weights_->data() + at);
      at += AlignUp(block.memory_bytes, kPage);
    }
    return absl::OkStatus();
  }

  const RealClock clock_;
  const Model& model_;
  const Transformer& transformer_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Buffer> workspace_memory_;
  std::unique_ptr<Buffer> kv_memory_;
  std::unique_ptr<Buffer> small_memory_;
  std::unique_ptr<Buffer> weights_;
  std::unique_ptr<KvPages> pages_;
  KvPageTable table_;
  SmallTensors small_;
  Workspace workspace_;
  PassInput input_;
  std::vector<uint8_t*> block_memory_;
  std::unique_ptr<Stream> stream_;
  Event half_way_{};
};

// The mean without the slowest: one step that something else interrupted says little.
int64_t MeanNs(std::vector<int64_t> samples) {
  std::sort(samples.begin(), samples.end());
  if (samples.size() > 3) samples.pop_back();
  const int64_t sum = std::accumulate(samples.begin(), samples.end(), int64_t{0});
  return sum / static_cast<int64_t>(samples.size());
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> ProbeSteps(const Model& model, const Transformer& transformer,
                                                const ComputeProbeOptions& options) {
  WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Rehearsal> rehearsal,
                        Rehearsal::Make(model, transformer, options));
  const size_t count = transformer.program().steps.size();
  std::vector<std::string> shapes;
  absl::flat_hash_map<std::string, std::vector<int64_t>> samples;
  std::vector<StepId> chosen;
  for (StepId step = 0; step < count; ++step) {
    shapes.push_back(transformer.StepShape(step));
    std::vector<int64_t>& of_shape = samples[shapes.back()];
    if (of_shape.size() >= kSamples) continue;
    of_shape.push_back(0);
    chosen.push_back(step);
  }
  const std::vector<int64_t> took_ns = rehearsal->Run(chosen);
  for (auto& [shape, times] : samples) times.clear();
  for (size_t i = 0; i < chosen.size(); ++i) samples[shapes[chosen[i]]].push_back(took_ns[i]);
  std::vector<int64_t> step_ns(count);
  for (StepId step = 0; step < count; ++step) step_ns[step] = MeanNs(samples[shapes[step]]);
  return step_ns;
}

}  // namespace weir
