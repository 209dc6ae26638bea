// A plan file from a stranger: parsed, compared with a small program, and when it is accepted,
// used: passes of all kinds on the simulated machine, with an accelerator where the plan has one,
// which checks that nothing leaves its place or its budget.
#include <cstddef>
#include <cstdint>
#include <string>

#include "io/base.h"
#include "tiering/plan.h"
#include "tiering/scheduler.h"
#include "tiering/sim_machine.h"

namespace weir {
namespace {

// Rows, and six blocks of unequal size in four steps, one of which needs two and one none.
Program SmallProgram() {
  Program program;
  program.fingerprint = 0x0123456789abcdef;
  Block rows;
  rows.kind = BlockKind::kRows;
  rows.label = "rows";
  program.blocks.push_back(rows);
  uint64_t offset_bytes = 0;
  for (uint64_t pages : {1, 3, 2, 2, 4, 1}) {
    const uint64_t bytes = pages * 4096;
    Block block;
    block.label = "b";
    block.payload_bytes = bytes - 100;
    block.memory_bytes = bytes;
    block.segments.push_back(
        {.offset_bytes = offset_bytes, .bytes = bytes, .required_bytes = bytes - 50});
    offset_bytes += bytes;
    program.blocks.push_back(block);
  }
  program.steps = {{"rows", {0}, 0}, {"a", {1}, 1}, {"b", {2, 3}, 2}, {"none", {}, 0},
                   {"c", {4}, 3},    {"d", {5}, 4}, {"head", {6}, 5}};
  program.head_step = 6;
  return program;
}

void UsePlan(const Program& program, const Plan& plan) {
  // A ring of a million slots is within some budgets; here it would only take time.
  if (plan.slots > 1000) return;
  if (plan.accelerator.has_value() && plan.accelerator->slots > 1000) return;
  SimMachine machine(program, plan, {}, {});
  Scheduler scheduler(program, plan, machine, nullptr, nullptr);
  WEIR_CHECK(scheduler.RunPass({.head = false}, PassSpec{.head = true}).ok());
  WEIR_CHECK(scheduler.RunPass({.head = true}, PassSpec{.head = true}).ok());
  if (plan.accelerator.has_value()) {  // not what was expected
    WEIR_CHECK(scheduler.RunPass({.head = true, .wide = true}, PassSpec{.wide = true}).ok());
    WEIR_CHECK(scheduler.RunPass({.head = true}, std::nullopt).ok());
    const Ceilings ceilings{
        .disk_bytes_per_s = 1e9, .compute_bytes_per_s = 1e9, .link_bytes_per_s = 1e9};
    WEIR_CHECK(PredictPlan(program, plan, ceilings).pass_s >= 0);
  }
  scheduler.Drain();
  WEIR_CHECK(machine.CheckIdle().ok());
  const absl::StatusOr<Plan> again = ParsePlanJson(PlanToJson(program, plan), "again");
  WEIR_CHECK(again.ok() && CheckPlanFits(program, *again, "again").ok());
}

}  // namespace
}  // namespace weir

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const weir::Program program = weir::SmallProgram();
  const std::string text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<weir::Plan> plan = weir::ParsePlanJson(text, "fuzz");
  if (plan.ok() && weir::CheckPlanFits(program, *plan, "fuzz").ok()) weir::UsePlan(program, *plan);
  return 0;
}
