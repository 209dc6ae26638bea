#include "tools/prompt.h"

#include "absl/strings/str_cat.h"
#include "io/base.h"
#include "tools/exit_codes.h"

namespace weir {

absl::StatusOr<std::optional<ChatFamily>> ModelChatFamily(const Model& model) {
  if (model.chat_template.empty()) return std::optional<ChatFamily>();
  const std::optional<ChatFamily> family = RecogniseChatTemplate(model.chat_template);
  if (family.has_value()) return family;
  return WithExitCode(
      ExitCode::kUsage,
      absl::InvalidArgumentError(absl::StrCat(
          model.path,
          ": its chat template is of none of the known families (ChatML, Llama 2, Llama 3, "
          "Mistral, Gemma, Phi). Pass --no-chat and a prompt that is written out in full")));
}

absl::StatusOr<std::vector<TokenId>> EncodePrompt(const Model& model, const std::string& text,
                                                  const std::string& system, bool raw) {
  const EncodeOptions options = {.add_special = true, .parse_special = true};
  if (raw) return model.tokenizer->Encode(text, options);
  WEIR_ASSIGN_OR_RETURN(const std::optional<ChatFamily> family, ModelChatFamily(model));
  if (!family.has_value()) return model.tokenizer->Encode(text, options);
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", text});
  absl::StatusOr<std::string> formatted =
      FormatChat(*family, model.chat_template, messages, /*add_generation_prompt=*/true);
  if (!formatted.ok()) return WithExitCode(ExitCode::kUsage, formatted.status());
  return model.tokenizer->Encode(*formatted, options);
}

}  // namespace weir
