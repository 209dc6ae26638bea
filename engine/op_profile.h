// OpProfile: attributes the time of the CPU device's passes to ops, with the bytes and operations
// that the ops had to move and do. The transformer says before each op what it is about to enqueue
// (Begin); the device's workers add up the time (kernels/entry_times.h).
//
// Of the CPU device alone: ops on other devices are not timed.
#ifndef WEIR_ENGINE_OP_PROFILE_H_
#define WEIR_ENGINE_OP_PROFILE_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "io/clock.h"
#include "kernels/dtype.h"
#include "kernels/entry_times.h"
#include "kernels/ops.h"
#include "models/config.h"

namespace weir {

enum class ProfiledOp : uint8_t {
  kNone,  // notifications, copies of a pass's inputs
  kEmbed,
  kNorm,
  kQuantize,
  kQkv,
  kPrepareAttention,
  kAttention,
  kAttentionOutput,
  kGateUp,
  kActivation,
  kDown,
  kHead,
  kSoftCap,
  kTopLogits,
};
inline constexpr uint32_t kProfiledOps = static_cast<uint32_t>(ProfiledOp::kTopLogits) + 1;
std::string_view ProfiledOpName(ProfiledOp op);  // "q/k/v"

// What a line of a profile is about.
struct OpLabel {
  ProfiledOp op = ProfiledOp::kNone;
  std::optional<DType> weight = {};  // of products and embedding rows

  // Different for different labels; 0 for the default.
  uint32_t number() const;
  static OpLabel FromNumber(uint32_t number);
};
inline constexpr uint32_t kOpFormats = 32;  // numbers for the weight's; 0: none
inline constexpr uint32_t kOpLabels = kProfiledOps * kOpFormats;

// What an op has to do at least: bytes of weights or of KV that it reads, each once; operations
// (two for a product and its sum) of products and attention. Reading and writing activations does
// not count, which stay in caches.
struct OpWork {
  uint64_t bytes = 0;
  uint64_t operations = 0;
};

OpWork ProductWork(const MatMulArgs& product);
// Of a layer: `tokens` of them, the last at positions_end - 1.
OpWork AttentionWork(const AttentionArgs& attention);

struct OpCount {
  uint64_t calls = 0;   // of the op; of ProfiledOp::kNone entries of the device's queue
  int64_t run_ns = 0;   // as EntryTime
  int64_t wait_ns = 0;  // likewise
  OpWork work = {};
};

// All counters at one moment. Between two moments run_ns and wait_ns of all labels and the
// difference in idle_ns add up to the difference in at_ns.
struct OpCounts {
  std::vector<OpCount> counts = std::vector<OpCount>(kOpLabels);  // by label number
  int64_t at_ns = 0;                                              // RealClock
  int64_t idle_ns = 0;  // that no op has ended yet: since the last one
};

// One thread uses it (the one that runs passes). Nothing is allocated after construction.
class OpProfile {
 public:
  OpProfile() : times_(kOpLabels, &clock_), calls_(kOpLabels), work_(kOpLabels) {}

  // For CpuDeviceOptions::times.
  EntryTimes* times() { return &times_; }
  // What is enqueued on `stream`, of a CPU device, from now on is one call of this op.
  void Begin(Stream& stream, const OpLabel& label, const OpWork& work = {});
  // When everything enqueued has run (Engine::ReadProfile sees to that).
  void ReadInto(OpCounts* counts) const;

 private:
  RealClock clock_;
  EntryTimes times_;
  std::vector<uint64_t> calls_;  // by label number
  std::vector<OpWork> work_;
};

}  // namespace weir

#endif  // WEIR_ENGINE_OP_PROFILE_H_
