#include "models/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "models/utf8.h"

namespace weir {
namespace {

enum class Category : uint8_t { kFormat, kLetter, kMark, kNumber, kPunctuation, kSymbol };

struct CategoryRange {
  uint32_t first;
  uint32_t last;
  Category category;
};

// Debian 12's PCRE2 knows Unicode 14. These came with 15.0 and 15.1 (UnicodeData.txt); vocabularies
// in use were cut with them. U+180E is here because PCRE2 still counts it as white space, which
// Unicode ended in version 6.3.
constexpr CategoryRange kNewerRanges[] = {
    {0x0CF3, 0x0CF3, Category::kMark},          {0x0ECE, 0x0ECE, Category::kMark},
    {0x180E, 0x180E, Category::kFormat},        {0x2FFC, 0x2FFF, Category::kSymbol},
    {0x31EF, 0x31EF, Category::kSymbol},        {0x10EFD, 0x10EFF, Category::kMark},
    {0x1123F, 0x11240, Category::kLetter},      {0x11241, 0x11241, Category::kMark},
    {0x11B00, 0x11B09, Category::kPunctuation}, {0x11F00, 0x11F01, Category::kMark},
    {0x11F02, 0x11F02, Category::kLetter},      {0x11F03, 0x11F03, Category::kMark},
    {0x11F04, 0x11F10, Category::kLetter},      {0x11F12, 0x11F33, Category::kLetter},
    {0x11F34, 0x11F3A, Category::kMark},        {0x11F3E, 0x11F42, Category::kMark},
    {0x11F43, 0x11F4F, Category::kPunctuation}, {0x11F50, 0x11F59, Category::kNumber},
    {0x1342F, 0x1342F, Category::kLetter},      {0x13440, 0x13440, Category::kMark},
    {0x13441, 0x13446, Category::kLetter},      {0x13447, 0x13455, Category::kMark},
    {0x1B132, 0x1B132, Category::kLetter},      {0x1B155, 0x1B155, Category::kLetter},
    {0x1D2C0, 0x1D2D3, Category::kNumber},      {0x1DF25, 0x1DF2A, Category::kLetter},
    {0x1E030, 0x1E06D, Category::kLetter},      {0x1E08F, 0x1E08F, Category::kMark},
    {0x1E4D0, 0x1E4EB, Category::kLetter},      {0x1E4EC, 0x1E4EF, Category::kMark},
    {0x1E4F0, 0x1E4F9, Category::kNumber},      {0x1F6DC, 0x1F6DC, Category::kSymbol},
    {0x1F774, 0x1F776, Category::kSymbol},      {0x1F77B, 0x1F77F, Category::kSymbol},
    {0x1F7D9, 0x1F7D9, Category::kSymbol},      {0x1FA75, 0x1FA77, Category::kSymbol},
    {0x1FA87, 0x1FA88, Category::kSymbol},      {0x1FAAD, 0x1FAAF, Category::kSymbol},
    {0x1FABB, 0x1FABD, Category::kSymbol},      {0x1FABF, 0x1FABF, Category::kSymbol},
    {0x1FACE, 0x1FACF, Category::kSymbol},      {0x1FADA, 0x1FADB, Category::kSymbol},
    {0x1FAE8, 0x1FAE8, Category::kSymbol},      {0x1FAF7, 0x1FAF8, Category::kSymbol},
    {0x2B739, 0x2B739, Category::kLetter},      {0x2EBF0, 0x2EE5D, Category::kLetter},
    {0x31350, 0x323AF, Category::kLetter},
};

// A character of the same category and the same length in UTF-8 that PCRE2 knows.
std::string_view StandIn(Category category, uint32_t bytes) {
  switch (category) {
    case Category::kFormat:
      return "\xE2\x80\x8B";  // U+200B
    case Category::kLetter:
      return "\xF0\x90\x80\x80";  // U+10000
    case Category::kMark:
      return bytes == 3 ? "\xE0\xA4\x81" : "\xF0\x90\x87\xBD";  // U+901, U+101FD
    case Category::kNumber:
      return "\xF0\x90\x84\x87";  // U+10107
    case Category::kPunctuation:
      return "\xF0\x90\x84\x80";  // U+10100
    case Category::kSymbol:
      return bytes == 3 ? "\xE2\xBF\xB0" : "\xF0\x9D\x84\x80";  // U+2FF0, U+1D100
  }
  return {};
}

constexpr char kInvalidByteStandIn = '\x1A';  // a control: in no class that an expression names

// What to match instead of `text`: the same length, valid UTF-8, newer characters replaced by older
// ones of their category. `text` itself where nothing has to be replaced; else `storage`.
std::string_view MatchableText(std::string_view text, std::string* storage) {
  const auto writable = [&]() -> std::string& {
    if (storage->empty()) storage->assign(text);
    return *storage;
  };
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Char c = DecodeUtf8(text.substr(at));
    if (c.bytes == 0) {
      writable()[at++] = kInvalidByteStandIn;
      continue;
    }
    const auto* range = std::lower_bound(
        std::begin(kNewerRanges), std::end(kNewerRanges), c.code_point,
        [](const CategoryRange& r, uint32_t code_point) { return r.last < code_point; });
    if (range != std::end(kNewerRanges) && c.code_point >= range->first) {
      writable().replace(at, c.bytes, StandIn(range->category, c.bytes));
    }
    at += c.bytes;
  }
  return storage->empty() ? text : std::string_view(*storage);
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

}  // namespace

// One compiled expression.
class PreTokenizer::Expression {
 public:
  static absl::StatusOr<Expression> Compile(SplitAlternatives alternatives) {
    std::string pattern;
    for (const std::string_view alternative : alternatives) {
      if (!pattern.empty()) pattern += '|';
      pattern += alternative;
    }
    int error = 0;
    PCRE2_SIZE error_offset = 0;
    pcre2_code* code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &error_offset, nullptr);
    if (code == nullptr) {
      return absl::InternalError(absl::StrCat("PCRE2 refuses the expression ", pattern,
                                              " at offset ", error_offset, " (error ", error, ")"));
    }
    // Where the kernel forbids executable memory this fails, and matching is interpreted.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    return Expression(code);
  }

  // Cuts the piece [begin, end) of `text` and appends where each part ends.
  void Cut(std::string_view text, size_t begin, size_t end, pcre2_match_data* data,
           std::vector<size_t>* ends) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() + begin);
    const size_t bytes = end - begin;
    size_t at = 0;
    while (at < bytes) {
      int result = pcre2_match(code_.get(), subject, bytes, at, PCRE2_NO_UTF_CHECK, data, nullptr);
      if (result < 0 && result != PCRE2_ERROR_NOMATCH) {
        // The compiled code's stack is small; the interpreter has the heap.
        result = pcre2_match(code_.get(), subject, bytes, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             data, nullptr);
      }
      if (result < 0) break;  // no further match, or none within PCRE2's limits
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
      if (range[1] == range[0]) break;
      if (range[0] > at) ends->push_back(begin + range[0]);
      ends->push_back(begin + range[1]);
      at = range[1];
    }
    if (at < bytes) ends->push_back(end);
  }

 private:
  struct CodeDeleter {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  explicit Expression(pcre2_code* code) : code_(code) {}

  std::unique_ptr<pcre2_code, CodeDeleter> code_;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<PreTokenizer> PreTokenizer::Make(const PreTokenizerInfo& info) {
  PreTokenizer result;
  for (const SplitAlternatives& split : info.splits) {
    WEIR_ASSIGN_OR_RETURN(Expression expression, Expression::Compile(split));
    result.expressions_.push_back(std::move(expression));
  }
  return result;
}

std::vector<size_t> PreTokenizer::Split(std::string_view text) const {
  std::vector<size_t> ends;
  if (text.empty()) return ends;
  std::string storage;
  const std::string_view matchable = MatchableText(text, &storage);
  const MatchData data(pcre2_match_data_create(1, nullptr));
  WEIR_CHECK(data != nullptr);
  ends.push_back(text.size());
  std::vector<size_t> previous;
  for (const Expression& expression : expressions_) {
    previous.swap(ends);
    ends.clear();
    size_t begin = 0;
    for (const size_t end : previous) {
      expression.Cut(matchable, begin, end, data.get(), &ends);
      begin = end;
    }
  }
  return ends;
}

}  // namespace weir
