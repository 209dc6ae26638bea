// Chat prompts by recognising the common template families in tokenizer.chat_template; a template
// that is not recognised is said, never guessed at.
#ifndef WEIR_MODELS_CHAT_TEMPLATE_H_
#define WEIR_MODELS_CHAT_TEMPLATE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weir {

enum class ChatFamily { kChatMl, kLlama2, kLlama3, kMistral, kGemma, kPhi3 };

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

std::string_view ChatFamilyName(ChatFamily family);

// Null when `chat_template` (Jinja source) is of no known family.
std::optional<ChatFamily> RecogniseChatTemplate(std::string_view chat_template);

// The prompt text: to be encoded with parse_special, and with add_special (no BOS text is written
// here: the tokenizer adds it). `chat_template` is consulted for what differs within a family (a
// default system message, trimming, spaces, a date that it has as a literal). Ends with the header
// of the assistant's turn when `add_generation_prompt`. InvalidArgument when the family or this
// template has no place for a role as given (two user turns in a row, say).
absl::StatusOr<std::string> FormatChat(ChatFamily family, std::string_view chat_template,
                                       absl::Span<const ChatMessage> messages,
                                       bool add_generation_prompt);

}  // namespace weir

#endif  // WEIR_MODELS_CHAT_TEMPLATE_H_
