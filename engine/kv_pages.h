// KvPages: the KV cache as pages of a fixed number of positions. The memory is taken once;
// sequences borrow page groups (one page of every layer for the same positions) and give them back.
//
// A page is the unit that KV tiering will move; until then all pages are in host memory.
#ifndef WEIR_ENGINE_KV_PAGES_H_
#define WEIR_ENGINE_KV_PAGES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/ops.h"
#include "models/config.h"
#include "tiering/pool.h"

namespace weir {

inline constexpr uint32_t kKvPageTokens = 64;

// InvalidArgument for a model whose heads are not made of whole groups of a format.
absl::Status CheckKvFormats(const ModelConfig& config, KvFormats formats);

// But for the order, which is the device's.
KvLayout LayerKvLayout(const ModelConfig& config, KvFormats formats, uint32_t layer);

// Bytes that hold `context_tokens` positions, rounded up to whole pages.
uint64_t KvBytes(const ModelConfig& config, KvFormats formats, uint32_t context_tokens);

// Bytes of keys and values that the token at `position` attends to in all layers, its own included:
// what attention reads for it. Layers with a sliding window read no more than that.
uint64_t KvReadBytes(const ModelConfig& config, KvFormats formats, uint32_t position);

// The pages of one sequence: [layer][position / kKvPageTokens]. Room for all pages is reserved, so
// that growing does not allocate. Its address must not change while a pass uses it.
class KvPageTable {
 public:
  uint8_t* const* const* layers() const { return layers_.data(); }
  uint32_t tokens() const { return static_cast<uint32_t>(groups_.size()) * kKvPageTokens; }

 private:
  friend class KvPages;
  std::vector<SlotId> groups_;
  std::vector<std::vector<uint8_t*>> pages_;  // [layer][page]
  std::vector<uint8_t* const*> layers_;       // data() of each of pages_
};

// One thread.
class KvPages {
 public:
  // `memory` is KvBytes of the same arguments long and outlives this, as does `config`.
  KvPages(const ModelConfig& config, KvFormats formats, uint32_t context_tokens, uint8_t* memory);

  uint32_t context_tokens() const { return pool_.size() * kKvPageTokens; }
  KvPageTable NewTable() const;
  // Grows the table to hold `tokens` positions; false when too few pages are free (what was added
  // stays).
  [[nodiscard]] bool Grow(KvPageTable* table, uint32_t tokens);
  void Release(KvPageTable* table);

 private:
  const ModelConfig& config_;
  uint8_t* memory_;
  std::vector<uint64_t> page_offset_bytes_;  // [layer], within a group
  uint64_t group_bytes_ = 0;
  SlotPool pool_;
};

}  // namespace weir

#endif  // WEIR_ENGINE_KV_PAGES_H_
