// Programs, plans and whole simulated runs that the tests of tiering/ share.
#ifndef WEIR_TESTS_TIERING_SYNTHETIC_HELPER_H_
#define WEIR_TESTS_TIERING_SYNTHETIC_HELPER_H_

#include <cstdint>
#include <optional>
#include <random>

#include "tiering/plan.h"
#include "tiering/program.h"
#include "tiering/scheduler.h"
#include "tiering/sim_machine.h"
#include "tiering/trace.h"

namespace weir {

// Equal on every platform, unlike the standard distributions.
// One throw a statement: compilers evaluate the arguments of a call in different orders.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  uint64_t Below(uint64_t limit) { return engine_() % limit; }
  uint64_t Between(uint64_t low, uint64_t high) { return low + Below(high - low + 1); }
  double Share() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

struct UniformShape {
  uint32_t layers = 8;
  uint32_t blocks_per_layer = 4;
  uint32_t head_blocks = 2;
  uint64_t block_bytes = 1 << 20;  // payload; a multiple of 4096
};

// Step 0 gathers rows; then one step for each block, all equal, with a page of padding each.
Program UniformProgram(const UniformShape& shape);

// Anything the contract of Program allows: blocks of unequal size and several segments, steps that
// need none, one or several, with and without groups, rows with or without weights in step 0, a
// head or none.
Program RandomProgram(uint64_t seed);

PlanOptions SmallOverhead();
// Budgets from the floor to a little more than everything, shares from none to all.
Plan RandomPlan(const Program& program, Dice* dice);
SimHardware RandomHardware(Dice* dice);
// Any mix of what SimFaults knows, or nothing.
SimFaults RandomFaults(Dice* dice);
// Spikes and late completions, no errors.
SimFaults RandomDelays(Dice* dice);

// Bytes that one read of the block moves.
uint64_t ReadBytesOf(const Block& block);
// Steps and streamed blocks of a pass.
uint64_t StepsOf(const Program& program, const PassSpec& pass);
uint64_t StreamedUses(const Program& program, const Plan& plan, const PassSpec& pass);

// A scheduler on a simulated machine, and all that both need.
class Rig {
 public:
  Rig(const Program& program_in, const Plan& plan_in, const SimHardware& hardware,
      const SimFaults& faults);
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  // `passes` of them, each as foreseen by the one before; the last foresees none.
  absl::Status RunPasses(uint32_t passes, const PassSpec& pass);

  const Program program;
  const Plan plan;
  SimMachine machine;
  Trace trace;
  Scheduler scheduler;
};

// Nanoseconds in which some record of the lane was under way, between `begin_ns` and `end_ns`.
int64_t BusyNs(const Trace& trace, Trace::Lane lane, int64_t begin_ns, int64_t end_ns);

}  // namespace weir

#endif  // WEIR_TESTS_TIERING_SYNTHETIC_HELPER_H_
