#include "engine/block_cutter.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "io/base.h"
#include "kernels/dtype.h"

namespace weir {
namespace {

// Rows are cut in multiples of this, so that kernels see full tiles.
constexpr uint64_t kRowGranularity = 16;
// Neighbours this close are read in one go: reading the gap costs less than another request.
constexpr uint64_t kMaxGapBytes = 32 * kKiB;

uint64_t PieceOffsetBytes(const MatrixPiece& piece) {
  return piece.tensor->offset_bytes +
         piece.first_row * RowBytes(piece.tensor->dtype, piece.tensor->columns());
}

uint64_t PieceBytes(const MatrixPiece& piece) {
  return piece.rows * RowBytes(piece.tensor->dtype, piece.tensor->columns());
}

// How many of the `left` rows go into a block that has `room_bytes` left to its target size and
// `most_bytes` to what it may not exceed.
uint64_t RowsThatFit(uint64_t left, uint64_t row_bytes, uint64_t room_bytes, uint64_t most_bytes,
                     bool block_is_empty) {
  if (left * row_bytes <= most_bytes) return left;  // no sliver for the next block
  const uint64_t rows = AlignDown(room_bytes / row_bytes, kRowGranularity);
  if (rows > 0 || !block_is_empty) return rows;
  return std::min(left, kRowGranularity);
}

// Orders the block's pieces by file position, merges neighbours into segments and gives each piece
// its place in memory.
void LayOutBlock(std::vector<MatrixPiece*> pieces, const CutOptions& options, Block* block) {
  std::sort(pieces.begin(), pieces.end(), [](const MatrixPiece* a, const MatrixPiece* b) {
    if (a->tensor->file != b->tensor->file) return a->tensor->file < b->tensor->file;
    return PieceOffsetBytes(*a) < PieceOffsetBytes(*b);
  });
  uint64_t memory_bytes = 0;
  for (MatrixPiece* piece : pieces) {
    const uint64_t alignment = options.file_alignment_bytes[piece->tensor->file];
    const uint64_t begin = PieceOffsetBytes(*piece);
    const uint64_t end = begin + PieceBytes(*piece);
    Segment* last = block->segments.empty() ? nullptr : &block->segments.back();
    const bool joins = last != nullptr && last->file == piece->tensor->file &&
                       begin <= last->offset_bytes + last->required_bytes + kMaxGapBytes;
    if (!joins) {
      block->segments.push_back({.file = piece->tensor->file,
                                 .offset_bytes = AlignDown(begin, alignment),
                                 .memory_offset_bytes = AlignUp(memory_bytes, alignment)});
      last = &block->segments.back();
    }
    last->required_bytes = end - last->offset_bytes;
    last->bytes = AlignUp(last->required_bytes, alignment);
    memory_bytes = last->memory_offset_bytes + last->bytes;
    piece->memory_offset_bytes = last->memory_offset_bytes + (begin - last->offset_bytes);
    block->payload_bytes += end - begin;
  }
  block->memory_bytes = memory_bytes;
}

std::string PieceLabel(const MatrixPiece& piece) {
  if (piece.rows == piece.tensor->rows()) return piece.tensor->name;
  return absl::StrCat(piece.tensor->name, "[", piece.first_row, ":", piece.first_row + piece.rows,
                      "]");
}

std::vector<MatrixPiece> CutTogether(absl::Span<const TensorInfo* const> matrices,
                                     const CutOptions& options, std::vector<Block>* blocks) {
  uint64_t total_bytes = 0;
  for (const TensorInfo* matrix : matrices) total_bytes += matrix->bytes;
  const uint64_t count = std::max<uint64_t>(1, CeilDiv(total_bytes, options.block_bytes));
  const uint64_t target_bytes = CeilDiv(total_bytes, count);

  std::vector<MatrixPiece> pieces;
  const auto first_block = static_cast<BlockId>(blocks->size());
  BlockId block = first_block;
  uint64_t filled_bytes = 0;
  for (const TensorInfo* matrix : matrices) {
    const uint64_t row_bytes = RowBytes(matrix->dtype, matrix->columns());
    uint64_t row = 0;
    while (row < matrix->rows()) {
      const uint64_t room = target_bytes > filled_bytes ? target_bytes - filled_bytes : 0;
      const uint64_t most_bytes = target_bytes + target_bytes / 8;
      const uint64_t room_at_most = most_bytes > filled_bytes ? most_bytes - filled_bytes : 0;
      const uint64_t rows =
          RowsThatFit(matrix->rows() - row, row_bytes, room, room_at_most, filled_bytes == 0);
      if (rows == 0) {
        ++block;
        filled_bytes = 0;
        continue;
      }
      pieces.push_back({matrix, static_cast<uint32_t>(row), static_cast<uint32_t>(rows), block, 0});
      filled_bytes += rows * row_bytes;
      row += rows;
    }
  }

  std::vector<std::vector<MatrixPiece*>> by_block(block - first_block + 1);
  for (MatrixPiece& piece : pieces) by_block[piece.block - first_block].push_back(&piece);
  for (const std::vector<MatrixPiece*>& members : by_block) {
    WEIR_CHECK(!members.empty());
    Block made;
    made.label = PieceLabel(*members.front());
    if (members.size() > 1) absl::StrAppend(&made.label, " .. ", PieceLabel(*members.back()));
    LayOutBlock(members, options, &made);
    blocks->push_back(std::move(made));
  }
  return pieces;
}

}  // namespace

std::vector<MatrixPiece> CutMatrices(const std::vector<const TensorInfo*>& matrices,
                                     const CutOptions& options, std::vector<Block>* blocks) {
  if (!options.separates_matrices) return CutTogether(matrices, options, blocks);
  std::vector<MatrixPiece> pieces;
  for (const TensorInfo* const& matrix : matrices) {
    const std::vector<MatrixPiece> own = CutTogether({&matrix, 1}, options, blocks);
    pieces.insert(pieces.end(), own.begin(), own.end());
  }
  return pieces;
}

}  // namespace weir
