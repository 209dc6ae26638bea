// Three broken schedulers (tests/tiering/mutants) and the shipped one, in the same random lives:
// the machine's invariants must catch the broken ones, each by the invariant that it breaks.
#include <gtest/gtest.h>

#include <cstdint>

#include "tests/tiering/mutants/late_pin/scheduler.h"
#include "tests/tiering/mutants/lost_completion/scheduler.h"
#include "tests/tiering/mutants/slot_leak/scheduler.h"
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

Verdict Judge(const MakeScheduler& make, Invariant expected) {
  Verdict verdict;
  for (uint64_t seed = 0; seed < kLives; ++seed) {
    const RandomLife life = LiveRandomly(seed, make);
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
  const Verdict verdict = Judge(Maker<Scheduler, PassSpec>(), Invariant::kNone);
  EXPECT_EQ(verdict.caught, 0u);
  EXPECT_EQ(verdict.problems, 0u);
}

TEST(SchedulerMutantsTest, ALatePinIsCaughtByPinned) {
  const Verdict verdict =
      Judge(Maker<late_pin::Scheduler, late_pin::PassSpec>(), Invariant::kPinned);
  EXPECT_LT(verdict.first, 20u);
  EXPECT_GT(verdict.caught, kLives / 3);
  EXPECT_EQ(verdict.by_expected, verdict.caught);
}

TEST(SchedulerMutantsTest, ALostCompletionIsCaughtByProgress) {
  const Verdict verdict =
      Judge(Maker<lost_completion::Scheduler, lost_completion::PassSpec>(), Invariant::kProgress);
  EXPECT_LT(verdict.first, 20u);
  EXPECT_GT(verdict.caught, kLives / 3);
  EXPECT_EQ(verdict.by_expected, verdict.caught);
}

TEST(SchedulerMutantsTest, ASlotLeakIsCaughtByProgress) {
  const Verdict verdict =
      Judge(Maker<slot_leak::Scheduler, slot_leak::PassSpec>(), Invariant::kProgress);
  EXPECT_LT(verdict.first, 100u);
  EXPECT_GT(verdict.caught, kLives / 20);
  EXPECT_EQ(verdict.by_expected, verdict.caught);
}

}  // namespace
}  // namespace weir
