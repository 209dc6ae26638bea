#include "engine/pass_runner.h"

#include "io/base.h"

namespace weir {
namespace {

// From so many on a step of some MiB takes the CPU some ten milliseconds.
constexpr uint32_t kLongPassTokens = 128;

}  // namespace

PassRunner::PassRunner(const Options& options) : options_(options) {
  if (options.graphs && options.compute->has_graphs()) graphs_.emplace(options.compute);
}

void PassRunner::BeginPass(uint32_t logit_rows, bool wide, bool resident) {
  input_ = options_.inputs->input(logit_rows);
  wide_ = wide;
  as_graph_ = graphs_.has_value() && resident && input_.tokens == 1;
  if (as_graph_) input_.positions_end = PassGraphs::RoundUp(input_.positions_end);
  if (options_.host_products != nullptr) options_.host_products->BeginPass();
}

const float* PassRunner::logits() const {
  return has_accelerator() ? options_.host_logits : options_.workspace.logits;
}

const float* PassRunner::top_values() const {
  return has_accelerator() ? options_.host_logits : options_.workspace.top_values;
}

const int32_t* PassRunner::top_ids() const {
  return has_accelerator() ? reinterpret_cast<const int32_t*>(options_.host_logits + TopCount())
                           : options_.workspace.top_ids;
}

void PassRunner::EnqueueStep(StepId step, ComputeDevice device) {
  if (step == 0) options_.inputs->CopyIn(*options_.compute);
  if (!as_graph_) {
    EnqueueOne(step, device);
  } else if (step == 0) {
    graphs_->Run({.logit_rows = input_.logit_rows, .positions_end = input_.positions_end},
                 [this] { EnqueueAll(); });
  }
  if (step == LastStep()) FinishPass(device);
}

bool PassRunner::HasLongSteps() const {
  return !has_accelerator() && input_.tokens >= kLongPassTokens;
}

void PassRunner::EnqueueAll() {
  for (StepId step = 0; step <= LastStep(); ++step) EnqueueOne(step, ComputeDevice::kAccelerator);
}

void PassRunner::EnqueueOne(StepId step, ComputeDevice device) {
  const bool on_accelerator = has_accelerator();
  StepRun run{
      .stream = *options_.compute,
      .small = *options_.small,
      .workspace = options_.workspace,
      .input = input_,
      .block_memory = on_accelerator ? machine_->device_block_memory() : machine_->block_memory()};
  run.profile = options_.profile;
  if (on_accelerator && !wide_) run.host_products = options_.host_products;
  if (on_accelerator && device == ComputeDevice::kCpu) {
    WEIR_CHECK(run.host_products != nullptr);
    run.host_small = options_.host_small;
    run.host_block_memory = &machine_->block_memory();
  }
  options_.transformer->Enqueue(step, run);
}

StepId PassRunner::LastStep() const {
  const Program& program = options_.transformer->program();
  return input_.logit_rows > 0 ? static_cast<StepId>(program.steps.size() - 1)
                               : program.head_step - 1;
}

// When the last step is known to be done, everything else is, too, and the logits are there.
void PassRunner::FinishPass(ComputeDevice device) {
  Stream& compute = *options_.compute;
  if (input_.logit_rows > 0) FetchLogits();
  if (!has_accelerator() || device != ComputeDevice::kCpu) return;
  options_.cpu->WaitFor(compute, compute.Record());
}

void PassRunner::FetchLogits() {
  Stream& compute = *options_.compute;
  const Workspace& w = options_.workspace;
  if (options_.top_logits > 0) {
    if (options_.profile != nullptr) options_.profile->Begin(compute, {ProfiledOp::kTopLogits});
    TopLogits(compute, {.logits = w.logits,
                        .stride = options_.vocabulary,
                        .values = w.top_values,
                        .ids = w.top_ids,
                        .rows = input_.logit_rows,
                        .vocabulary = options_.vocabulary,
                        .k = options_.top_logits});
  }
  if (!has_accelerator()) return;  // they are in host memory
  const auto fetch = [&](float* to, const void* from, uint64_t count) {
    compute.CopyOut(reinterpret_cast<uint8_t*>(to), static_cast<const uint8_t*>(from),
                    count * sizeof(float));
  };
  if (options_.top_logits == 0) {
    return fetch(options_.host_logits, w.logits, uint64_t{input_.logit_rows} * options_.vocabulary);
  }
  static_assert(sizeof(float) == sizeof(int32_t));
  fetch(options_.host_logits, w.top_values, TopCount());
  fetch(options_.host_logits + TopCount(), w.top_ids, TopCount());
}

void PassRunner::OnStepsDone(uint32_t done, uint32_t total) {
  if (options_.on_progress) options_.on_progress(static_cast<double>(done) / total);
}

}  // namespace weir
