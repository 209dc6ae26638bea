// Attention of few items and many positions (a token being generated) on the CPU: the workers share
// the partitions of all items, and then the merging of their softmaxes. Private to kernels/.
#ifndef WEIR_KERNELS_ATTENTION_SPLIT_H_
#define WEIR_KERNELS_ATTENTION_SPLIT_H_

#include <cstdint>

#include "kernels/attention_items.h"

namespace weir {

// Whether `cut` leaves workers without work that sharing its partitions would give them.
bool SplitsAttention(const AttentionArgs& args, const AttentionCut& cut, CpuStream& stream);

// One worker's part of the whole call; all workers of the stream call it.
void RunSplitAttention(const AttentionArgs& args, const AttentionCut& cut, uint32_t worker,
                       CpuStream& stream, AttentionWorkspace& work);

}  // namespace weir

#endif  // WEIR_KERNELS_ATTENTION_SPLIT_H_
