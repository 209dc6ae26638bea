// PassGraphs: whole passes recorded as graphs (kernels/device.h) and run again for the cost of one
// call. For passes of one token whose weights all stay on the accelerator: from one to the next
// nothing changes but what lies in the accelerator's memory (engine/pass_inputs.h), as long as
// attention was enqueued for enough positions.
#ifndef WEIR_ENGINE_PASS_GRAPHS_H_
#define WEIR_ENGINE_PASS_GRAPHS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/device.h"

namespace weir {

// One thread.
class PassGraphs {
 public:
  // What two passes have in common when one graph serves both.
  struct Key {
    uint32_t logit_rows = 0;
    uint32_t positions_end = 0;  // as RoundUp
    bool operator==(const Key&) const = default;
  };
  // `stream` has graphs, and outlives this.
  explicit PassGraphs(Stream* stream) : stream_(stream) {}

  // For how many positions to enqueue attention, so that a graph serves many passes and never more
  // than twice the positions there are, above the least.
  static uint32_t RoundUp(uint32_t positions_end);

  // Enqueues what `enqueue` enqueues, which is the same for equal keys: the first time as it is,
  // then recorded. No earlier run is under way.
  void Run(const Key& key, absl::FunctionRef<void()> enqueue);

  uint64_t graph_runs() const { return graph_runs_; }

 private:
  struct Entry {
    Key key;
    std::unique_ptr<Graph> graph;  // null: not recorded yet
  };
  Entry* Find(const Key& key);

  Stream* const stream_;
  std::vector<Entry> entries_;  // the oldest first
  uint64_t graph_runs_ = 0;
};

}  // namespace weir

#endif  // WEIR_ENGINE_PASS_GRAPHS_H_
