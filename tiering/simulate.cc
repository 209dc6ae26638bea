#include "tiering/simulate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "io/base.h"

namespace weir {
namespace {

constexpr uint32_t kRealMaxSteps = 32;  // of engine/real_machine.h
constexpr double kNanosPerSecond = 1e9;

// More events than this in one pass are no progress: each block is read and each step run once, and
// as many again may be under way for passes before and behind.
uint64_t EventBudget(const Program& program) {
  return 4 * (program.blocks.size() + program.steps.size()) + 64;
}

int64_t NanosOf(uint64_t bytes, double bytes_per_s) {
  return std::llround(static_cast<double>(bytes) / bytes_per_s * kNanosPerSecond);
}

// Both devices, group by group, as tiering/cost.h has it.
void SetComputeBounds(const Program& program, const Plan& plan, const SimHardware& hardware,
                      Simulation* simulation) {
  const bool accelerated = plan.accelerator.has_value();
  for (StepId begin = 0; begin < program.steps.size(); begin = program.group_end(begin)) {
    int64_t compute_ns = 0;
    int64_t host_ns = 0;
    for (StepId step = begin; step < program.group_end(begin); ++step) {
      const bool beside =
          accelerated && StepDevice(program, plan, step, false) == ComputeDevice::kCpu;
      (beside ? host_ns : compute_ns) +=
          beside ? HostStepNs(hardware, program, step) : StepNs(hardware, program, step);
    }
    simulation->compute_bound_ns += compute_ns;
    simulation->host_compute_bound_ns += host_ns;
    if (host_ns > 0) host_ns += 2 * hardware.link_latency_ns;
    simulation->path_bound_ns += std::max(compute_ns, host_ns);
  }
}

void SetBounds(const Program& program, const Plan& plan, const SimHardware& hardware,
               Simulation* simulation) {
  const PlanSummary summary = Summarise(program, plan);
  uint64_t bytes = summary.streamed_read_bytes;
  for (const Block& block : program.blocks) {
    if (block.kind == BlockKind::kRows) bytes += ReadBytes(block);
  }
  simulation->disk_bound_ns = NanosOf(bytes, hardware.disk_bytes_per_s);
  if (plan.accelerator.has_value()) {
    simulation->link_bound_ns = NanosOf(summary.copied_bytes, hardware.link_bytes_per_s);
  }
  SetComputeBounds(program, plan, hardware, simulation);
  const int64_t links_ns = std::max(simulation->disk_bound_ns, simulation->link_bound_ns);
  if (links_ns > simulation->path_bound_ns) {
    simulation->bottleneck = simulation->disk_bound_ns == links_ns ? "disk" : "link";
  } else {
    const bool cpu = simulation->host_compute_bound_ns > simulation->compute_bound_ns;
    simulation->bottleneck = cpu ? "cpu" : "compute";
  }
}

// Ceilings that were not measured are zero.
absl::Status CheckHardware(const Program& program, const Plan& plan, const SimHardware& hardware) {
  if (!plan.accelerator.has_value()) return absl::OkStatus();
  if (hardware.link_bytes_per_s <= 0) {
    return absl::FailedPreconditionError(
        "the plan is for an accelerator, and the rate of the link to it is not known");
  }
  const bool cpu_known = !hardware.host_step_ns.empty() || hardware.host_compute_bytes_per_s > 0;
  for (StepId step = 0; step < program.steps.size() && !cpu_known; ++step) {
    if (StepDevice(program, plan, step, /*wide=*/false) == ComputeDevice::kAccelerator) continue;
    return absl::FailedPreconditionError(
        "the plan gives steps to the CPU beside the accelerator, and its rate is not known");
  }
  return absl::OkStatus();
}

class Run {
 public:
  Run(const Program& program, const Plan& plan, const SimHardware& hardware,
      const SimFaults& faults, const SimulateOptions& options, Trace* trace)
      : options_(options),
        accelerated_(plan.accelerator.has_value()),
        event_budget_(EventBudget(program)),
        machine_(program, plan, hardware, faults),
        scheduler_(program, plan, machine_, trace, nullptr) {}

  // All passes, as far as they come.
  void Passes(Simulation* simulation) {
    const uint32_t timed_from = options_.prompt_passes + options_.warm_up_passes;
    const uint32_t all = timed_from + options_.passes;
    for (uint32_t pass = 0; pass < all; ++pass) {
      if (pass == timed_from) BeginSteady();
      machine_.SetStepScale(pass < options_.prompt_passes ? options_.prompt_step_scale : 1);
      machine_.SetEventBudget(event_budget_);
      // The stream goes on behind the last pass, as it would with more tokens to come.
      simulation->status = scheduler_.RunPass(Spec(pass), Spec(pass + 1));
      if (!simulation->status.ok()) break;
      if (Spec(pass).head && simulation->first_logits_ns == 0) {
        simulation->first_logits_ns = machine_.Now();
      }
      machine_.Elapse(options_.between_ns);
      if (pass >= timed_from) EndTimedPass(simulation);
    }
    simulation->total_ns = machine_.Now();
    simulation->scheduler = scheduler_.stats();
    scheduler_.Drain();
    simulation->violation = machine_.CheckIdle();
    simulation->machine = machine_.stats();
    simulation->trace_hash = machine_.trace_hash();
  }

 private:
  PassSpec Spec(uint32_t pass) const {
    return {.head = pass + 1 >= options_.prompt_passes,
            .wide = accelerated_ && pass < options_.prompt_passes};
  }

  void BeginSteady() {
    begin_ns_ = machine_.Now();
    begin_ = machine_.stats();
    begin_scheduler_ = scheduler_.stats();
  }

  void EndTimedPass(Simulation* simulation) {
    const SimStats now = machine_.stats();
    ++simulation->passes;
    simulation->steady_ns = machine_.Now() - begin_ns_;
    simulation->disk_bytes = now.transfer_bytes - begin_.transfer_bytes;
    simulation->disk_busy_ns = now.disk_busy_ns - begin_.disk_busy_ns;
    simulation->compute_busy_ns = now.compute_busy_ns - begin_.compute_busy_ns;
    simulation->link_bytes = now.copy_bytes - begin_.copy_bytes;
    simulation->link_busy_ns = now.link_busy_ns - begin_.link_busy_ns;
    simulation->host_compute_busy_ns = now.host_compute_busy_ns - begin_.host_compute_busy_ns;
    simulation->disk_stall_ns = scheduler_.stats().disk_stall_ns - begin_scheduler_.disk_stall_ns;
    simulation->copy_stall_ns = scheduler_.stats().copy_stall_ns - begin_scheduler_.copy_stall_ns;
  }

  const SimulateOptions options_;
  const bool accelerated_;
  const uint64_t event_budget_;
  SimMachine machine_;
  Scheduler scheduler_;
  int64_t begin_ns_ = 0;
  SimStats begin_;
  SchedulerStats begin_scheduler_;
};

}  // namespace

int64_t Simulation::bound_ns() const {
  return std::max({disk_bound_ns, link_bound_ns, path_bound_ns});
}

double Simulation::pass_ns() const {
  return passes == 0 ? 0 : static_cast<double>(steady_ns) / passes;
}

double Simulation::tokens_per_s() const { return steady_ns == 0 ? 0 : kNanosPerSecond / pass_ns(); }

double Simulation::share_of_bound() const {
  return steady_ns == 0 ? 0 : static_cast<double>(bound_ns()) / pass_ns();
}

SimHardware SimHardwareFrom(const Ceilings& ceilings) {
  SimHardware hardware;
  hardware.disk_bytes_per_s = ceilings.disk_bytes_per_s;
  hardware.disk_latency_ns = ceilings.disk_latency_ns;
  hardware.compute_bytes_per_s = ceilings.compute_bytes_per_s;
  hardware.each_step_ns = 0;
  hardware.step_ns = ceilings.step_ns;
  hardware.host_compute_bytes_per_s = ceilings.host_compute_bytes_per_s;
  hardware.host_step_ns = ceilings.host_step_ns;
  hardware.link_bytes_per_s = ceilings.link_bytes_per_s;
  hardware.link_latency_ns = ceilings.link_latency_ns;
  hardware.max_transfers = 0;
  hardware.max_steps = kRealMaxSteps;
  return hardware;
}

Simulation SimulateDecode(const Program& program, const Plan& plan, const SimHardware& hardware,
                          const SimFaults& faults, const SimulateOptions& options, Trace* trace) {
  Simulation simulation;
  simulation.status = CheckHardware(program, plan, hardware);
  if (!simulation.status.ok()) return simulation;
  SetBounds(program, plan, hardware, &simulation);
  Run(program, plan, hardware, faults, options, trace).Passes(&simulation);
  return simulation;
}

}  // namespace weir
