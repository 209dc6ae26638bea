#include "kernels/isa.h"

#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "hwy/highway.h"

namespace weir {
namespace {

constexpr int64_t kTargets[] = {HWY_AVX3_DL, HWY_AVX3, HWY_AVX2};  // best first
constexpr int64_t kAllTargets = HWY_AVX3_DL | HWY_AVX3 | HWY_AVX2;

// What the hardware has, whatever was selected before.
int64_t HardwareTargets() {
  hwy::SetSupportedTargetsForTest(0);
  return hwy::SupportedTargets() & kAllTargets;
}

void Choose(int64_t targets) { hwy::GetChosenTarget().Update(targets); }

}  // namespace

std::vector<std::string> SupportedIsas() {
  const int64_t targets = HardwareTargets();
  std::vector<std::string> names;
  for (int64_t target : kTargets) {
    if (targets & target) names.emplace_back(hwy::TargetName(target));
  }
  return names;
}

absl::Status SelectIsa(std::string_view name) {
  const int64_t supported = HardwareTargets();
  if (supported == 0) {
    return absl::FailedPreconditionError(
        "this CPU lacks AVX2, FMA or F16C, which every kernel needs; any x86-64 CPU since about "
        "2013 "
        "(Haswell, Zen) has them");
  }
  if (name.empty()) {
    Choose(supported);
    return absl::OkStatus();
  }
  for (int64_t target : kTargets) {
    if (name != hwy::TargetName(target)) continue;
    if ((supported & target) == 0) {
      return absl::FailedPreconditionError(absl::StrCat("this CPU has no ", hwy::TargetName(target),
                                                        "; the best it has is ",
                                                        hwy::TargetName(supported & -supported)));
    }
    // Lower ones stay enabled: an op that is not compiled for `target` runs on the next best.
    Choose(supported & ~(target - 1));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown instruction set \"", std::string(name),
                                                 "\"; known: AVX2, AVX3, AVX3_DL"));
}

std::string SelectedIsa() {
  hwy::ChosenTarget& chosen = hwy::GetChosenTarget();
  if (!chosen.IsInitialized()) Choose(HardwareTargets());
  for (int64_t target : kTargets) {
    const uint64_t bit = static_cast<uint64_t>(HWY_CHOSEN_TARGET_SHIFT(target));
    if (chosen.GetIndex() == hwy::Num0BitsBelowLS1Bit_Nonzero64(bit)) {
      return hwy::TargetName(target);
    }
  }
  return "none";
}

}  // namespace weir
