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
#include "tiering/sim_machine.h"
#include "tiering/trace.h"

namespace weir {

// What a life needs of a scheduler.
class SchedulerUnderTest {
 public:
  virtual ~SchedulerUnderTest() = default;
  virtual absl::Status RunPass(bool head, std::optional<bool> next_head) = 0;
  virtual void Drain() = 0;
  virtual bool IsResident(BlockId block) const = 0;
  virtual uint64_t transfers() const = 0;
  virtual uint64_t discarded() const = 0;
};

// `S` has the interface of weir::Scheduler, `Pass` that of weir::PassSpec.
template <typename S, typename Pass>
class SchedulerAdapter final : public SchedulerUnderTest {
 public:
  SchedulerAdapter(const Program& program, const Plan& plan, Machine& machine)
      : scheduler_(program, plan, machine, nullptr, nullptr) {}
  absl::Status RunPass(bool head, std::optional<bool> next_head) override {
    std::optional<Pass> next;
    if (next_head.has_value()) next = Pass{.head = *next_head};
    return scheduler_.RunPass(Pass{.head = head}, next);
  }
  void Drain() override { scheduler_.Drain(); }
  bool IsResident(BlockId block) const override { return scheduler_.IsResident(block); }
  uint64_t transfers() const override { return scheduler_.stats().transfers; }
  uint64_t discarded() const override { return scheduler_.stats().discarded; }

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

RandomLife LiveRandomly(uint64_t seed, const MakeScheduler& make);

}  // namespace weir

#endif  // WEIR_TESTS_TIERING_RANDOM_RUN_HELPER_H_
