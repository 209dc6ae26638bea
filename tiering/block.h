// Block: the unit that moves between tiers: some tensors (or rows of one) that one step uses.
#ifndef WEIR_TIERING_BLOCK_H_
#define WEIR_TIERING_BLOCK_H_

#include <cstdint>
#include <string>
#include <vector>

namespace weir {

using BlockId = uint32_t;
using StepId = uint32_t;

enum class Tier : uint8_t {
  kDisk,    // streamed through a slot at every use
  kHost,    // stays in DRAM once read
  kDevice,  // stays in the accelerator's memory once copied
};

// Where a step is computed.
enum class ComputeDevice : uint8_t { kCpu = 0, kAccelerator = 1 };

// One contiguous byte range of one file, widened to the alignment that direct reads need, and where
// in the block's memory it goes.
struct Segment {
  uint32_t file = 0;                 // index into the model's files
  uint64_t offset_bytes = 0;         // aligned
  uint64_t bytes = 0;                // aligned; may reach past the end of the file
  uint64_t required_bytes = 0;       // up to the last byte that is used
  uint64_t memory_offset_bytes = 0;  // aligned; from the start of the block's memory
};

enum class BlockKind : uint8_t {
  kWeights,  // the same bytes at every pass
  kRows,     // gathered anew for every pass, when its tokens are known; has memory of its own
};

struct Block {
  BlockKind kind = BlockKind::kWeights;
  std::string label;           // "blk.3 ffn_down[0:512]"
  uint64_t payload_bytes = 0;  // bytes of weights
  uint64_t memory_bytes = 0;   // room it takes in a slot or an arena: segments with their padding;
                               // a copy to an accelerator moves so many
  std::vector<Segment> segments;
};

}  // namespace weir

#endif  // WEIR_TIERING_BLOCK_H_
