#include "models/bpe_tokenizer.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "models/printable.h"
#include "models/utf8.h"

namespace weir {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFFu;

// GPT-2's alphabet: the 188 printable characters of Latin-1 stand for their own byte, the other 68
// bytes, in ascending order, for U+0100 onwards (openai/gpt-2, encoder.py: bytes_to_unicode).
bool IsPrintableLatin1(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

constexpr uint32_t kFirstOther = 0x100;
constexpr uint32_t kOtherCount = 68;

struct ByteAlphabet {
  std::array<std::string, 256> text_of_byte;
  std::array<uint8_t, kOtherCount> byte_of_other{};
};

ByteAlphabet MakeByteAlphabet() {
  ByteAlphabet alphabet;
  uint32_t others = 0;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t code_point = byte;
    if (!IsPrintableLatin1(byte)) {
      alphabet.byte_of_other[others] = static_cast<uint8_t>(byte);
      code_point = kFirstOther + others++;
    }
    AppendUtf8(code_point, &alphabet.text_of_byte[byte]);
  }
  WEIR_CHECK(others == kOtherCount);
  return alphabet;
}

const ByteAlphabet& Alphabet() {
  static const ByteAlphabet& alphabet = *new ByteAlphabet(MakeByteAlphabet());
  return alphabet;
}

}  // namespace

MergeTable::MergeTable(size_t expected_merges) {
  size_t slots = 16;
  while (slots < expected_merges + expected_merges / 2) slots *= 2;
  pairs_.resize(slots);
  merges_.resize(slots, Merge{.rank = kNoRank, .result = 0});
}

size_t MergeTable::Slot(uint64_t pair) const {
  // Seeded anew in each process: a file cannot choose pairs that all fall on one slot.
  return absl::Hash<uint64_t>()(pair) & (pairs_.size() - 1);
}

void MergeTable::Add(SymbolId left, SymbolId right, Merge merge) {
  const uint64_t pair = uint64_t{left} << 32 | right;
  size_t slot = Slot(pair);
  while (merges_[slot].rank != kNoRank) {
    if (pairs_[slot] == pair) return;
    slot = (slot + 1) & (pairs_.size() - 1);
  }
  pairs_[slot] = pair;
  merges_[slot] = merge;
}

const Merge* MergeTable::Find(SymbolId left, SymbolId right) const {
  const uint64_t pair = uint64_t{left} << 32 | right;
  size_t slot = Slot(pair);
  while (merges_[slot].rank != kNoRank) {
    if (pairs_[slot] == pair) return &merges_[slot];
    slot = (slot + 1) & (pairs_.size() - 1);
  }
  return nullptr;
}

uint64_t MergeTable::heap_bytes() const {
  return pairs_.capacity() * sizeof(uint64_t) + merges_.capacity() * sizeof(Merge);
}

// Two neighbours that may merge.
struct BpeTokenizer::Candidate {
  uint32_t rank = 0;
  uint32_t left = 0;  // index of the left symbol
  SymbolId left_symbol = 0;
  SymbolId right_symbol = 0;
  SymbolId result = 0;

  // Heap order: the lowest rank on top, among equals the leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

// Symbols of the piece at hand as a linked list over arrays, kept between pieces.
struct BpeTokenizer::Scratch {
  std::vector<SymbolId> symbols;  // kNone: merged into the one before it
  std::vector<uint32_t> previous;
  std::vector<uint32_t> next;
  std::vector<Candidate> heap;
};

BpeTokenizer::BpeTokenizer(Vocabulary vocabulary, const PreTokenizerInfo& info,
                           PreTokenizer pre_tokenizer, size_t merges)
    : VocabularyTokenizer(std::move(vocabulary)),
      pre_name_(info.name),
      ignores_merges_(info.ignores_merges),
      pre_tokenizer_(std::move(pre_tokenizer)),
      merges_(merges) {}

absl::StatusOr<std::unique_ptr<Tokenizer>> BpeTokenizer::Make(Metadata& metadata) {
  WEIR_ASSIGN_OR_RETURN(const std::string name,
                        metadata.GetStringOr("tokenizer.ggml.pre", "default"));
  const PreTokenizerInfo* info = FindPreTokenizer(name);
  if (info == nullptr) {
    return absl::UnimplementedError(absl::StrCat(
        metadata.source, ": tokenizer.ggml.pre is \"", Printable(name),
        "\", a pre-tokenizer that weir does not know. Known ones: ", KnownPreTokenizers(), "."));
  }
  const std::unique_ptr<MetadataValue> value = metadata.Take("tokenizer.ggml.merges");
  const StringTable* merges = value == nullptr ? nullptr : std::get_if<StringTable>(value.get());
  if (merges == nullptr || merges->size() >= MergeTable::kNoRank) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata.source, ": byte-level BPE needs tokenizer.ggml.merges, an array of strings; ",
        value == nullptr ? "the file has none" : "the file's is something else",
        ". Convert or download the file again."));
  }
  VocabularyDefaults defaults;
  if (info->has_default_begin) defaults.begin = 11;  // llama.cpp's defaults for this kind
  defaults.end = 11;
  defaults.add_begin = info->adds_begin;
  WEIR_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Make(metadata, defaults));
  WEIR_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Make(*info));
  std::unique_ptr<BpeTokenizer> tokenizer(
      new BpeTokenizer(std::move(vocabulary), *info, std::move(pre_tokenizer), merges->size()));
  WEIR_RETURN_IF_ERROR(tokenizer->AddMerges(metadata.source, *merges));
  return tokenizer;
}

absl::Status BpeTokenizer::AddMerges(const std::string& source, const StringTable& merges) {
  absl::flat_hash_map<std::string, SymbolId> extras;
  const auto symbol_of = [&](std::string_view text) -> SymbolId {
    if (const auto id = vocabulary().Find(text)) return static_cast<SymbolId>(*id);
    const auto [it, is_new] =
        extras.try_emplace(std::string(text), size() + static_cast<SymbolId>(extra_texts_.size()));
    if (is_new) extra_texts_.Add(text);
    return it->second;
  };
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_symbols_[byte] = symbol_of(Alphabet().text_of_byte[byte]);
  }
  std::string joined;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view line = merges[i];
    const size_t space = line.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == line.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": tokenizer.ggml.merges[", i, "] is \"", Printable(line),
          "\", not two texts with a space between them. Convert or download the file again."));
    }
    const std::string_view left = line.substr(0, space);
    const std::string_view right = line.substr(space + 1);
    joined.assign(left).append(right);
    merges_.Add(symbol_of(left), symbol_of(right),
                {.rank = static_cast<uint32_t>(i), .result = symbol_of(joined)});
  }
  extra_texts_.ShrinkToFit();
  return absl::OkStatus();
}

void BpeTokenizer::EncodePlain(std::string_view text, bool /*starts_words*/,
                               std::vector<TokenId>* ids) const {
  Scratch scratch;
  size_t begin = 0;
  for (const size_t end : pre_tokenizer_.Split(text)) {
    EncodePiece(text.substr(begin, end - begin), &scratch, ids);
    begin = end;
  }
}

void BpeTokenizer::EncodePiece(std::string_view piece, Scratch* scratch,
                               std::vector<TokenId>* ids) const {
  if (ignores_merges_ && piece.size() <= vocabulary().max_token_bytes()) {
    std::string text;
    for (const char c : piece) text += Alphabet().text_of_byte[static_cast<unsigned char>(c)];
    if (const auto id = vocabulary().Find(text)) {
      ids->push_back(*id);
      return;
    }
  }
  const uint32_t count = static_cast<uint32_t>(piece.size());
  scratch->symbols.resize(count);
  scratch->previous.resize(count);
  scratch->next.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    scratch->symbols[i] = byte_symbols_[static_cast<unsigned char>(piece[i])];
    scratch->previous[i] = i == 0 ? kNone : i - 1;
    scratch->next[i] = i + 1 == count ? kNone : i + 1;
  }
  MergeSymbols(scratch);
  for (uint32_t i = 0; i != kNone; i = scratch->next[i]) AppendSymbol(scratch->symbols[i], ids);
}

void BpeTokenizer::PushCandidate(uint32_t left, Scratch* scratch) const {
  const uint32_t right = scratch->next[left];
  if (right == kNone) return;
  const SymbolId left_symbol = scratch->symbols[left];
  const SymbolId right_symbol = scratch->symbols[right];
  const Merge* merge = merges_.Find(left_symbol, right_symbol);
  if (merge == nullptr) return;
  scratch->heap.push_back({.rank = merge->rank,
                           .left = left,
                           .left_symbol = left_symbol,
                           .right_symbol = right_symbol,
                           .result = merge->result});
  std::push_heap(scratch->heap.begin(), scratch->heap.end());
}

void BpeTokenizer::MergeSymbols(Scratch* scratch) const {
  auto& [symbols, previous, next, heap] = *scratch;
  heap.clear();
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) PushCandidate(i, scratch);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate candidate = heap.back();
    heap.pop_back();
    const uint32_t left = candidate.left;
    // Either neighbour may have merged with another since.
    if (symbols[left] != candidate.left_symbol) continue;
    const uint32_t right = next[left];
    if (right == kNone || symbols[right] != candidate.right_symbol) continue;
    symbols[left] = candidate.result;
    symbols[right] = kNone;
    next[left] = next[right];
    if (next[left] != kNone) previous[next[left]] = left;
    if (previous[left] != kNone) PushCandidate(previous[left], scratch);
    PushCandidate(left, scratch);
  }
}

void BpeTokenizer::AppendSymbol(SymbolId symbol, std::vector<TokenId>* ids) const {
  if (symbol < size()) {
    ids->push_back(static_cast<TokenId>(symbol));
    return;
  }
  // No token: as llama.cpp does, the bytes of its text that are tokens, and nothing for the others.
  const std::string_view text = extra_texts_[symbol - size()];
  for (size_t i = 0; i < text.size(); ++i) {
    if (const auto id = vocabulary().Find(text.substr(i, 1))) ids->push_back(*id);
  }
}

void BpeTokenizer::AppendNormalBytes(std::string_view token_text, std::string* bytes) const {
  while (!token_text.empty()) {
    const Utf8Char c = DecodeUtf8(token_text);
    const size_t length = std::max<size_t>(c.bytes, 1);
    if (c.bytes != 0 && IsPrintableLatin1(c.code_point)) {
      bytes->push_back(static_cast<char>(c.code_point));
    } else if (c.code_point >= kFirstOther && c.code_point < kFirstOther + kOtherCount) {
      bytes->push_back(static_cast<char>(Alphabet().byte_of_other[c.code_point - kFirstOther]));
    } else {
      bytes->append(token_text.substr(0, length));  // outside the alphabet: itself
    }
    token_text.remove_prefix(length);
  }
}

std::string BpeTokenizer::description() const {
  return absl::StrCat("byte-level BPE, ", AbslView(pre_name_), ", ", size(), " tokens");
}

}  // namespace weir
