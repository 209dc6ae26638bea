#include "engine/pass_inputs.h"

#include <algorithm>
#include <cstring>

#include "engine/kv_pages.h"
#include "io/base.h"
#include "kernels/dtype.h"

namespace weir {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kAlignment = 64;

}  // namespace

uint64_t RowStagingBytes(const Model& model) {
  const TensorInfo& table = *model.tensors.embedding;
  const uint64_t alignment = model.files[table.file]->alignment_bytes();
  // An unaligned row touches one aligned unit more than its length.
  return AlignUp(RowBytes(table.dtype, table.columns()), alignment) + alignment;
}

PassInputs::Layout PassInputs::LayOut(const Model& model, const RunShape& shape,
                                      bool for_accelerator) {
  const uint64_t tokens = shape.chunk_tokens;
  Layout layout;
  layout.pages = for_accelerator ? CeilDiv(shape.context_tokens, kKvPageTokens) : 0;
  const uint64_t tables = model.config.layers.size() * layout.pages * sizeof(uint8_t*);
  layout.positions_bytes = AlignUp(tables, kAlignment);
  layout.rows_bytes = AlignUp(layout.positions_bytes + tokens * sizeof(int32_t), kAlignment);
  layout.staging_bytes = AlignUp(layout.rows_bytes + tokens * sizeof(uint8_t*), kPage);
  layout.end_bytes = layout.staging_bytes + tokens * RowStagingBytes(model);
  return layout;
}

uint64_t PassInputs::Bytes(const Model& model, const RunShape& shape, bool for_accelerator) {
  return LayOut(model, shape, for_accelerator).end_bytes;
}

PassInputs::PassInputs(const Model& model, const RunShape& shape, uint8_t* host, uint8_t* device)
    : model_(model),
      layout_(LayOut(model, shape, device != nullptr)),
      row_bytes_(RowBytes(model.tensors.embedding->dtype, model.tensors.embedding->columns())),
      row_staging_bytes_(RowStagingBytes(model)),
      host_(host),
      device_(device),
      kernels_(device != nullptr ? device : host) {
  reads_.reserve(shape.chunk_tokens);
  if (device == nullptr) return;
  for (size_t layer = 0; layer < model.config.layers.size(); ++layer) {
    device_tables_.push_back(reinterpret_cast<uint8_t* const*>(device) + layer * layout_.pages);
  }
  tables_ = device_tables_.data();
}

absl::Span<const RowRead> PassInputs::Prepare(const Session& session,
                                              absl::Span<const TokenId> tokens,
                                              absl::FunctionRef<RowPlace(TokenId)> place) {
  reads_.clear();
  tokens_ = static_cast<uint32_t>(tokens.size());
  positions_end_ = session.position() + tokens_;
  staged_tokens_ = 0;
  auto* positions = reinterpret_cast<int32_t*>(host_ + layout_.positions_bytes);
  for (size_t i = 0; i < tokens.size(); ++i) {
    positions[i] = static_cast<int32_t>(session.position() + i);
    PrepareRow(i, tokens[i], place(tokens[i]));
  }
  if (device_ == nullptr) {
    tables_ = session.page_tables();
  } else {
    PrepareTables(session, CeilDiv(session.position() + tokens.size(), kKvPageTokens));
  }
  return reads_;
}

void PassInputs::PrepareRow(size_t i, TokenId token, const RowPlace& place) {
  auto* rows = reinterpret_cast<const uint8_t**>(host_ + layout_.rows_bytes);
  if (place.address != nullptr && place.on_accelerator == (device_ != nullptr)) {
    rows[i] = place.address;
    return;
  }
  const uint64_t staging = layout_.staging_bytes + i * row_staging_bytes_;
  staged_tokens_ = static_cast<uint32_t>(i + 1);
  if (place.address != nullptr) {
    std::memcpy(host_ + staging, place.address, row_bytes_);
    rows[i] = kernels_ + staging;
    return;
  }
  const TensorInfo& table = *model_.tensors.embedding;
  const File& file = *model_.files[table.file];
  const AlignedRange range =
      file.Widen(table.offset_bytes + static_cast<uint64_t>(token) * row_bytes_, row_bytes_);
  WEIR_CHECK(range.bytes <= row_staging_bytes_);
  reads_.push_back({.file = &file,
                    .offset_bytes = range.offset_bytes,
                    .bytes = range.bytes,
                    .required_bytes = range.head_bytes + row_bytes_,
                    .memory = host_ + staging});
  rows[i] = kernels_ + staging + range.head_bytes;
}

// Tables change when a page is added or another session runs: most tokens find theirs over there.
void PassInputs::PrepareTables(const Session& session, uint64_t pages) {
  WEIR_CHECK(pages <= layout_.pages);
  auto* tables = reinterpret_cast<uint8_t**>(host_);
  for (size_t layer = 0; layer < device_tables_.size(); ++layer) {
    uint8_t** table = tables + layer * layout_.pages;
    uint8_t* const* now = session.page_tables()[layer];
    if (std::equal(now, now + pages, table)) continue;
    std::copy(now, now + pages, table);
    tables_changed_ = true;
  }
}

void PassInputs::CopyIn(Stream& stream) {
  if (device_ == nullptr) return;
  const uint64_t begin = tables_changed_ ? 0 : layout_.positions_bytes;
  const uint64_t end = staged_tokens_ > 0
                           ? layout_.staging_bytes + staged_tokens_ * row_staging_bytes_
                           : layout_.rows_bytes + tokens_ * sizeof(uint8_t*);
  stream.CopyIn(device_ + begin, host_ + begin, end - begin);
  tables_changed_ = false;
}

PassInput PassInputs::input(uint32_t logit_rows) const {
  return {.tokens = tokens_,
          .logit_rows = logit_rows,
          .positions_end = positions_end_,
          .positions = reinterpret_cast<const int32_t*>(kernels_ + layout_.positions_bytes),
          .rows = reinterpret_cast<const uint8_t* const*>(kernels_ + layout_.rows_bytes),
          .page_tables = tables_};
}

}  // namespace weir
