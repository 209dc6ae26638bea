#include "tests/kernels/op_reference_helper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "kernels/cpu_device.h"
#include "tests/kernels/reference_helper.h"

namespace weir {

void RunOnCpu(uint32_t threads, const std::string& isa,
              const std::function<void(Stream&)>& enqueue) {
  CpuDeviceOptions options;
  options.threads = threads;
  options.isa = isa;
  auto device = MakeCpuDevice(options);
  ASSERT_TRUE(device.ok()) << device.status();
  const auto stream = (*device)->NewStream();
  enqueue(*stream);
  stream->Wait(stream->Record());
}

std::vector<float> RandomFloats(uint64_t count, uint64_t seed, float scale) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

double ReferenceNearestHalf(float value) {
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude == 0) return value;
  // 11 significant bits; below 2^-14 the spacing stays 2^-24.
  const double spacing = std::ldexp(1.0, std::max(std::ilogb(magnitude), -14) - 10);
  const double rounded = std::nearbyint(magnitude / spacing) * spacing;
  return std::copysign(std::min(rounded, 65504.0), value);
}

ReferencePages::ReferencePages(const KvLayout& layout, uint32_t positions, uint64_t seed)
    : layout_(layout), pages_((positions + layout.page_tokens - 1) / layout.page_tokens) {
  const uint64_t page_bytes = KvPageBytes(layout) + 64;  // garbage between the pages
  memory_.assign(pages_ * page_bytes, 0x55);             // 0x5555 is 85.3: finite, and large
  std::vector<uint32_t> order(pages_);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  for (uint32_t page : order) table_.push_back(memory_.data() + page * page_bytes);
}

std::vector<uint64_t> ReferencePages::offsets() const {
  std::vector<uint64_t> offsets;
  for (const uint8_t* page : table_)
    offsets.push_back(static_cast<uint64_t>(page - memory_.data()));
  return offsets;
}

void ReferencePages::SetMemory(const std::vector<uint8_t>& memory) {
  ASSERT_EQ(memory.size(), memory_.size());
  std::copy(memory.begin(), memory.end(), memory_.begin());
}

// q8_0: 16 keys' codes column after column, then their scales; a row's codes, then its scales.
ReferencePages::Place ReferencePages::KeyPlace(uint32_t position, uint32_t kv_head,
                                               uint32_t column) const {
  const KvLayout& l = layout_;
  const uint64_t slot = position % l.page_tokens;
  if (l.order == KvOrder::kByToken) {
    return {0, 2 * ((slot * l.kv_heads + kv_head) * l.key_columns + column)};
  }
  const uint64_t block = (uint64_t{kv_head} * l.page_tokens + slot) / 16;  // [key_columns, 16]
  const uint64_t at = uint64_t{column} * 16 + slot % 16;
  if (l.formats.keys == KvFormat::kF16) return {0, 2 * (block * l.key_columns * 16 + at)};
  const uint64_t begin = block * 16 * (l.key_columns + l.key_columns / 32 * 2);
  return {begin + at, begin + l.key_columns * 16 + 2 * (column / 32 * 16 + slot % 16)};
}

ReferencePages::Place ReferencePages::ValuePlace(uint32_t position, uint32_t kv_head,
                                                 uint32_t column) const {
  const KvLayout& l = layout_;
  const bool key_codes = l.formats.keys == KvFormat::kQ8_0;
  const uint64_t key_bytes = key_codes ? l.key_columns + l.key_columns / 32 * 2 : 2 * l.key_columns;
  const uint64_t keys = uint64_t{l.page_tokens} * l.kv_heads * key_bytes;
  const uint64_t slot = position % l.page_tokens;
  const uint64_t row =
      l.order == KvOrder::kByToken ? slot * l.kv_heads + kv_head : kv_head * l.page_tokens + slot;
  if (l.formats.values == KvFormat::kF16) return {0, keys + 2 * (row * l.value_columns + column)};
  const uint64_t begin = keys + row * (l.value_columns + l.value_columns / 32 * 2);
  return {begin + column, begin + l.value_columns + column / 32 * 2};
}

ReferencePages::Element ReferencePages::At(uint32_t position, KvFormat format, Place place) const {
  Element element = {0, 1, 0};
  memcpy(&element.bits, Page(position) + place.half, 2);
  element.number = ReferenceHalf(element.bits);
  if (format == KvFormat::kF16) return element;
  element.scale = element.number;
  element.number *= static_cast<int8_t>(Page(position)[place.code]);
  return element;
}

ReferencePages::Element ReferencePages::Key(uint32_t position, uint32_t kv_head,
                                            uint32_t column) const {
  return At(position, layout_.formats.keys, KeyPlace(position, kv_head, column));
}

ReferencePages::Element ReferencePages::Value(uint32_t position, uint32_t kv_head,
                                              uint32_t column) const {
  return At(position, layout_.formats.values, ValuePlace(position, kv_head, column));
}

void ReferencePages::SetPosition(uint32_t position, uint16_t key_bits, uint16_t value_bits) {
  const auto set = [&](uint64_t half, uint16_t bits) { memcpy(Page(position) + half, &bits, 2); };
  for (uint32_t head = 0; head < layout_.kv_heads; ++head) {
    for (uint32_t c = 0; c < layout_.key_columns; ++c) {
      set(KeyPlace(position, head, c).half, key_bits);
    }
    for (uint32_t c = 0; c < layout_.value_columns; ++c) {
      set(ValuePlace(position, head, c).half, value_bits);
    }
  }
}

void ReferencePages::FillRandom(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto fill = [&](uint32_t position, KvFormat format, Place place) {
    const bool codes = format == KvFormat::kQ8_0;
    // Any sign and fraction, exponents 2^-5 to 2^-1; a scale 2^7 less.
    const uint64_t r = random();
    const uint64_t exponent = (codes ? 3 : 10) + (r >> 16) % 5;
    const uint16_t bits = static_cast<uint16_t>((r & (codes ? 0x3ff : 0x83ff)) | exponent << 10);
    memcpy(Page(position) + place.half, &bits, 2);
    if (codes) {
      Page(position)[place.code] = static_cast<uint8_t>(static_cast<int>((r >> 32) % 255) - 127);
    }
  };
  for (uint32_t position = 0; position < pages_ * layout_.page_tokens; ++position) {
    for (uint32_t head = 0; head < layout_.kv_heads; ++head) {
      for (uint32_t c = 0; c < layout_.key_columns; ++c) {
        fill(position, layout_.formats.keys, KeyPlace(position, head, c));
      }
      for (uint32_t c = 0; c < layout_.value_columns; ++c) {
        fill(position, layout_.formats.values, ValuePlace(position, head, c));
      }
    }
  }
}

ReferenceAttentionRow ReferenceAttention(const AttentionArgs& args, const ReferencePages& pages,
                                         uint32_t token, uint32_t head) {
  const KvLayout& l = args.layout;
  const uint32_t kv_head = head / (args.heads / l.kv_heads);
  const int64_t last = args.positions[token];
  const int64_t first = args.window == 0 ? 0 : std::max<int64_t>(0, last - args.window + 1);
  const float* query = args.queries + token * args.queries_stride + head * l.key_columns;
  ReferenceAttentionRow row{std::vector<double>(l.value_columns),
                            std::vector<double>(l.value_columns), 0,
                            static_cast<uint32_t>(last - first + 1)};
  std::vector<double> scores;
  for (int64_t p = first; p <= last; ++p) {
    double score = 0, magnitude = 0;
    for (uint32_t c = 0; c < l.key_columns; ++c) {
      const double product = query[c] * pages.Key(p, kv_head, c).number;
      score += product;
      magnitude += std::fabs(product);
    }
    score *= args.scale;
    if (args.soft_cap > 0) score = args.soft_cap * std::tanh(score / args.soft_cap);
    row.score_magnitude = std::max(row.score_magnitude, magnitude * args.scale);
    scores.push_back(score);
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - max);
  for (int64_t p = first; p <= last; ++p) {
    for (uint32_t c = 0; c < l.value_columns; ++c) {
      const double part = scores[p - first] / sum * pages.Value(p, kv_head, c).number;
      row.output[c] += part;
      row.magnitude[c] += std::fabs(part);
    }
  }
  return row;
}

}  // namespace weir
