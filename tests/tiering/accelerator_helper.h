// Plans with an accelerator that the tests of tiering/ share.
#ifndef WEIR_TESTS_TIERING_ACCELERATOR_HELPER_H_
#define WEIR_TESTS_TIERING_ACCELERATOR_HELPER_H_

#include <cstdint>

#include "tests/tiering/synthetic_helper.h"
#include "tiering/plan.h"
#include "tiering/program.h"
#include "tiering/scheduler.h"
#include "tiering/sim_machine.h"

namespace weir {

// Groups of steps as a transformer has them: rows, then of each layer's eight blocks three, one,
// three and one in a group, then a head in one group.
Program GroupedProgram(uint32_t layers, uint64_t block_bytes);

DeviceOverheadBytes SmallDeviceOverhead();
// SmallOverhead of both.
PlanOptions SmallAcceleratorOptions();

// Shares of the weight blocks, each spread evenly.
struct TierShares {
  double device = 0;  // whose home is the accelerator
  double host = 0;    // of the others: whose home is the host
  double cpu = 0;     // of those: multiplied there
  uint32_t slots = 8;
  uint32_t device_slots = 8;
};
Plan PlanOfShares(const Program& program, const TierShares& shares);

// Every mixture of homes and compute devices, rings from the smallest
// on, or what the planner makes of any budgets.
Plan RandomAcceleratorPlan(const Program& program, Dice* dice);
void AddRandomAccelerator(Dice* dice, SimHardware* hardware);

// Blocks that a pass uses in a device slot, and steps that it runs on the CPU.
uint64_t CopiedUses(const Program& program, const Plan& plan, const PassSpec& pass);
uint64_t CpuSteps(const Program& program, const Plan& plan, const PassSpec& pass);

}  // namespace weir

#endif  // WEIR_TESTS_TIERING_ACCELERATOR_HELPER_H_
