#include "models/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir {
namespace {

using testing::HasSubstr;

std::vector<ChatMessage> MessagesOf(const nlohmann::json& array) {
  std::vector<ChatMessage> messages;
  for (const auto& item : array) {
    messages.push_back(
        {.role = item["role"].get<std::string>(), .content = item["content"].get<std::string>()});
  }
  return messages;
}

// tests/oracles/chat_oracle.py renders the cases with Jinja; null: the template refuses.
TEST(ChatTemplateTest, AgreesWithJinja) {
  std::ifstream stream("tests/data/chat_golden.json");
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  const nlohmann::json golden = nlohmann::json::parse(text, nullptr, false);
  ASSERT_TRUE(golden.is_array());
  int cases = 0;
  for (const auto& entry : golden) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    const std::string source = entry["template"].get<std::string>();
    const std::optional<ChatFamily> family = RecogniseChatTemplate(source);
    ASSERT_TRUE(family.has_value());
    for (const auto& item : entry["cases"]) {
      SCOPED_TRACE(item.dump());
      const absl::StatusOr<std::string> got =
          FormatChat(*family, source, MessagesOf(item["messages"]), item["generate"].get<bool>());
      ++cases;
      if (item["text"].is_null()) {
        EXPECT_EQ(got.status().code(), absl::StatusCode::kInvalidArgument);
        continue;
      }
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(*got, item["text"].get<std::string>());
    }
  }
  EXPECT_GE(cases, 200);
}

TEST(ChatTemplateTest, TellsLlama2FromMistral) {
  EXPECT_EQ(RecogniseChatTemplate("[INST] <<SYS>> [/INST]"), ChatFamily::kLlama2);
  EXPECT_EQ(RecogniseChatTemplate("[INST] [/INST]"), ChatFamily::kMistral);
}

TEST(ChatTemplateTest, DoesNotGuess) {
  for (const char* source :
       {"", "### Instruction:\n{{ prompt }}", "<|im_start|>User: x<end_of_utterance>",
        "<|start|>assistant<|channel|>final<|message|><|end|>", "USER: {{ x }} ASSISTANT:"}) {
    EXPECT_FALSE(RecogniseChatTemplate(source).has_value()) << source;
  }
}

TEST(ChatTemplateTest, RefusesWithTheReason) {
  const auto two_users = FormatChat(ChatFamily::kGemma, "<start_of_turn><end_of_turn>",
                                    {{"user", "a"}, {"user", "b"}}, true);
  EXPECT_THAT(std::string(two_users.status().message()), HasSubstr("message 2"));
  const auto unknown = FormatChat(ChatFamily::kChatMl, "", {{"narrator", "a"}}, true);
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("narrator"));
}

TEST(ChatTemplateTest, TakesTheStandardSystemMessageOnlyFromALiteral) {
  constexpr char kComputed[] = "{{ '<|im_start|>system\\n' + default + '<|im_end|>\\n' }}";
  EXPECT_EQ(*FormatChat(ChatFamily::kChatMl, kComputed, {{"user", "x"}}, false),
            "<|im_start|>user\nx<|im_end|>\n");
  constexpr char kLiteral[] = "{{ '<|im_start|>system\\nIt\\'s me.<|im_end|>\\n' }}";
  EXPECT_EQ(*FormatChat(ChatFamily::kChatMl, kLiteral, {{"user", "x"}}, false),
            "<|im_start|>system\nIt's me.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n");
}

}  // namespace
}  // namespace weir
