#include "engine/block_cutter.h"

#include <algorithm>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "io/base.h"
#include "kernels/dtype.h"

namespace weir {
namespace {

constexpr uint64_t kMaxGapBytes = 32 * kKiB;

// Matrices that follow each other in one of two files, with gaps of many sizes between them.
std::vector<TensorInfo> RandomMatrices(std::mt19937_64& random) {
  const DType dtypes[] = {DType::kF32, DType::kF16, DType::kQ4_0, DType::kQ8_0, DType::kQ6_K};
  std::vector<TensorInfo> matrices(1 + random() % 9);
  uint64_t end_bytes[2] = {random() % 5000, random() % 5000};
  for (size_t i = 0; i < matrices.size(); ++i) {
    TensorInfo& matrix = matrices[i];
    matrix.name = absl::StrCat("m", i);
    matrix.dtype = dtypes[random() % 5];
    const uint64_t rows = random() % 4 == 0 ? 1 + random() % 20 : 1 + random() % 3000;
    matrix.dims = {256 * (1 + random() % 4), rows};
    matrix.file = static_cast<uint32_t>(random() % 4 == 0);
    const uint64_t gap = random() % 3 == 0 ? random() % 100000 : 0;
    matrix.offset_bytes = AlignUp(end_bytes[matrix.file] + gap, 32);
    matrix.bytes = rows * RowBytes(matrix.dtype, matrix.columns());
    end_bytes[matrix.file] = matrix.offset_bytes + matrix.bytes;
  }
  // Used in another order than stored.
  std::shuffle(matrices.begin(), matrices.end(), random);
  return matrices;
}

uint64_t BytesOf(const MatrixPiece& piece) {
  return piece.rows * RowBytes(piece.tensor->dtype, piece.tensor->columns());
}

void ExpectRowsCoveredOnceInOrder(const std::vector<const TensorInfo*>& matrices,
                                  const std::vector<MatrixPiece>& pieces) {
  size_t at = 0;
  for (const TensorInfo* matrix : matrices) {
    uint64_t row = 0;
    while (row < matrix->rows()) {
      ASSERT_LT(at, pieces.size());
      ASSERT_EQ(pieces[at].tensor, matrix);
      ASSERT_EQ(pieces[at].first_row, row);
      ASSERT_GT(pieces[at].rows, 0u);
      EXPECT_EQ(row % 16, 0u) << "kernels see full tiles";
      if (at > 0) {
        EXPECT_GE(pieces[at].block, pieces[at - 1].block);
      }
      row += pieces[at].rows;
      ++at;
    }
    ASSERT_EQ(row, matrix->rows());
  }
  EXPECT_EQ(at, pieces.size());
}

void ExpectSegmentsAligned(const Block& block, const CutOptions& options) {
  uint64_t memory_end = 0;
  for (const Segment& segment : block.segments) {
    const uint64_t alignment = options.file_alignment_bytes[segment.file];
    EXPECT_EQ(segment.offset_bytes % alignment, 0u);
    EXPECT_EQ(segment.bytes % alignment, 0u);
    EXPECT_EQ(segment.memory_offset_bytes % alignment, 0u);
    EXPECT_LE(segment.required_bytes, segment.bytes);
    EXPECT_LT(segment.bytes - segment.required_bytes, alignment);
    EXPECT_GE(segment.memory_offset_bytes, memory_end);
    memory_end = segment.memory_offset_bytes + segment.bytes;
  }
  EXPECT_EQ(block.memory_bytes, memory_end);
  // What is near in a file is one segment.
  for (size_t i = 1; i < block.segments.size(); ++i) {
    const Segment& before = block.segments[i - 1];
    if (before.file != block.segments[i].file) continue;
    EXPECT_GT(block.segments[i].offset_bytes + options.file_alignment_bytes[before.file],
              before.offset_bytes + before.required_bytes + kMaxGapBytes);
  }
}

// Every byte of the piece comes from exactly the place of the file where its rows are.
void ExpectPieceInItsSegment(const MatrixPiece& piece, const Block& block) {
  const uint64_t row_bytes = RowBytes(piece.tensor->dtype, piece.tensor->columns());
  for (const Segment& segment : block.segments) {
    if (piece.memory_offset_bytes < segment.memory_offset_bytes ||
        piece.memory_offset_bytes >= segment.memory_offset_bytes + segment.bytes) {
      continue;
    }
    EXPECT_EQ(segment.file, piece.tensor->file);
    const uint64_t in_segment = piece.memory_offset_bytes - segment.memory_offset_bytes;
    EXPECT_EQ(segment.offset_bytes + in_segment,
              piece.tensor->offset_bytes + piece.first_row * row_bytes);
    EXPECT_LE(in_segment + BytesOf(piece), segment.required_bytes);
    return;
  }
  ADD_FAILURE() << "a piece outside every segment";
}

TEST(BlockCutter, RandomShapes) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const std::vector<TensorInfo> tensors = RandomMatrices(random);
    std::vector<const TensorInfo*> matrices;
    uint64_t total_bytes = 0;
    for (const TensorInfo& tensor : tensors) {
      matrices.push_back(&tensor);
      total_bytes += tensor.bytes;
    }
    const CutOptions options = {.block_bytes = (64 + random() % 2000) * kKiB,
                                .file_alignment_bytes = {4096, 512}};
    std::vector<Block> blocks(3);  // those of other groups stay as they are
    const std::vector<MatrixPiece> pieces = CutMatrices(matrices, options, &blocks);
    ASSERT_NO_FATAL_FAILURE(ExpectRowsCoveredOnceInOrder(matrices, pieces));
    std::vector<uint64_t> payload(blocks.size());
    for (const MatrixPiece& piece : pieces) {
      ASSERT_GE(piece.block, 3u);
      ASSERT_LT(piece.block, blocks.size());
      ExpectPieceInItsSegment(piece, blocks[piece.block]);
      payload[piece.block] += BytesOf(piece);
    }
    for (size_t i = 3; i < blocks.size(); ++i) {
      ExpectSegmentsAligned(blocks[i], options);
      EXPECT_EQ(blocks[i].payload_bytes, payload[i]);
      EXPECT_FALSE(blocks[i].label.empty());
      // Or one tile of the widest rows, where that alone is more.
      EXPECT_LE(payload[i], std::max<uint64_t>(options.block_bytes * 9 / 8, 16 * 1024 * 4));
    }
    EXPECT_LE(blocks.size() - 3, 2 * CeilDiv(total_bytes, options.block_bytes) + 1);
  }
}

TEST(BlockCutter, MatricesOfALayerThatFitMakeOneBlockWithOneSegment) {
  std::vector<TensorInfo> tensors(3);
  std::vector<const TensorInfo*> matrices;
  uint64_t offset = 1000;
  for (TensorInfo& tensor : tensors) {
    tensor.dtype = DType::kF32;
    tensor.dims = {64, 16};
    tensor.offset_bytes = offset;
    tensor.bytes = 64 * 16 * 4;
    offset += tensor.bytes + 256;  // a norm in between
    matrices.push_back(&tensor);
  }
  std::vector<Block> blocks;
  const auto pieces =
      CutMatrices(matrices, {.block_bytes = kMiB, .file_alignment_bytes = {4096}}, &blocks);
  ASSERT_EQ(blocks.size(), 1u);
  ASSERT_EQ(blocks[0].segments.size(), 1u);
  EXPECT_EQ(blocks[0].segments[0].offset_bytes, 0u);
  EXPECT_EQ(blocks[0].segments[0].required_bytes, offset - 256);
  EXPECT_EQ(pieces[0].memory_offset_bytes, 1000u);

  std::vector<Block> apart;
  const auto own_pieces = CutMatrices(
      matrices, {.block_bytes = kMiB, .separates_matrices = true, .file_alignment_bytes = {4096}},
      &apart);
  ASSERT_EQ(apart.size(), 3u) << "each by itself";
  ASSERT_EQ(own_pieces.size(), 3u);
  for (BlockId block = 0; block < 3; ++block) {
    EXPECT_EQ(own_pieces[block].block, block);
    EXPECT_EQ(apart[block].payload_bytes, tensors[block].bytes);
  }
}

}  // namespace
}  // namespace weir
