// PassRunner: enqueues the steps of a pass on the streams of one device or two, with what surrounds
// them: the pass's inputs first, logits to host memory last. Reports progress as steps complete.
// Where the stream has graphs, passes of one token that bring no weights are run as one.
#ifndef WEIR_ENGINE_PASS_RUNNER_H_
#define WEIR_ENGINE_PASS_RUNNER_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "engine/host_products.h"
#include "engine/pass_graphs.h"
#include "engine/pass_inputs.h"
#include "engine/real_machine.h"
#include "engine/small_tensors.h"
#include "engine/transformer.h"
#include "engine/workspace.h"
#include "kernels/device.h"
#include "tiering/scheduler.h"

namespace weir {

class PassRunner final : public StepRunner, public PassObserver {
 public:
  // All borrowed; they outlive the runner.
  struct Options {
    const Transformer* transformer = nullptr;
    uint32_t vocabulary = 0;
    PassInputs* inputs = nullptr;
    Stream* cpu = nullptr;
    Stream* compute = nullptr;            // the accelerator's, or `cpu`
    const SmallTensors* small = nullptr;  // in memory that kernels of `compute` reach
    Workspace workspace;                  // likewise
    // Instead of all logits, so many of the largest of each row; 0: all.
    uint32_t top_logits = 0;
    // With an accelerator:
    float* host_logits = nullptr;  // [logit_rows, vocabulary] pinned: all, or the largest and ids
    const SmallTensors* host_small = nullptr;
    HostProducts* host_products = nullptr;  // null where no step is the CPU's
    bool graphs = true;                     // where `compute` has them
    OpProfile* profile = nullptr;           // without an accelerator; null: nobody asks
    // On the thread that runs passes: a share of this pass's steps, 0..1. May be empty.
    std::function<void(double)> on_progress;
  };
  explicit PassRunner(const Options& options);

  // Before the first pass: where blocks lie.
  void SetMachine(const RealMachine* machine) { machine_ = machine; }
  // Before every pass, whose inputs are prepared. `wide`: no step is the CPU's. `resident`: all
  // weights stay on the accelerator, and are there.
  void BeginPass(uint32_t logit_rows, bool wide, bool resident);
  // Passes that were graphs.
  uint64_t graph_runs() const { return graphs_.has_value() ? graphs_->graph_runs() : 0; }
  // In host memory once a pass is over: [logit_rows, vocabulary], or what TopLogits makes of it,
  // [logit_rows, top_logits] each.
  const float* logits() const;
  const float* top_values() const;
  const int32_t* top_ids() const;

  void EnqueueStep(StepId step, ComputeDevice device) override;
  bool HasLongSteps() const override;
  void OnStepsDone(uint32_t done, uint32_t total) override;

 private:
  bool has_accelerator() const { return options_.host_logits != nullptr; }
  StepId LastStep() const;
  void EnqueueOne(StepId step, ComputeDevice device);
  void EnqueueAll();
  uint64_t TopCount() const { return uint64_t{input_.logit_rows} * options_.top_logits; }
  void FinishPass(ComputeDevice device);
  void FetchLogits();

  Options options_;
  const RealMachine* machine_ = nullptr;
  PassInput input_;
  bool wide_ = false;
  std::optional<PassGraphs> graphs_;
  bool as_graph_ = false;  // this pass is enqueued as a whole with its first step
};

}  // namespace weir

#endif  // WEIR_ENGINE_PASS_RUNNER_H_
