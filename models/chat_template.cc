#include "models/chat_template.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "io/base.h"

namespace weir {
namespace {

using Messages = absl::Span<const ChatMessage>;

// Real templates have a few thousand bytes, of which a system message is the longest part.
constexpr size_t kMaxTemplateBytes = 256 * 1024;
constexpr size_t kMaxLiteralBytes = 16 * 1024;

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool ContainsAny(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return Contains(text, part); });
}

std::string Trim(std::string_view text) {
  return std::string(absl::StripAsciiWhitespace(AbslView(text)));
}

// Templates write `x['content'] | trim`, `x["content"]|trim`, `content.strip()` and the like.
bool TrimsContent(std::string_view source) {
  return ContainsAny(source,
                     {"content'] | trim", "content\"] | trim", "content']|trim", "content\"]|trim",
                      "content | trim", "content|trim", "content.strip()", "content'].strip()"});
}

// The value of a Jinja string literal whose text begins at `begin` and that `quote` ends; stops at
// `stop` where that comes first. Nullopt when it ends before `stop`, never, or after more than
// kMaxLiteralBytes.
std::optional<std::string> ReadLiteral(std::string_view source, size_t begin, char quote,
                                       std::string_view stop) {
  std::string value;
  for (size_t at = begin; at < std::min(source.size(), begin + kMaxLiteralBytes); ++at) {
    if (!stop.empty() && source.substr(at, stop.size()) == stop) return value;
    if (source[at] == quote) return stop.empty() ? std::optional(value) : std::nullopt;
    if (source[at] != '\\' || at + 1 == source.size()) {
      value += source[at];
      continue;
    }
    const char escaped = source[++at];
    value += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
  }
  return std::nullopt;
}

// The first literal `prefix` + VALUE + `stop` in the source; `prefix` is as written in Jinja.
std::optional<std::string> FindLiteral(std::string_view source, std::string_view prefix,
                                       std::string_view stop) {
  for (size_t at = source.find(prefix, 1); at != std::string_view::npos;
       at = source.find(prefix, at + 1)) {
    const char quote = source[at - 1];
    if (quote != '\'' && quote != '"') continue;
    std::optional<std::string> value = ReadLiteral(source, at + prefix.size(), quote, stop);
    if (value.has_value() && !value->empty()) return value;
  }
  return std::nullopt;
}

absl::Status CheckRoles(Messages messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant") continue;
    return absl::InvalidArgumentError(
        absl::StrCat("message ", i + 1, " of the chat has the role \"", role,
                     "\"; a chat has the roles system, user and assistant."));
  }
  return absl::OkStatus();
}

// A system message only in front; then user and assistant in turn, the user first.
absl::Status CheckAlternation(ChatFamily family, Messages messages) {
  const size_t first = !messages.empty() && messages[0].role == "system" ? 1 : 0;
  for (size_t i = first; i < messages.size(); ++i) {
    const std::string_view wanted = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role == wanted) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "message ", i + 1, " of the chat is of the role ", messages[i].role, " where the ",
        AbslView(ChatFamilyName(family)), " format wants ", AbslView(wanted),
        ": after an optional system message, user and assistant take turns."));
  }
  if (first == messages.size() && first == 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", AbslView(ChatFamilyName(family)),
                     " format has no place for a system message without a user message."));
  }
  return absl::OkStatus();
}

absl::Status NoSystemRole(ChatFamily family) {
  return absl::InvalidArgumentError(
      absl::StrCat("this model's ", AbslView(ChatFamilyName(family)),
                   " template has no place for a system message: put its text in front of the "
                   "first user message."));
}

// Qwen3 and its like keep the thoughts of the turn under way and drop those of turns gone by.
std::string ChatMlContent(std::string_view source, const ChatMessage& message, bool is_current) {
  constexpr std::string_view kBegin = "<think>";
  constexpr std::string_view kEnd = "</think>";
  const std::string& content = message.content;
  if (message.role != "assistant" || !Contains(source, "split('</think>')[-1]")) return content;
  const bool keeps_current = is_current && Contains(source, "last_query_index");
  std::string answer = content;
  std::string thought;
  const size_t end = content.rfind(kEnd);
  if (end != std::string::npos) {
    answer = content.substr(end + kEnd.size());
    answer.erase(0, std::min(answer.find_first_not_of('\n'), answer.size()));
    thought = content.substr(0, content.find(kEnd));
    const size_t begin = thought.rfind(kBegin);
    if (begin != std::string::npos) thought.erase(0, begin + kBegin.size());
    thought.erase(0, std::min(thought.find_first_not_of('\n'), thought.size()));
    thought.erase(thought.find_last_not_of('\n') + 1);
  }
  if (!keeps_current) return answer;
  answer.erase(0, std::min(answer.find_first_not_of('\n'), answer.size()));
  return absl::StrCat("<think>\n", thought, "\n</think>\n\n", answer);
}

// What the template writes behind the header of the turn to generate: models that always think
// are started on it.
std::string GenerationSuffix(std::string_view source) {
  constexpr std::string_view kHeader = "<|im_start|>assistant\\n";
  const size_t condition = source.rfind("if add_generation_prompt");
  if (condition == std::string_view::npos) return {};
  const size_t header = source.find(kHeader, condition);
  if (header == std::string_view::npos) return {};
  return ReadLiteral(source, header + kHeader.size(), source[header - 1], "").value_or("");
}

std::string FormatChatMl(std::string_view source, Messages messages, bool add_generation_prompt) {
  // Phi-4 has a token of its own between the role and the content, and no line ends.
  const bool has_separator = Contains(source, "<|im_sep|>");
  const std::string after_role = has_separator ? "<|im_sep|>" : "\n";
  const std::string after_turn = has_separator ? "<|im_end|>" : "<|im_end|>\n";
  const bool trims = TrimsContent(source);
  std::string text;
  const auto add = [&](std::string_view role, std::string_view content) {
    text.append("<|im_start|>").append(role).append(after_role);
    text.append(trims ? Trim(content) : std::string(content)).append(after_turn);
  };
  if (messages.empty() || messages[0].role != "system") {
    std::optional<std::string> standard =
        FindLiteral(source, "<|im_start|>system\\n", "<|im_end|>");
    if (!standard.has_value()) {
      standard = FindLiteral(source, "<|im_start|>system\n", "<|im_end|>");
    }
    if (standard.has_value()) add("system", *standard);
  }
  size_t after_last_user = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "user") after_last_user = i + 1;
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool is_current = i >= after_last_user && i + 1 == messages.size();
    add(messages[i].role, ChatMlContent(source, messages[i], is_current));
  }
  if (add_generation_prompt) {
    text.append("<|im_start|>assistant").append(after_role);
    text += GenerationSuffix(source);
  }
  return text;
}

std::string FormatLlama3(std::string_view source, Messages messages, bool add_generation_prompt) {
  std::string text;
  const auto add = [&](std::string_view role, std::string_view content) {
    text.append("<|start_header_id|>").append(role).append("<|end_header_id|>\n\n");
    text.append(content).append("<|eot_id|>");
  };
  // Llama 3.1 and later open with their knowledge's end and a date, which a template without a
  // clock has as a literal.
  const std::optional<std::string> knowledge =
      FindLiteral(source, "Cutting Knowledge Date: ", "\\n");
  if (knowledge.has_value()) {
    std::string system = absl::StrCat("Cutting Knowledge Date: ", *knowledge, "\n");
    constexpr std::string_view kDate = "date_string = \"";
    const size_t date = source.find(kDate);
    if (date != std::string_view::npos) {
      const auto value = ReadLiteral(source, date + kDate.size(), '"', "");
      absl::StrAppend(&system, "Today Date: ", value.value_or(""), "\n\n");
    }
    if (!messages.empty() && messages[0].role == "system") {
      system += Trim(messages[0].content);
      messages.remove_prefix(1);
    }
    add("system", system);
  }
  for (const ChatMessage& message : messages) add(message.role, Trim(message.content));
  if (add_generation_prompt) text += "<|start_header_id|>assistant<|end_header_id|>\n\n";
  return text;
}

std::string FormatPhi3(std::string_view source, Messages messages, bool add_generation_prompt) {
  std::string text;
  for (const ChatMessage& message : messages) {
    if (message.role == "system" && message.content.empty()) continue;
    absl::StrAppend(&text, "<|", message.role, "|>\n", message.content, "<|end|>\n");
  }
  if (add_generation_prompt) {
    text += "<|assistant|>\n";
  } else if (Contains(source, "{% else %}{{ eos_token }}")) {
    text += "<|endoftext|>";
  }
  return text;
}

absl::StatusOr<std::string> FormatGemma(std::string_view source, Messages messages,
                                        bool add_generation_prompt) {
  WEIR_RETURN_IF_ERROR(CheckAlternation(ChatFamily::kGemma, messages));
  std::string prefix;
  if (!messages.empty() && messages[0].role == "system") {
    if (Contains(source, "System role not supported")) return NoSystemRole(ChatFamily::kGemma);
    prefix = absl::StrCat(messages[0].content, "\n\n");
    messages.remove_prefix(1);
  }
  std::string text;
  for (const ChatMessage& message : messages) {
    absl::StrAppend(&text, "<start_of_turn>", message.role == "assistant" ? "model" : "user", "\n",
                    prefix, Trim(message.content), "<end_of_turn>\n");
    prefix.clear();
  }
  if (add_generation_prompt) text += "<start_of_turn>model\n";
  return text;
}

absl::StatusOr<std::string> FormatLlama2(std::string_view source, Messages messages) {
  WEIR_RETURN_IF_ERROR(CheckAlternation(ChatFamily::kLlama2, messages));
  const bool trims = TrimsContent(source);
  const bool repeats_begin = Contains(source, "bos_token + '[INST]");
  std::optional<std::string> system;
  if (!messages.empty() && messages[0].role == "system") {
    system = messages[0].content;
    messages.remove_prefix(1);
  } else if (Contains(source, "elif true == true")) {  // how templates switch a standard one on
    constexpr std::string_view kSet = "set system_message = '";
    const size_t at = source.find(kSet);
    if (at != std::string_view::npos) system = ReadLiteral(source, at + kSet.size(), '\'', "");
  }
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    std::string content = messages[i].content;
    if (i == 0 && system.has_value()) {
      content = absl::StrCat("<<SYS>>\n", *system, "\n<</SYS>>\n\n", content);
    }
    if (trims) content = Trim(content);
    if (messages[i].role == "assistant") {
      absl::StrAppend(&text, " ", content, " </s>");
    } else {
      absl::StrAppend(&text, repeats_begin && i > 0 ? "<s>" : "", "[INST] ", content, " [/INST]");
    }
  }
  return text;
}

// Where the generations of Mistral's template differ: spaces, trimming, the system message's place.
struct MistralStyle {
  std::string open;
  std::string close;
  std::string_view before_answer;
  std::string_view after_answer;
  bool trims_answer = false;
  bool has_system_tokens = false;  // v7
  bool system_goes_last = false;   // with the last user message, else with the first
  bool takes_system = false;
};

MistralStyle FindMistralStyle(std::string_view source) {
  MistralStyle style;
  style.open = ContainsAny(source, {"' [INST] '", "\" [INST] \""}) ? " [INST] "
               : ContainsAny(source, {"'[INST] '", "\"[INST] \""}) ? "[INST] "
                                                                   : "[INST]";
  style.close = ContainsAny(source, {"' [/INST]", "\" [/INST]"}) ? " [/INST]" : "[/INST]";
  style.before_answer = ContainsAny(source, {"' ' + message", "\" \" + message"}) ? " " : "";
  style.after_answer = ContainsAny(source, {"eos_token + ' '", "eos_token + \" \""}) ? " " : "";
  style.trims_answer = ContainsAny(source, {"|trim + eos_token", "| trim + eos_token"});
  style.has_system_tokens = Contains(source, "[SYSTEM_PROMPT]");
  style.system_goes_last = Contains(source, "loop.last and system_message");
  style.takes_system = style.system_goes_last || Contains(source, "system_message");
  return style;
}

absl::StatusOr<std::string> FormatMistral(std::string_view source, Messages messages) {
  WEIR_RETURN_IF_ERROR(CheckAlternation(ChatFamily::kMistral, messages));
  const MistralStyle style = FindMistralStyle(source);
  std::string text;
  std::string system;
  if (!messages.empty() && messages[0].role == "system") {
    if (style.has_system_tokens) {
      const bool spaced = ContainsAny(source, {"[SYSTEM_PROMPT] '", "[SYSTEM_PROMPT] \""});
      absl::StrAppend(&text, "[SYSTEM_PROMPT]", spaced ? " " : "", messages[0].content,
                      "[/SYSTEM_PROMPT]");
    } else if (style.takes_system) {
      system = absl::StrCat(messages[0].content, "\n\n");
    } else {
      return NoSystemRole(ChatFamily::kMistral);
    }
    messages.remove_prefix(1);
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& content = messages[i].content;
    if (messages[i].role == "assistant") {
      absl::StrAppend(&text, AbslView(style.before_answer),
                      style.trims_answer ? Trim(content) : content, "</s>",
                      AbslView(style.after_answer));
      continue;
    }
    const bool has_system = style.system_goes_last ? i + 1 == messages.size() : i == 0;
    absl::StrAppend(&text, style.open, has_system ? system : "", content, style.close);
  }
  return text;
}

}  // namespace

std::string_view ChatFamilyName(ChatFamily family) {
  switch (family) {
    case ChatFamily::kChatMl:
      return "ChatML";
    case ChatFamily::kLlama2:
      return "Llama 2";
    case ChatFamily::kLlama3:
      return "Llama 3";
    case ChatFamily::kMistral:
      return "Mistral";
    case ChatFamily::kGemma:
      return "Gemma";
    case ChatFamily::kPhi3:
      return "Phi 3";
  }
  return "unknown";
}

std::optional<ChatFamily> RecogniseChatTemplate(std::string_view chat_template) {
  if (chat_template.size() > kMaxTemplateBytes) return std::nullopt;
  const auto has = [&](std::string_view part) { return Contains(chat_template, part); };
  if (has("<|im_start|>")) {
    // SmolVLM borrows the token for a format of its own.
    if (has("<end_of_utterance>")) return std::nullopt;
    return ChatFamily::kChatMl;
  }
  if (has("[INST]") && has("[/INST]")) {
    return has("<<SYS>>") ? ChatFamily::kLlama2 : ChatFamily::kMistral;
  }
  if (has("<|start_header_id|>") && has("<|end_header_id|>") && has("<|eot_id|>")) {
    return ChatFamily::kLlama3;
  }
  if (has("<start_of_turn>") && has("<end_of_turn>")) return ChatFamily::kGemma;
  const bool has_roles = has("<|assistant|>") || has("'<|' + message['role'] + '|>'");
  if (has_roles && has("<|end|>") && !has("<|start|>")) return ChatFamily::kPhi3;
  return std::nullopt;
}

absl::StatusOr<std::string> FormatChat(ChatFamily family, std::string_view chat_template,
                                       absl::Span<const ChatMessage> messages,
                                       bool add_generation_prompt) {
  WEIR_RETURN_IF_ERROR(CheckRoles(messages));
  switch (family) {
    case ChatFamily::kChatMl:
      return FormatChatMl(chat_template, messages, add_generation_prompt);
    case ChatFamily::kLlama2:
      return FormatLlama2(chat_template, messages);
    case ChatFamily::kLlama3:
      return FormatLlama3(chat_template, messages, add_generation_prompt);
    case ChatFamily::kMistral:
      return FormatMistral(chat_template, messages);
    case ChatFamily::kGemma:
      return FormatGemma(chat_template, messages, add_generation_prompt);
    case ChatFamily::kPhi3:
      return FormatPhi3(chat_template, messages, add_generation_prompt);
  }
  return absl::InternalError("a chat family without a format");
}

}  // namespace weir
