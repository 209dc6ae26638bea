// One random life of a scheduler on the simulated machine: program, plan, hardware, faults and the
// order of passes all come from a seed. The scheduler under test is a parameter, so that broken
// ones meet the same lives (tests/tiering/mutants).
#ifndef WEIR_TESTS_TIERING_RANDOM_RUN_HELPER_H_
#define WEIR_TESTS_TIERING_RANDOM_RUN_HELPER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "tiering/scheduler.h"
#include "tiering/sim_machine.h"
#include "tiering/trace.h"

namespace weir {

// What a life needs of a scheduler.
class SchedulerUnderTest {
 public:
  virtual ~SchedulerUnderTest() = default;
  virtual absl::Status RunPass(const PassSpec& pass, const std::optional<PassSpec>& next) = 0;
  virtual void Drain() = 0;
  virtual bool IsResident(BlockId block) const = 0;
  virtual uint64_t transfers() const = 0;
  virtual uint64_t discarded() const = 0;
  virtual uint64_t copies() const = 0;
  virtual uint64_t copies_discarded() const = 0;
};

// `S` has the interface of weir::Scheduler, `Pass` that of weir::PassSpec.
template <typename S, typename Pass>
class SchedulerAdapter final : public SchedulerUnderTest {
 public:
  SchedulerAdapter(const Program& program, const Plan& plan, Machine& machine)
      : scheduler_(program, plan, machine, nullptr, nullptr) {}
  absl::Status RunPass(const PassSpec& pass, const std::optional<PassSpec>& next) override {
    std::optional<Pass> its_next;
    if (next.has_value()) its_next = Pass{.head = next->head, .wide = next->wide};
    return scheduler_.RunPass(Pass{.head = pass.head, .wide = pass.wide}, its_next);
  }
  void Drain() override { scheduler_.Drain(); }
  bool IsResident(BlockId block) const override { return scheduler_.IsResident(block); }
  uint64_t transfers() const override { return scheduler_.stats().transfers; }
  uint64_t discarded() const override { return scheduler_.stats().discarded; }
  uint64_t copies() const override { return scheduler_.stats().copies; }
  uint64_t copies_discarded() const override { return scheduler_.stats().copies_discarded; }

 private:
  S scheduler_;
};

using MakeScheduler =
    std::function<std::unique_ptr<SchedulerUnderTest>(const Program&, const Plan&, Machine&)>;

template <typename S, typename Pass>
MakeScheduler Maker() {
  return [](const Program& program, const Plan& plan, Machine& machine) {
    return std::make_unique<SchedulerAdapter<S, Pass>>(program, plan, machine);
  };
}

struct RandomLife {
  Invariant breached = Invariant::kNone;
  std::string problem;  // empty: as promised
  uint32_t passes = 0;  // complete
  uint32_t io_errors = 0;
  uint32_t deadlines = 0;
  uint32_t cancellations = 0;
  uint64_t trace_hash = 0;
  SimStats stats;
};

// `accelerated`: with a plan for an accelerator.
RandomLife LiveRandomly(uint64_t seed, const MakeScheduler& make, bool accelerated);

}  // namespace weir

#endif  // WEIR_TESTS_TIERING_RANDOM_RUN_HELPER_H_
