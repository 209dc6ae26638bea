// Program: the ordered steps of one pass over the model and the blocks that each step needs.
//
// A step is what can be computed once its blocks are in memory. Steps run in order, but for groups
// of neighbours that do not depend on each other: a group's may run in any order, after all steps
// before the group and before all behind it. Every block is needed by at most one step, so the
// program's order is the order of reading; kRows blocks are needed by step 0, since their tokens
// are known when a pass begins. There is at least one step. The scheduler checks all of this.
#ifndef WEIR_TIERING_PROGRAM_H_
#define WEIR_TIERING_PROGRAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tiering/block.h"

namespace weir {

struct Step {
  std::string label;           // for traces
  std::vector<BlockId> needs;  // pinned while the step runs
  uint64_t payload_bytes = 0;  // weight bytes that the step multiplies
  // In one group with the step before it. Never of step 0, nor of the head's first step.
  bool joins_previous = false;
};

struct Program {
  std::vector<Block> blocks;
  std::vector<Step> steps;
  // Steps from here on make logits; passes that need none (all prompt chunks but the last) end
  // before.
  StepId head_step = 0;
  // Identifies the model and how it was cut; a saved plan is good only for the same program.
  uint64_t fingerprint = 0;

  uint64_t payload_bytes() const;        // of all weight blocks
  uint64_t max_memory_bytes() const;     // of the largest weight block
  uint32_t max_needs() const;            // weight blocks that one step pins at most
  StepId group_end(StepId begin) const;  // behind the last step of the group that begins there
};

}  // namespace weir

#endif  // WEIR_TIERING_PROGRAM_H_
