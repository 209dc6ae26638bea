#include "models/spm_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "models/utf8.h"

namespace weir {
namespace {

constexpr uint32_t kNone = 0xFFFFFFFFu;

}  // namespace

std::string MarkSpaces(std::string_view text) {
  std::string marked;
  marked.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      marked += kSpaceMark;
    } else {
      marked += c;
    }
  }
  return marked;
}

void AppendUnmarked(std::string_view text, std::string* plain) {
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at, kSpaceMark.size()) == kSpaceMark) {
      *plain += ' ';
      at += kSpaceMark.size();
    } else {
      *plain += text[at++];
    }
  }
}

// A stretch of the text; those that are left over at the end become tokens.
struct SpmTokenizer::Symbol {
  uint32_t begin = 0;
  uint32_t bytes = 0;  // 0: merged into the one before it
  uint32_t previous = kNone;
  uint32_t next = kNone;
};

struct SpmTokenizer::Candidate {
  float score = 0;
  uint32_t left = 0;
  uint32_t right = 0;
  uint32_t bytes = 0;  // of both, when they met

  // Heap order: the best score on top, among equals the leftmost.
  bool operator<(const Candidate& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

struct SpmTokenizer::Scratch {
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

SpmTokenizer::SpmTokenizer(Vocabulary taken) : VocabularyTokenizer(std::move(taken)) {
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_tokens_[byte] = vocabulary().Find(ByteTokenText(static_cast<uint8_t>(byte)));
    if (!byte_tokens_[byte].has_value()) {
      const char text = static_cast<char>(byte);
      byte_tokens_[byte] = vocabulary().Find(std::string_view(&text, 1));
    }
    if (!byte_tokens_[byte].has_value()) byte_tokens_[byte] = vocabulary().unknown_token();
  }
}

absl::StatusOr<std::unique_ptr<Tokenizer>> SpmTokenizer::Make(Metadata& metadata) {
  VocabularyDefaults defaults;  // llama.cpp's for this kind
  defaults.unknown = 0;
  defaults.begin = 1;
  defaults.end = 2;
  defaults.add_begin = true;
  defaults.add_space_prefix = true;
  WEIR_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Make(metadata, defaults));
  return std::unique_ptr<Tokenizer>(new SpmTokenizer(std::move(vocabulary)));
}

void SpmTokenizer::EncodePlain(std::string_view text, bool starts_words,
                               std::vector<TokenId>* ids) const {
  std::string marked;
  if (starts_words && inserts_space()) marked = kSpaceMark;
  marked += MarkSpaces(text);
  Scratch scratch;
  auto& symbols = scratch.symbols;
  for (size_t at = 0; at < marked.size();) {
    const size_t bytes =
        std::min(Utf8LengthFromLead(static_cast<unsigned char>(marked[at])), marked.size() - at);
    const uint32_t index = static_cast<uint32_t>(symbols.size());
    symbols.push_back({.begin = static_cast<uint32_t>(at),
                       .bytes = static_cast<uint32_t>(bytes),
                       .previous = index == 0 ? kNone : index - 1,
                       .next = index + 1});
    at += bytes;
  }
  symbols.back().next = kNone;
  Merge(marked, &scratch);
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) {
    AppendText(std::string_view(marked).substr(symbols[i].begin, symbols[i].bytes), ids);
  }
}

void SpmTokenizer::PushCandidate(std::string_view text, uint32_t left, Scratch* scratch) const {
  const uint32_t right = scratch->symbols[left].next;
  if (right == kNone) return;
  const uint32_t bytes = scratch->symbols[left].bytes + scratch->symbols[right].bytes;
  const auto id = vocabulary().Find(text.substr(scratch->symbols[left].begin, bytes));
  if (!id.has_value()) return;
  scratch->heap.push_back(
      {.score = vocabulary().Score(*id), .left = left, .right = right, .bytes = bytes});
  std::push_heap(scratch->heap.begin(), scratch->heap.end());
}

void SpmTokenizer::Merge(std::string_view text, Scratch* scratch) const {
  auto& [symbols, heap] = *scratch;
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) PushCandidate(text, i, scratch);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate candidate = heap.back();
    heap.pop_back();
    Symbol& left = symbols[candidate.left];
    Symbol& right = symbols[candidate.right];
    // Either one may have merged with another since.
    if (left.bytes == 0 || right.bytes == 0 || left.bytes + right.bytes != candidate.bytes)
      continue;
    left.bytes += right.bytes;
    right.bytes = 0;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = candidate.left;
    if (left.previous != kNone) PushCandidate(text, left.previous, scratch);
    PushCandidate(text, candidate.left, scratch);
  }
}

void SpmTokenizer::AppendText(std::string_view text, std::vector<TokenId>* ids) const {
  if (const auto id = vocabulary().Find(text)) {
    ids->push_back(*id);
    return;
  }
  for (const char c : text) {
    if (const auto id = byte_tokens_[static_cast<unsigned char>(c)]) ids->push_back(*id);
  }
}

void SpmTokenizer::AppendNormalBytes(std::string_view token_text, std::string* bytes) const {
  AppendUnmarked(token_text, bytes);
}

std::string SpmTokenizer::description() const {
  return absl::StrCat("SentencePiece BPE, ", size(), " tokens");
}

}  // namespace weir
