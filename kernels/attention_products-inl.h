// Keys times queries and values times weights, of one tile of positions: what of the CPU's
// attention reads the pages (kernels/attention_tile.cc).
#if defined(WEIR_KERNELS_ATTENTION_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WEIR_KERNELS_ATTENTION_PRODUCTS_INL_H_
#undef WEIR_KERNELS_ATTENTION_PRODUCTS_INL_H_
#else
#define WEIR_KERNELS_ATTENTION_PRODUCTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/attention_tile.h"
#include "kernels/kv_rows.h"

HWY_BEFORE_NAMESPACE();
namespace weir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using hwy::float16_t;

using F32 = hn::ScalableTag<float>;
constexpr uint32_t kLanes = hn::MaxLanes(F32());
constexpr uint32_t kMostRows = kLanes >= 16 ? 8 : 6;  // share each key and value
constexpr uint32_t kRegisters = kLanes >= 16 ? 32 : 16;

// Vectors of keys or values that rows share at once: they, the sums and a weight fit the registers.
// (Three rows by four vectors would fill the 16 of AVX2 to the last, and spill.)
template <uint32_t kRows>
constexpr uint32_t VectorsFor() {
  return 4 * kRows + 4 < kRegisters ? 4 : 2;
}

// kLanes halves.
HWY_INLINE hn::Vec<F32> Widen(const uint8_t* from) {
  const hn::Rebind<float16_t, F32> dh;
  return hn::PromoteTo(F32(), hn::LoadU(dh, reinterpret_cast<const float16_t*>(from)));
}

// `count` halves, fewer than kLanes, and zeros.
HWY_INLINE hn::Vec<F32> WidenSome(const uint8_t* from, uint32_t count) {
  alignas(64) uint8_t halves[2 * kLanes] = {};
  std::copy_n(from, 2 * count, halves);
  return Widen(halves);
}

// kLanes times the half at `from`.
HWY_INLINE hn::Vec<F32> WidenOne(const uint8_t* from) {
  const hn::Rebind<uint16_t, F32> du;
  uint16_t bits;
  memcpy(&bits, from, sizeof(bits));
  return hn::PromoteTo(F32(), hn::BitCast(hn::Rebind<float16_t, F32>(), hn::Set(du, bits)));
}

// kLanes codes of 8 bits.
HWY_INLINE hn::Vec<F32> WidenCodes(const uint8_t* from) {
  const hn::Rebind<int8_t, F32> d8;
  const auto codes = hn::LoadU(d8, reinterpret_cast<const int8_t*>(from));
  return hn::ConvertTo(F32(), hn::PromoteTo(hn::RebindToSigned<F32>(), codes));
}

// Where the keys and values of a tile's positions lie. Positions outside [begin, end) stand for
// nothing: they repeat the nearest, and what comes of them is never used.
constexpr uint32_t kTileBlocks = kTilePositions / kKeyBlock;
struct TileRows {
  const uint8_t* keys[kTileBlocks];
  const uint8_t* value[kTilePositions];
};

inline void FindTileRows(const KvRows& kv, uint32_t tile, uint32_t begin, uint32_t end,
                         TileRows& rows) {
  const KvLayout& layout = kv.layout;
  for (uint32_t block = 0; block < kTileBlocks; ++block) {
    rows.keys[block] = kv.Keys(std::clamp(tile + block * kKeyBlock, begin, end - 1));
  }
  const uint64_t value_bytes = ValueRowBytes(layout);
  for (uint32_t p = begin; p < end;) {
    // Up to the end of a page, values lie at even distances.
    const uint32_t page_end = (p / layout.page_tokens + 1) * layout.page_tokens;
    const uint8_t* value = kv.Value(p);
    for (const uint32_t stop = std::min(end, page_end); p < stop; ++p) {
      rows.value[p - tile] = value;
      value += value_bytes;
    }
  }
  std::fill(rows.value, rows.value + (begin - tile), rows.value[begin - tile]);
  std::fill(rows.value + (end - tile), rows.value + kTilePositions, rows.value[end - 1 - tile]);
}

// Asks for a tile's keys and values a line at a time, so that what computes can spread its calls:
// asked for all at once they keep the core waiting for room to note them.
class Prefetcher {
 public:
  Prefetcher(const TileRows& tile, const KvLayout& layout) {
    for (uint32_t b = 0; b < kTileBlocks; ++b) {
      Add(tile.keys[b], KeyRowBytes(layout));
      Add(tile.value[b * kKeyBlock], ValueRowBytes(layout));
    }
  }
  // Always inlined (kernels/prefetch-inl.h says why).
  HWY_INLINE void Step() {
    if (span_ == spans_) return;
    __builtin_prefetch(begin_[span_] + at_, 0, 1);
    at_ += 64;
    if (at_ >= bytes_[span_]) {
      at_ = 0;
      ++span_;
    }
  }

 private:
  void Add(const uint8_t* from, uint64_t row_bytes) {
    begin_[spans_] = from;
    bytes_[spans_++] = row_bytes * kKeyBlock;
  }
  uint32_t spans_ = 0, span_ = 0;
  uint64_t at_ = 0;
  const uint8_t* begin_[2 * kTileBlocks];
  uint64_t bytes_[2 * kTileBlocks];
};

// Calls fn.operator()<kRows>() with kRows = rows, 1 to kMostRows.
template <uint32_t kRows = kMostRows, typename Fn>
HWY_INLINE void WithRows(uint32_t rows, const Fn& fn) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return WithRows<kRows - 1>(rows, fn);
  }
  fn.template operator()<kRows>();
}

// Keys or values of kVectors vectors that are read between two calls of Prefetcher::Step, or, where
// one is longer than a line of the cache, the calls for each: as many lines are asked for as read.
template <uint32_t kVectors, KvFormat kFormat>
struct Pace {
  static constexpr uint32_t kBytes = kVectors * kLanes * (kFormat == KvFormat::kQ8_0 ? 1 : 2);
  static constexpr uint32_t kReads = kBytes < 64 ? 64 / kBytes : 1;
  static constexpr uint32_t kSteps = kBytes > 64 ? kBytes / 64 : 1;
};

// Calls fn(i) for i in [begin, end), and next.Step() meanwhile.
template <typename kPace, typename Fn>
HWY_INLINE void ForPaced(uint64_t begin, uint64_t end, Prefetcher& next, const Fn& fn) {
  for (; begin + kPace::kReads <= end; begin += kPace::kReads) {
    for (uint32_t s = 0; s < kPace::kSteps; ++s) next.Step();
    for (uint32_t i = 0; i < kPace::kReads; ++i) fn(begin + i);
  }
  for (; begin < end; ++begin) fn(begin);
}

// scores[r, j] = sum over columns, in their order, of query[r] * key[j], for kVectors vectors of
// positions from `j` on. A code times its scale is exact in float32.
template <uint32_t kRows, uint32_t kVectors, KvFormat kFormat>
void ScorePositions(const AttentionRow* rows, uint32_t columns, const TileRows& tile,
                    Prefetcher& next, uint32_t j, float* scores) {
  const F32 d;
  constexpr bool kCodes = kFormat == KvFormat::kQ8_0;
  constexpr uint64_t kBytes = kCodes ? 1 : 2;
  const uint8_t* key[kVectors];
  const uint8_t* scales[kVectors];
  for (uint32_t u = 0; u < kVectors; ++u) {
    const uint32_t position = j + u * kLanes;
    const uint8_t* const block = tile.keys[position / kKeyBlock];
    key[u] = block + kBytes * (position % kKeyBlock);
    scales[u] = block + uint64_t{columns} * kKeyBlock + 2 * (position % kKeyBlock);
  }
  hn::Vec<F32> sum[kRows][kVectors];
  for (auto& row : sum) {
    for (auto& v : row) v = hn::Zero(d);
  }
  const uint64_t group = kCodes ? kKvGroup : columns;
  for (uint64_t c = 0; c < columns; c += group) {
    hn::Vec<F32> scale[kVectors];
    if constexpr (kCodes) {
      for (uint32_t u = 0; u < kVectors; ++u) {
        scale[u] = Widen(scales[u] + c / kKvGroup * 2 * kKeyBlock);
      }
    }
    ForPaced<Pace<kVectors, kFormat>>(c, c + group, next, [&](uint64_t column) HWY_ATTR {
      hn::Vec<F32> k[kVectors];
      for (uint32_t u = 0; u < kVectors; ++u) {
        const uint8_t* const from = key[u] + column * kKeyBlock * kBytes;
        if constexpr (kCodes) {
          k[u] = hn::Mul(WidenCodes(from), scale[u]);
        } else {
          k[u] = Widen(from);
        }
      }
      for (uint32_t r = 0; r < kRows; ++r) {
        const auto q = hn::Set(d, rows[r].query[column]);
        for (uint32_t u = 0; u < kVectors; ++u) sum[r][u] = hn::MulAdd(q, k[u], sum[r][u]);
      }
    });
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      hn::StoreU(sum[r][u], d, scores + r * kTilePositions + j + u * kLanes);
    }
  }
}

// The columns from `column` on of a row of `columns` values, kVectors vectors, of which the last
// holds `last_columns`.
template <uint32_t kVectors, KvFormat kFormat>
HWY_INLINE void LoadValues(const uint8_t* row, uint32_t columns, uint32_t column,
                           uint32_t last_columns, hn::Vec<F32>* v) {
  if constexpr (kFormat == KvFormat::kQ8_0) {  // whole groups: always whole vectors
    for (uint32_t u = 0; u < kVectors; ++u) {
      const uint32_t c = column + u * kLanes;
      v[u] = hn::Mul(WidenCodes(row + c), WidenOne(row + columns + c / kKvGroup * 2));
    }
  } else {
    const uint8_t* const from = row + uint64_t{2} * column;
    for (uint32_t u = 0; u + 1 < kVectors; ++u) v[u] = Widen(from + uint64_t{2} * u * kLanes);
    const uint8_t* const last = from + uint64_t{2} * (kVectors - 1) * kLanes;
    v[kVectors - 1] = last_columns == kLanes ? Widen(last) : WidenSome(last, last_columns);
  }
}

// weighted[r] += sum over j in [begin, end), in order, of scores[r, j] * value[j], for kVectors
// vectors of columns, of which the last holds `last_columns`.
template <uint32_t kRows, uint32_t kVectors, KvFormat kFormat>
void WeighColumns(SoftmaxState* state, const float* scores, uint32_t columns, const TileRows& tile,
                  Prefetcher& next, uint32_t column, uint32_t last_columns, uint32_t begin,
                  uint32_t end) {
  const F32 d;
  hn::Vec<F32> sum[kRows][kVectors];
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      sum[r][u] = hn::LoadU(d, state[r].weighted + column + u * kLanes);
    }
  }
  ForPaced<Pace<kVectors, kFormat>>(begin, end, next, [&](uint64_t j) HWY_ATTR {
    hn::Vec<F32> v[kVectors];
    LoadValues<kVectors, kFormat>(tile.value[j], columns, column, last_columns, v);
    for (uint32_t r = 0; r < kRows; ++r) {
      const auto p = hn::Set(d, scores[r * kTilePositions + j]);
      for (uint32_t u = 0; u < kVectors; ++u) sum[r][u] = hn::MulAdd(p, v[u], sum[r][u]);
    }
  });
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t u = 0; u < kVectors; ++u) {
      hn::StoreU(sum[r][u], d, state[r].weighted + column + u * kLanes);
    }
  }
}

template <KvFormat kFormat>
void ScoreRowsIn(const AttentionRow* rows, uint32_t row_count, uint32_t columns,
                 const TileRows& tile, Prefetcher& next, uint32_t begin, uint32_t end,
                 float* scores) {
  WithRows(row_count, [&]<uint32_t kRows>() HWY_ATTR {
    constexpr uint32_t kPositions = VectorsFor<kRows>() * kLanes;
    for (uint32_t j = begin / kPositions * kPositions; j < end; j += kPositions) {
      ScorePositions<kRows, VectorsFor<kRows>(), kFormat>(rows, columns, tile, next, j, scores);
    }
  });
}

// Positions [begin, end) of a tile for up to kMostRows rows; asks for some of the next.
inline void ScoreRows(const AttentionRow* rows, uint32_t row_count, const KvLayout& layout,
                      const TileRows& tile, Prefetcher& next, uint32_t begin, uint32_t end,
                      float* scores) {
  const auto score = layout.formats.keys == KvFormat::kQ8_0 ? &ScoreRowsIn<KvFormat::kQ8_0>
                                                            : &ScoreRowsIn<KvFormat::kF16>;
  score(rows, row_count, layout.key_columns, tile, next, begin, end, scores);
}

template <KvFormat kFormat>
void WeighRowsIn(SoftmaxState* state, uint32_t row_count, uint32_t columns, const TileRows& tile,
                 Prefetcher& next, uint32_t begin, uint32_t end, const float* scores) {
  WithRows(row_count, [&]<uint32_t kRows>() HWY_ATTR {
    constexpr uint32_t kVectors = VectorsFor<kRows>();
    uint32_t c = 0;
    for (; c + kVectors * kLanes <= columns; c += kVectors * kLanes) {
      WeighColumns<kRows, kVectors, kFormat>(state, scores, columns, tile, next, c, kLanes, begin,
                                             end);
    }
    for (; c < columns; c += kLanes) {
      WeighColumns<kRows, 1, kFormat>(state, scores, columns, tile, next, c,
                                      std::min(kLanes, columns - c), begin, end);
    }
  });
}

// All columns of up to kMostRows rows; asks for some of the next tile.
inline void WeighRows(SoftmaxState* state, uint32_t row_count, const KvLayout& layout,
                      const TileRows& tile, Prefetcher& next, uint32_t begin, uint32_t end,
                      const float* scores) {
  const auto weigh = layout.formats.values == KvFormat::kQ8_0 ? &WeighRowsIn<KvFormat::kQ8_0>
                                                              : &WeighRowsIn<KvFormat::kF16>;
  weigh(state, row_count, layout.value_columns, tile, next, begin, end, scores);
}

}  // namespace weir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
