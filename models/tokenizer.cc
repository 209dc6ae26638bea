#include "models/tokenizer.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "models/bpe_tokenizer.h"
#include "models/printable.h"
#include "models/spm_tokenizer.h"
#include "models/unigram_tokenizer.h"

namespace weir {
namespace {

struct Kind {
  std::string_view name;  // tokenizer.ggml.model
  absl::StatusOr<std::unique_ptr<Tokenizer>> (*make)(Metadata& metadata);
};

constexpr Kind kKinds[] = {
    {"gpt2", &BpeTokenizer::Make},
    {"llama", &SpmTokenizer::Make},
    {"t5", &UnigramTokenizer::Make},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Make(Metadata& metadata) {
  constexpr std::string_view kKey = "tokenizer.ggml.model";
  if (!metadata.Has(kKey)) {
    return absl::InvalidArgumentError(absl::StrCat(
        metadata.source, ": ", AbslView(kKey),
        " is missing: the file holds no vocabulary, so text cannot be encoded. Use a file that was "
        "converted with its tokenizer."));
  }
  WEIR_ASSIGN_OR_RETURN(const std::string name, metadata.GetString(kKey));
  std::string known;
  for (const Kind& kind : kKinds) {
    if (kind.name == name) return kind.make(metadata);
    if (!known.empty()) known += ", ";
    known += kind.name;
  }
  return absl::UnimplementedError(
      absl::StrCat(metadata.source, ": ", AbslView(kKey), " is \"", Printable(name),
                   "\", a kind of tokenizer that weir does not know. Known ones: ", known, "."));
}

}  // namespace weir
