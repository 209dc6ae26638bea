#include "engine/kv_pages.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

constexpr uint64_t kPageAlignment = 64;

uint64_t PageBytes(const ModelConfig& config, KvFormats formats, uint32_t layer) {
  return AlignUp(KvPageBytes(LayerKvLayout(config, formats, layer)), kPageAlignment);
}

}  // namespace

absl::Status CheckKvFormats(const ModelConfig& config, KvFormats formats) {
  const auto check = [](const char* what, KvFormat format, uint32_t columns) {
    if (format == KvFormat::kF16 || columns % kKvGroup == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("q8_0 keeps ", what, " in groups of ", kKvGroup,
                                                   " columns, and this model's heads have ",
                                                   columns, ". Use f16"));
  };
  WEIR_RETURN_IF_ERROR(check("keys", formats.keys, config.key_columns));
  return check("values", formats.values, config.value_columns);
}

KvLayout LayerKvLayout(const ModelConfig& config, KvFormats formats, uint32_t layer) {
  return {.page_tokens = kKvPageTokens,
          .kv_heads = config.layers[layer].kv_heads,
          .key_columns = config.key_columns,
          .value_columns = config.value_columns,
          .formats = formats};
}

uint64_t KvBytes(const ModelConfig& config, KvFormats formats, uint32_t context_tokens) {
  uint64_t group_bytes = 0;
  for (uint32_t layer = 0; layer < config.layers.size(); ++layer)
    group_bytes += PageBytes(config, formats, layer);
  return group_bytes * CeilDiv(context_tokens, kKvPageTokens);
}

uint64_t KvReadBytes(const ModelConfig& config, KvFormats formats, uint32_t position) {
  uint64_t bytes = 0;
  for (uint32_t layer = 0; layer < config.layers.size(); ++layer) {
    const uint32_t window = config.layers[layer].window;
    const uint64_t positions =
        window > 0 ? std::min(uint64_t{window}, uint64_t{position} + 1) : uint64_t{position} + 1;
    bytes += positions * KvPositionBytes(LayerKvLayout(config, formats, layer));
  }
  return bytes;
}

KvPages::KvPages(const ModelConfig& config, KvFormats formats, uint32_t context_tokens,
                 uint8_t* memory)
    : config_(config),
      memory_(memory),
      pool_(static_cast<uint32_t>(CeilDiv(context_tokens, kKvPageTokens))) {
  for (uint32_t layer = 0; layer < config.layers.size(); ++layer) {
    page_offset_bytes_.push_back(group_bytes_);
    group_bytes_ += PageBytes(config, formats, layer);
  }
}

KvPageTable KvPages::NewTable() const {
  KvPageTable table;
  table.groups_.reserve(pool_.size());
  table.pages_.resize(config_.layers.size());
  for (std::vector<uint8_t*>& pages : table.pages_) {
    pages.reserve(pool_.size());
    table.layers_.push_back(pages.data());
  }
  return table;
}

bool KvPages::Grow(KvPageTable* table, uint32_t tokens) {
  while (table->tokens() < tokens) {
    const std::optional<SlotId> group = pool_.Acquire();
    if (!group.has_value()) return false;
    table->groups_.push_back(*group);
    for (size_t layer = 0; layer < table->pages_.size(); ++layer) {
      table->pages_[layer].push_back(memory_ + *group * group_bytes_ + page_offset_bytes_[layer]);
    }
  }
  return true;
}

void KvPages::Release(KvPageTable* table) {
  for (SlotId group : table->groups_) pool_.Release(group);
  table->groups_.clear();
  for (std::vector<uint8_t*>& pages : table->pages_) pages.clear();
}

}  // namespace weir
