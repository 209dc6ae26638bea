// Broken schedulers (tests/tiering/mutants) and the shipped one, in the same random lives:
// the machine's invariants must catch the broken ones, each by the invariant that it breaks.
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>

#include "tests/tiering/mutants/copy_source_freed/scheduler.h"
#include "tests/tiering/mutants/early_device_slot/scheduler.h"
#include "tests/tiering/mutants/late_pin/scheduler.h"
#include "tests/tiering/mutants/lost_completion/scheduler.h"
#include "tests/tiering/mutants/lost_copy/scheduler.h"
#include "tests/tiering/mutants/slot_leak/scheduler.h"
#include "tests/tiering/mutants/step_before_copy/scheduler.h"
#include "tests/tiering/random_run_helper.h"
#include "tiering/scheduler.h"

namespace weir {
namespace {

constexpr uint64_t kLives = 300;

struct Verdict {
  uint64_t caught = 0;       // lives with a breach
  uint64_t first = kLives;   // the first of them
  uint64_t by_expected = 0;  // lives in which this invariant was the first to break
  uint64_t problems = 0;     // lives in which anything at all was wrong
};

Verdict Judge(const MakeScheduler& make, Invariant expected, bool accelerated) {
  Verdict verdict;
  for (uint64_t seed = 0; seed < kLives; ++seed) {
    const RandomLife life = LiveRandomly(seed, make, accelerated);
    if (!life.problem.empty()) ++verdict.problems;
    if (life.breached == Invariant::kNone) continue;
    if (verdict.caught++ == 0) verdict.first = seed;
    if (life.breached == expected) ++verdict.by_expected;
  }
  testing::Test::RecordProperty("first", static_cast<int>(verdict.first));
  testing::Test::RecordProperty("caught", static_cast<int>(verdict.caught));
  return verdict;
}

TEST(SchedulerMutantsTest, TheShippedSchedulerIsNotCaught) {
  for (bool accelerated : {false, true}) {
    const Verdict verdict = Judge(Maker<Scheduler, PassSpec>(), Invariant::kNone, accelerated);
    EXPECT_EQ(verdict.caught, 0u);
    EXPECT_EQ(verdict.problems, 0u);
  }
}

struct Mutant {
  const char* name;
  MakeScheduler make;
  Invariant expected;
  bool accelerated;
  uint64_t first_below;    // the first life that catches it
  uint64_t caught_above;   // of kLives
  double least_share = 1;  // of those caught, by the expected invariant
};

// So that a failing case is called by the mutant's name.
void PrintTo(const Mutant& mutant, std::ostream* out) { *out << mutant.name; }

template <typename S, typename Pass>
Mutant Make(const char* name, Invariant expected, bool accelerated, uint64_t first_below,
            uint64_t caught_above, double least_share = 1) {
  return {name, Maker<S, Pass>(), expected, accelerated, first_below, caught_above, least_share};
}

std::string NameOf(const testing::TestParamInfo<Mutant>& mutant) { return mutant.param.name; }

class SchedulerMutantTest : public testing::TestWithParam<Mutant> {};

TEST_P(SchedulerMutantTest, IsCaughtByTheInvariantThatItBreaks) {
  const Mutant& mutant = GetParam();
  const Verdict verdict = Judge(mutant.make, mutant.expected, mutant.accelerated);
  EXPECT_LT(verdict.first, mutant.first_below);
  EXPECT_GT(verdict.caught, mutant.caught_above);
  // A step that was run before its copy may find the bytes of the pass before still there, and be
  // caught when they are written over.
  EXPECT_GE(static_cast<double>(verdict.by_expected),
            mutant.least_share * static_cast<double>(verdict.caught));
}

INSTANTIATE_TEST_SUITE_P(
    Mutants, SchedulerMutantTest,
    testing::Values(
        Make<late_pin::Scheduler, late_pin::PassSpec>("late_pin", Invariant::kPinned, false, 20,
                                                      kLives / 3),
        Make<lost_completion::Scheduler, lost_completion::PassSpec>("lost_completion",
                                                                    Invariant::kProgress, false, 20,
                                                                    kLives / 3),
        Make<slot_leak::Scheduler, slot_leak::PassSpec>("slot_leak", Invariant::kProgress, false,
                                                        100, kLives / 20),
        Make<copy_source_freed::Scheduler, copy_source_freed::PassSpec>("copy_source_freed",
                                                                        Invariant::kPinned, true,
                                                                        20, kLives / 5),
        Make<early_device_slot::Scheduler, early_device_slot::PassSpec>("early_device_slot",
                                                                        Invariant::kPinned, true,
                                                                        20, kLives / 5),
        Make<lost_copy::Scheduler, lost_copy::PassSpec>("lost_copy", Invariant::kProgress, true, 20,
                                                        kLives / 5),
        Make<step_before_copy::Scheduler, step_before_copy::PassSpec>("step_before_copy",
                                                                      Invariant::kArrival, true, 20,
                                                                      kLives / 5, 0.95)),
    NameOf);

}  // namespace
}  // namespace weir
