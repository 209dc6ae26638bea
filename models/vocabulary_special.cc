// The part of Vocabulary that knows special tokens: which end a generation, and where they stand in
// a text. The texts and rules are those of llama.cpp (src/llama-vocab.cpp), facts about the models
// in circulation that GGUF metadata does not carry.
#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "models/vocabulary.h"

namespace weir {
namespace {

// A text is searched once for each length that a special token has: bounds the time that takes.
constexpr size_t kMaxSpecialBytes = 512;

constexpr std::string_view kEndTexts[] = {"<|eot_id|>",
                                          "<|im_end|>",
                                          "<|end|>",
                                          "<|return|>",
                                          "<|call|>",
                                          "<|flush|>",
                                          "<|calls|>",
                                          "<end_of_turn>",
                                          "<|endoftext|>",
                                          "</s>",
                                          "<|eom_id|>",
                                          "<EOT>",
                                          "_<EOT>",
                                          "[EOT]",
                                          "[EOS]",
                                          "<|end_of_text|>",
                                          "<end_of_utterance>",
                                          "<eos>",
                                          "<turn|>",
                                          "<|tool_response>",
                                          "<｜end▁of▁sentence｜>",
                                          "[e~["};

// Markers of fill-in-the-middle: the key, its older name, and the texts that mean the same where
// the file has no key, the first one found counting.
struct FillMarker {
  std::string_view key;
  std::string_view old_key;
  bool ends_generation;
  std::string_view texts[8];
};
constexpr FillMarker kFillMarkers[] = {
    {"tokenizer.ggml.fim_pre_token_id",
     "tokenizer.ggml.prefix_token_id",
     false,
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
      "<|code_prefix|>", "<|prefix|>"}},
    {"tokenizer.ggml.fim_suf_token_id",
     "tokenizer.ggml.suffix_token_id",
     false,
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
      "<|code_suffix|>", "<|suffix|>"}},
    {"tokenizer.ggml.fim_mid_token_id",
     "tokenizer.ggml.middle_token_id",
     false,
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
      "<|code_middle|>", "<|middle|>"}},
    {"tokenizer.ggml.fim_pad_token_id",
     "",
     true,
     {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {"tokenizer.ggml.fim_rep_token_id",
     "",
     true,
     {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {"tokenizer.ggml.fim_sep_token_id", "", true, {"<|file_sep|>"}},
};

bool IsSpace(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }

bool Contains(const std::vector<TokenId>& sorted, TokenId id) {
  return std::binary_search(sorted.begin(), sorted.end(), id);
}

}  // namespace

absl::Status Vocabulary::FindEndOfGeneration(const Metadata& metadata) {
  for (const FillMarker& marker : kFillMarkers) {
    std::optional<TokenId> id;
    for (const std::string_view key : {marker.key, marker.old_key}) {
      if (key.empty() || !metadata.Has(key)) continue;
      WEIR_ASSIGN_OR_RETURN(const uint64_t value, metadata.GetUint(key));
      if (value >= size()) {
        return absl::InvalidArgumentError(
            absl::StrCat(metadata.source, ": ", AbslView(key), " is ", value, ", but the file has ",
                         size(), " tokens. Convert or download the file again."));
      }
      id = static_cast<TokenId>(value);
    }
    for (const std::string_view text : marker.texts) {
      if (id.has_value() || text.empty()) break;
      id = Find(text);
      if (id.has_value()) types_[static_cast<size_t>(*id)] = TokenType::kControl;
    }
    if (id.has_value() && marker.ends_generation) end_of_generation_.push_back(*id);
  }
  for (const std::string_view text : kEndTexts) {
    const std::optional<TokenId> id = Find(text);
    if (!id.has_value()) continue;
    end_of_generation_.push_back(*id);
    types_[static_cast<size_t>(*id)] = TokenType::kControl;
  }
  absl::c_sort(end_of_generation_);
  end_of_generation_.erase(std::unique(end_of_generation_.begin(), end_of_generation_.end()),
                           end_of_generation_.end());
  ApplyTextRules();
  return absl::OkStatus();
}

void Vocabulary::ApplyTextRules() {
  const auto ends = [&](std::string_view text) {
    const std::optional<TokenId> id = Find(text);
    return id.has_value() && IsEndOfGeneration(*id);
  };
  const auto drop = [&](std::string_view text, TokenType type) {
    const TokenId id = *Find(text);
    std::erase(end_of_generation_, id);
    types_[static_cast<size_t>(id)] = type;
  };
  // OpenAI's harmony format shows its channels to the reader.
  for (std::string_view text : {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}) {
    const std::optional<TokenId> id = Find(text);
    if (id.has_value()) types_[static_cast<size_t>(*id)] = TokenType::kUserDefined;
  }
  // There "<|end|>" ends a message, not the answer.
  const bool call = ends("<|call|>") || ends("<|calls|>");
  if (ends("<|end|>") && call && (ends("<|return|>") || ends("<|flush|>"))) {
    drop("<|end|>", TokenType::kUserDefined);
  }
  // Gemma 4 and PLaMo have "</s>" as the HTML tag that it looks like.
  if (ends("</s>") && (ends("<|tool_response>") || ends("<|plamo:eos|>"))) {
    drop("</s>", TokenType::kNormal);
  }
}

void Vocabulary::MarkStrippingTokens(const Metadata& metadata) {
  // GGUF has no field for this: llama.cpp goes by names.
  const std::string name =
      absl::AsciiStrToLower(metadata.GetStringOr("general.name", "").value_or(""));
  const std::string pre = metadata.GetStringOr("tokenizer.ggml.pre", "").value_or("");
  if (absl::StrContains(pre, "jina-v2-de") || absl::StrContains(pre, "jina-v2-es")) {
    if (const auto id = Find("<mask>")) strips_left_.push_back(*id);
  } else if (absl::StrContains(name, "phi-3") || absl::StrContains(name, "phi3")) {
    for (TokenId id = 0; InRange(id); ++id) {
      const std::string_view text = Text(id);
      if (text == "<unk>" || text == "<s>" || text == "<|endoftext|>") continue;
      if (IsSpecial(id, true) || text == "</s>") strips_right_.push_back(id);
    }
  } else if (absl::StrContains(name, "modern-bert")) {
    if (const auto id = Find("[MASK]")) strips_left_.push_back(*id);
  }
}

bool Vocabulary::IsSpecial(TokenId id, bool parse_special) const {
  const TokenType type = Type(id);
  if (type == TokenType::kUserDefined) return true;
  return parse_special && (type == TokenType::kControl || type == TokenType::kUnknown);
}

absl::Status Vocabulary::IndexSpecials(const std::string& source) {
  std::vector<SpecialLength> by_length(kMaxSpecialBytes + 1);
  for (TokenId id = 0; InRange(id); ++id) {
    if (!IsSpecial(id, true)) continue;
    const std::string_view text = Text(id);
    if (text.size() > kMaxSpecialBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": tokenizer.ggml.tokens entry ", id, " is a special token of ", text.size(),
          " bytes; at most ", kMaxSpecialBytes, " are looked for in a text. The file's vocabulary ",
          "is damaged or was converted wrongly: convert or download it again."));
    }
    SpecialLength& length = by_length[text.size()];
    length.bytes = static_cast<uint32_t>(text.size());
    length.first_bytes.set(static_cast<unsigned char>(text[0]));
    length.has_user_defined |= Type(id) == TokenType::kUserDefined;
  }
  std::copy_if(by_length.rbegin(), by_length.rend(), std::back_inserter(special_lengths_),
               [](const SpecialLength& length) { return length.bytes > 0; });
  return absl::OkStatus();
}

Vocabulary::Span Vocabulary::Widen(std::string_view text, Span span, size_t lowest,
                                   size_t highest) const {
  if (Contains(strips_left_, span.token)) {
    while (span.begin > lowest && IsSpace(text[span.begin - 1])) --span.begin;
  }
  if (Contains(strips_right_, span.token)) {
    while (span.end < highest && IsSpace(text[span.end])) ++span.end;
  }
  return span;
}

void Vocabulary::CutLength(std::string_view text, const SpecialLength& length, bool parse_special,
                           std::vector<Span>* spans) const {
  std::vector<Span> merged;
  const size_t bytes = length.bytes;
  size_t gap_begin = 0;
  for (size_t next = 0; next <= spans->size(); ++next) {
    const size_t gap_end = next < spans->size() ? (*spans)[next].begin : text.size();
    size_t at = gap_begin;
    while (at + bytes <= gap_end) {
      std::optional<TokenId> id;
      if (length.first_bytes[static_cast<unsigned char>(text[at])]) {
        id = Find(text.substr(at, bytes));
      }
      if (!id.has_value() || !IsSpecial(*id, parse_special)) {
        ++at;
        continue;
      }
      const Span span =
          Widen(text, {.begin = at, .end = at + bytes, .token = *id}, gap_begin, gap_end);
      merged.push_back(span);
      at = gap_begin = span.end;
    }
    if (next < spans->size()) {
      merged.push_back((*spans)[next]);
      gap_begin = (*spans)[next].end;
    }
  }
  spans->swap(merged);
}

std::vector<Fragment> Vocabulary::Partition(std::string_view text, bool parse_special) const {
  std::vector<Span> spans;
  for (const SpecialLength& length : special_lengths_) {
    if (length.bytes > text.size() || (!parse_special && !length.has_user_defined)) continue;
    CutLength(text, length, parse_special, &spans);
  }
  std::vector<Fragment> fragments;
  size_t at = 0;
  for (const Span& span : spans) {
    if (span.begin > at) {
      fragments.push_back({.text = text.substr(at, span.begin - at), .token = std::nullopt});
    }
    fragments.push_back({.text = {}, .token = span.token});
    at = span.end;
  }
  if (at < text.size()) fragments.push_back({.text = text.substr(at), .token = std::nullopt});
  return fragments;
}

}  // namespace weir
