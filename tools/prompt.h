// From the user's words to the tokens of a prompt: chat template where the model has one.
#ifndef WEIR_TOOLS_PROMPT_H_
#define WEIR_TOOLS_PROMPT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/model.h"
#include "models/chat_template.h"

namespace weir {

// The family of the model's template. NotFound-like refusal (exit code kUsage) when the template is
// not recognised; null when the file has none.
absl::StatusOr<std::optional<ChatFamily>> ModelChatFamily(const Model& model);

// One user turn (with an optional system message), or the text as it is when `raw` or the model has
// no template.
absl::StatusOr<std::vector<TokenId>> EncodePrompt(const Model& model, const std::string& text,
                                                  const std::string& system, bool raw);

}  // namespace weir

#endif  // WEIR_TOOLS_PROMPT_H_
