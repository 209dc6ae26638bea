#include "tests/tiering/random_run_helper.h"

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/tiering/accelerator_helper.h"
#include "tests/tiering/synthetic_helper.h"

namespace weir {
namespace {

class Life {
 public:
  Life(uint64_t seed, const MakeScheduler& make, bool accelerated)
      : accelerated_(accelerated),
        dice_(seed),
        program_(RandomProgram(seed)),
        plan_(accelerated ? RandomAcceleratorPlan(program_, &dice_) : RandomPlan(program_, &dice_)),
        hardware_(Hardware()),
        faults_(RandomFaults(&dice_)),
        machine_(program_, plan_, hardware_, faults_),
        scheduler_(make(program_, plan_, machine_)) {}

  RandomLife Run() {
    const uint64_t passes = dice_.Between(1, 7);
    for (uint64_t i = 0; i < passes && !HasProblem(); ++i) Pass();
    if (!HasProblem()) {
      scheduler_->Drain();
      CheckEnd();
    }
    life_.breached = machine_.breached();
    life_.trace_hash = machine_.trace_hash();
    life_.stats = machine_.stats();
    return life_;
  }

 private:
  bool HasProblem() {
    if (life_.problem.empty() && !machine_.violation().ok()) {
      life_.problem = std::string(machine_.violation().message());
    }
    return !life_.problem.empty();
  }

  void Expect(bool holds, const std::string& what) {
    if (!holds && life_.problem.empty()) life_.problem = what;
  }

  SimHardware Hardware() {
    SimHardware hardware = RandomHardware(&dice_);
    if (accelerated_) AddRandomAccelerator(&dice_, &hardware);
    return hardware;
  }

  PassSpec AnyPass() {
    PassSpec pass{.head = !dice_.OneIn(3)};
    if (accelerated_) pass.wide = dice_.OneIn(3);
    return pass;
  }

  void Pass() {
    const PassSpec pass = foreseen_.has_value() && !dice_.OneIn(3) ? *foreseen_ : AnyPass();
    foreseen_.reset();
    if (!dice_.OneIn(5)) foreseen_ = AnyPass();
    machine_.SetStepScale(pass.head ? 1.0 : 1.0 + 30 * dice_.Share());
    machine_.SetEventBudget(4 * (program_.blocks.size() + program_.steps.size()) + 64);
    const SimStats before = machine_.stats();
    const absl::Status status = scheduler_->RunPass(pass, foreseen_);
    if (HasProblem()) return;
    CountEnd(status);
    if (status.ok()) {
      ++life_.passes;
      const SimStats now = machine_.stats();
      Expect(now.steps - before.steps == StepsOf(program_, pass), "not every step was run");
      Expect(!accelerated_ || now.host_steps - before.host_steps == CpuSteps(program_, plan_, pass),
             "steps were run on the wrong device");
      copied_ += accelerated_ ? CopiedUses(program_, plan_, pass) : 0;
      used_ += StreamedUses(program_, plan_, pass) + (StepsOf(program_, pass) > 0 ? Rows() : 0);
    } else {
      // Nothing may be under way behind an error.
      const absl::Status idle = machine_.CheckIdle();
      Expect(idle.ok(), absl::StrCat("after an error: ", idle.message()));
    }
    if (dice_.OneIn(2)) machine_.Elapse(static_cast<int64_t>(dice_.Below(5'000'000)));
  }

  // A pass ends complete, or with the one error that was injected.
  void CountEnd(const absl::Status& status) {
    const bool may_fail = faults_.eio_forever_share > 0 || faults_.eio_at.has_value() ||
                          faults_.unplug_at.has_value();
    const bool may_stick = faults_.stuck_share > 0 || faults_.stuck_at.has_value();
    const absl::string_view text = status.message();
    const bool names_place = absl::StrContains(text, "failed at offset") &&
                             absl::StrContains(text, "wanted") && absl::StrContains(text, "got");
    switch (status.code()) {
      case absl::StatusCode::kOk:
        return;
      case absl::StatusCode::kDataLoss:
        ++life_.io_errors;
        return Expect(may_fail && names_place, absl::StrCat("unexpected: ", text));
      case absl::StatusCode::kDeadlineExceeded:
        ++life_.deadlines;
        return Expect((may_stick || faults_.slow_share > 0 || faults_.spike_share > 0 ||
                       faults_.slow_from.has_value() || faults_.throttle_at_ns.has_value()) &&
                          names_place,
                      absl::StrCat("unexpected: ", text));
      case absl::StatusCode::kCancelled:
        ++life_.cancellations;
        return Expect(faults_.cancel_at_event.has_value() && life_.cancellations == 1,
                      "cancelled, but not by the user");
      default:
        Expect(false, absl::StrCat("unexpected: ", text));
    }
  }

  void CheckEnd() {
    const absl::Status idle = machine_.CheckIdle();
    Expect(idle.ok(), std::string(idle.message()));
    uint64_t resident = 0;
    uint64_t on_device = 0;
    for (BlockId id = 0; id < program_.blocks.size(); ++id) {
      if (!scheduler_->IsResident(id)) continue;
      ++resident;
      if (plan_.placements[id].home == Tier::kHost) {
        Expect(machine_.ReadsOf(id) == 1, "a resident block was not read once");
        continue;
      }
      ++on_device;
      Expect(machine_.CopiesOf(id) == 1, "a block of the accelerator was not copied once");
    }
    const SimStats stats = machine_.stats();
    Expect(stats.peak_held_bytes <= plan_.dram_budget_bytes, "over budget");
    Expect(stats.transfers == scheduler_->transfers(), "the scheduler's count of reads is wrong");
    // What a failed pass had used is not known here.
    const bool failed = life_.io_errors + life_.deadlines + life_.cancellations > 0;
    Expect(failed || stats.transfers == used_ + resident + scheduler_->discarded(),
           "reads do not add up");
    Expect(!accelerated_ || stats.peak_device_bytes <= plan_.accelerator->hbm_budget_bytes,
           "over budget on the accelerator");
    Expect(stats.copies == scheduler_->copies(), "the scheduler's count of copies is wrong");
    Expect(failed || stats.copies == copied_ + on_device + scheduler_->copies_discarded(),
           "copies do not add up");
  }

  uint64_t Rows() const {
    uint64_t rows = 0;
    for (const Block& block : program_.blocks) rows += block.kind == BlockKind::kRows ? 1 : 0;
    return rows;
  }

  const bool accelerated_;
  Dice dice_;
  const Program program_;
  const Plan plan_;
  const SimHardware hardware_;
  const SimFaults faults_;
  SimMachine machine_;
  std::unique_ptr<SchedulerUnderTest> scheduler_;
  std::optional<PassSpec> foreseen_;
  uint64_t used_ = 0;    // streamed blocks and rows, by complete passes
  uint64_t copied_ = 0;  // blocks in device slots, by complete passes
  RandomLife life_;
};

}  // namespace

RandomLife LiveRandomly(uint64_t seed, const MakeScheduler& make, bool accelerated) {
  return Life(seed, make, accelerated).Run();
}

}  // namespace weir
