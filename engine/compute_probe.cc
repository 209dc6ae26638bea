#include "engine/compute_probe.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/kv_pages.h"
#include "engine/pass_inputs.h"
#include "engine/run_memory.h"
#include "engine/session.h"
#include "engine/small_tensors.h"
#include "engine/workspace.h"
#include "io/base.h"
#include "io/clock.h"
#include "kernels/cpu_device.h"
#include "kernels/host_memory.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSlackBytes = 64 << 10;  // of an accelerator's budget, for rounding to pages
constexpr uint32_t kSamples = 6;            // of each kind of step
constexpr uint32_t kRounds = 4;             // where they are measured together
constexpr uint32_t kStepsInFlight = 64;     // the device's queue holds their kernels

// Everything that a pass needs, with a stand-in for the weights.
class Rehearsal {
 public:
  static absl::StatusOr<std::unique_ptr<Rehearsal>> Make(const Model& model,
                                                         const Transformer& transformer,
                                                         const ComputeProbeOptions& options) {
    auto rehearsal = std::make_unique<Rehearsal>(model, transformer);
    WEIR_RETURN_IF_ERROR(rehearsal->OpenDevice(options));
    WEIR_RETURN_IF_ERROR(rehearsal->Allocate(options));
    return rehearsal;
  }

  Rehearsal(const Model& model, const Transformer& transformer)
      : model_(model), transformer_(transformer) {}

  absl::Status status() const { return stream_->status(); }

  // Runs the steps one behind the other, again and again; the mean time of one. Where a
  // notification takes longer than a step.
  int64_t MeanOf(absl::Span<const StepId> steps) {
    Stamp begin;
    Stamp end;
    Enqueue(steps.front(), &begin);
    for (uint32_t round = 0; round < kRounds; ++round) {
      for (StepId step : steps) EnqueueStep(step);
    }
    SetStampWhenDone(&end);
    stream_->Wait(stream_->Record());
    const uint64_t count = uint64_t{kRounds} * steps.size();
    return std::max<int64_t>(1, (end.ns - begin.ns) / static_cast<int64_t>(count));
  }

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

  void SetStampWhenDone(Stamp* stamp) {
    stamp->clock = &clock_;
    stream_->NotifyWhenComplete(&SetStamp, stamp);
  }

  void Enqueue(StepId step, Stamp* stamp) {
    EnqueueStep(step);
    SetStampWhenDone(stamp);
  }

  void EnqueueStep(StepId step) {
    transformer_.Enqueue(step, {.stream = *stream_,
                                .small = small_,
                                .workspace = workspace_,
                                .input = input_,
                                .block_memory = block_memory_});
  }

  absl::Status OpenDevice(const ComputeProbeOptions& options) {
    weight_bytes_ = WeightBytes(options.memory_bytes);
    shape_ = {
        .context_tokens = options.position + 1, .chunk_tokens = 1, .kv = transformer_.kv_formats()};
    if (!options.accelerator.is_used()) {
      WEIR_ASSIGN_OR_RETURN(device_,
                            MakeCpuDevice({.threads = options.threads, .isa = options.isa}));
    } else {
      const uint64_t bytes =
          weight_bytes_ + DeviceOverhead(model_, shape_, 0).total() + kSlackBytes;
      const uint64_t scratch = AcceleratorScratchBytes(options.accelerator, bytes);
      WEIR_ASSIGN_OR_RETURN(device_,
                            MakeAccelerator(options.accelerator, bytes + scratch,
                                            {.threads = options.threads, .isa = options.isa}));
    }
    stream_ = device_->NewStream();
    return stream_->status();
  }

  absl::Status Allocate(const ComputeProbeOptions& options) {
    auto take = [this](uint64_t bytes, std::unique_ptr<Buffer>* buffer) -> absl::Status {
      WEIR_ASSIGN_OR_RETURN(*buffer, device_->Allocate(std::max(bytes, kPage), kPage, Touch::kNow));
      return absl::OkStatus();
    };
    const bool accelerated = options.accelerator.is_used();
    const WorkspaceShape workspace = WorkspaceShapeOf(shape_);
    const uint64_t input_bytes = PassInputs::Bytes(model_, shape_, accelerated);
    WEIR_RETURN_IF_ERROR(take(WorkspaceBytes(model_.config, workspace), &workspace_memory_));
    WEIR_RETURN_IF_ERROR(
        take(KvBytes(model_.config, shape_.kv, shape_.context_tokens), &kv_memory_));
    WEIR_RETURN_IF_ERROR(take(SmallTensors::Bytes(model_), &small_memory_));
    WEIR_RETURN_IF_ERROR(take(input_bytes, &input_memory_));
    WEIR_RETURN_IF_ERROR(take(weight_bytes_, &weights_));
    PlaceBlocks();
    workspace_ = LayOutWorkspace(model_.config, workspace, workspace_memory_->data());
    pages_ = std::make_unique<KvPages>(model_.config, shape_.kv, shape_.context_tokens,
                                       kv_memory_->data());
    WEIR_RETURN_IF_ERROR(MakeSmallTensors());
    return MakeInputs(accelerated, input_bytes);
  }

  absl::Status MakeSmallTensors() {
    const uint64_t bytes = SmallTensors::Bytes(model_);
    WEIR_ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> host, MapHostMemory(bytes, kPage));
    small_ =
        SmallTensors::OfOnes(model_, host->data()).MovedTo(host->data(), small_memory_->data());
    stream_->CopyIn(small_memory_->data(), host->data(), bytes);
    stream_->Wait(stream_->Record());
    return stream_->status();
  }

  // One token, behind `position` others.
  absl::Status MakeInputs(bool accelerated, uint64_t bytes) {
    uint8_t* host = input_memory_->data();
    if (accelerated) {
      WEIR_ASSIGN_OR_RETURN(host_inputs_, MapHostMemory(bytes, kPage));
      host = host_inputs_->data();
    }
    inputs_ = std::make_unique<PassInputs>(model_, shape_, host,
                                           accelerated ? input_memory_->data() : nullptr);
    session_ = std::make_unique<Session>(*pages_);
    for (uint32_t i = 0; i + 1 < shape_.context_tokens; ++i) session_->Append(0);
    WEIR_CHECK(session_->Reserve(1));
    const TokenId token = 0;
    inputs_->Prepare(*session_, {token}, [&](TokenId) {
      return RowPlace{.address = weights_->data(), .on_accelerator = accelerated};
    });
    inputs_->CopyIn(*stream_);
    stream_->Wait(stream_->Record());
    input_ = inputs_->input(/*logit_rows=*/1);
    return stream_->status();
  }

  uint64_t WeightBytes(uint64_t memory_bytes) const {
    const Program& program = transformer_.program();
    uint64_t all_bytes = 0;
    for (const Block& block : program.blocks) all_bytes += AlignUp(block.memory_bytes, kPage);
    const uint64_t row_bytes = RowBytes(model_.tensors.embedding->dtype, model_.config.columns);
    const uint64_t least = std::max(AlignUp(program.max_memory_bytes(), kPage), row_bytes);
    return std::max(std::min(memory_bytes, all_bytes), least);
  }

  // One block behind the other through the memory, round and round.
  void PlaceBlocks() {
    uint64_t at = 0;
    for (const Block& block : transformer_.program().blocks) {
      if (at + block.memory_bytes > weight_bytes_) at = 0;
      block_memory_.push_back(weights_->data() + at);
      at += AlignUp(block.memory_bytes, kPage);
    }
  }

  const RealClock clock_;
  const Model& model_;
  const Transformer& transformer_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Buffer> workspace_memory_;
  std::unique_ptr<Buffer> kv_memory_;
  std::unique_ptr<Buffer> small_memory_;
  std::unique_ptr<Buffer> input_memory_;
  std::unique_ptr<Buffer> host_inputs_;  // null on the CPU
  std::unique_ptr<Buffer> weights_;
  uint64_t weight_bytes_ = 0;
  RunShape shape_;
  std::unique_ptr<KvPages> pages_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<PassInputs> inputs_;
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
  absl::flat_hash_map<std::string, std::vector<StepId>> samples;
  std::vector<StepId> chosen;
  for (StepId step = 0; step < count; ++step) {
    shapes.push_back(transformer.StepShape(step));
    std::vector<StepId>& of_shape = samples[shapes.back()];
    if (of_shape.size() >= kSamples) continue;
    of_shape.push_back(step);
    chosen.push_back(step);
  }
  absl::flat_hash_map<std::string, int64_t> shape_ns;
  if (options.accelerator.kind == AcceleratorKind::kCuda) {
    for (const auto& [shape, steps] : samples) shape_ns[shape] = rehearsal->MeanOf(steps);
  } else {
    absl::flat_hash_map<std::string, std::vector<int64_t>> times;
    const std::vector<int64_t> took_ns = rehearsal->Run(chosen);
    for (size_t i = 0; i < chosen.size(); ++i) times[shapes[chosen[i]]].push_back(took_ns[i]);
    for (const auto& [shape, all] : times) shape_ns[shape] = MeanNs(all);
  }
  WEIR_RETURN_IF_ERROR(rehearsal->status());
  std::vector<int64_t> step_ns(count);
  for (StepId step = 0; step < count; ++step) step_ns[step] = shape_ns[shapes[step]];
  return step_ns;
}

}  // namespace weir
