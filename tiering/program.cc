#include "tiering/program.h"

#include <algorithm>

namespace weir {

uint64_t Program::payload_bytes() const {
  uint64_t total = 0;
  for (const Block& block : blocks) {
    if (block.kind == BlockKind::kWeights) total += block.payload_bytes;
  }
  return total;
}

uint64_t Program::max_memory_bytes() const {
  uint64_t largest = 0;
  for (const Block& block : blocks) {
    if (block.kind == BlockKind::kWeights) largest = std::max(largest, block.memory_bytes);
  }
  return largest;
}

StepId Program::group_end(StepId begin) const {
  StepId end = begin + 1;
  while (end < steps.size() && steps[end].joins_previous) ++end;
  return end;
}

uint32_t Program::max_needs() const {
  size_t most = 0;
  for (const Step& step : steps) {
    size_t weights = 0;
    for (BlockId id : step.needs) weights += blocks[id].kind == BlockKind::kWeights ? 1 : 0;
    most = std::max(most, weights);
  }
  return static_cast<uint32_t>(most);
}

}  // namespace weir
