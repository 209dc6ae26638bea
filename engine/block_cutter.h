// Cuts a model's matrices into blocks of about equal size, in the order in which they are used: row
// ranges of large matrices, several small ones together, neighbours in the file read as one
// segment.
#ifndef WEIR_ENGINE_BLOCK_CUTTER_H_
#define WEIR_ENGINE_BLOCK_CUTTER_H_

#include <cstdint>
#include <vector>

#include "models/tensor_index.h"
#include "tiering/block.h"

namespace weir {

// Rows of one matrix and where they lie in their block's memory.
struct MatrixPiece {
  const TensorInfo* tensor = nullptr;
  uint32_t first_row = 0;
  uint32_t rows = 0;
  BlockId block = 0;
  uint64_t memory_offset_bytes = 0;  // of the first row, from the start of the block's memory
};

struct CutOptions {
  uint64_t block_bytes = 0;         // target; a block exceeds it by at most an eighth and padding
  bool separates_matrices = false;  // no block has rows of two
  std::vector<uint64_t> file_alignment_bytes;  // of direct reads, by file
};

// Cuts one group (a layer's matrices, the output head) and appends its blocks to `blocks`. Returns
// the pieces in the order of `matrices`; every matrix's rows are covered once, in order.
std::vector<MatrixPiece> CutMatrices(const std::vector<const TensorInfo*>& matrices,
                                     const CutOptions& options, std::vector<Block>* blocks);

}  // namespace weir

#endif  // WEIR_ENGINE_BLOCK_CUTTER_H_
