// The vector part of the CPU's attention: some query rows of one KV head against one range of
// positions. kernels/op_attention_cpu.cc cuts the work and merges the parts.
//
// What makes results independent of how the work is cut: positions are taken in tiles and
// partitions that begin at fixed absolute positions, every sum runs in position (or column) order,
// and a row that shares a tile with others sees only exact zeros for positions that are not its
// own.
#ifndef WEIR_KERNELS_ATTENTION_TILE_H_
#define WEIR_KERNELS_ATTENTION_TILE_H_

#include <cstdint>

#include "kernels/ops.h"

namespace weir {

constexpr uint32_t kTilePositions = 64;        // scores made at once
constexpr uint32_t kPartitionPositions = 256;  // one softmax state each; merged in order
constexpr uint32_t kMaxAttentionRows = 32;     // query rows that share a tile

// One query head of one token, and the positions it attends to.
struct AttentionRow {
  const float* query;  // [key_columns]
  uint32_t begin;
  uint32_t end;
};

// The softmax so far, over some positions: sum of exp(score - max) and, in `weighted`, the values
// weighted with the same. sum == 0: no position yet.
struct SoftmaxState {
  float max;
  float sum;
  float* weighted;  // [padded value columns]
};

// A worker's workspace, float32. Views into its scratch memory.
struct AttentionWorkspace {
  float* scores;  // [rows, kTilePositions]
  SoftmaxState part[kMaxAttentionRows];
  SoftmaxState total[kMaxAttentionRows];
  uint32_t rows;            // how many fit
  uint32_t padded_columns;  // value_columns rounded up to 16 floats
};

inline uint32_t PaddedColumns(uint32_t value_columns) { return (value_columns + 15) / 16 * 16; }

struct PositionRange {
  uint32_t begin;
  uint32_t end;
};

// What the worker attends to afterwards: its memory is asked for meanwhile. Empty: nothing.
struct AttentionAhead {
  uint32_t kv_head;
  PositionRange positions;
};

// Resets work.part[0, row_count) and attends to the positions in [begin, end) that are each row's
// own. begin is a multiple of kPartitionPositions.
void AttendPartition(const AttentionArgs& args, uint32_t kv_head, const AttentionRow* rows,
                     uint32_t row_count, uint32_t begin, uint32_t end, const AttentionAhead& ahead,
                     AttentionWorkspace& work);

// No position yet.
void ClearSoftmax(SoftmaxState& state, uint32_t padded_columns);

// total = total and part; total's positions precede part's.
void MergeSoftmax(SoftmaxState& total, const SoftmaxState& part, uint32_t padded_columns);

// output = state.weighted / state.sum.
void WriteAttention(const SoftmaxState& state, uint32_t value_columns, float* output);

}  // namespace weir

#endif  // WEIR_KERNELS_ATTENTION_TILE_H_
