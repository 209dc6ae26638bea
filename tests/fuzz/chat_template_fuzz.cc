// Arbitrary template texts and conversations. Input: the template, a zero byte, then messages, each
// a line whose first byte selects the role.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string_view source = input.substr(0, zero);
  std::string_view rest = input.substr(std::min(zero + 1, input.size()));
  std::vector<weir::ChatMessage> messages;
  constexpr const char* kRoles[] = {"user", "assistant", "system", "tool"};
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    messages.push_back({.role = kRoles[static_cast<unsigned char>(line[0]) % 4],
                        .content = std::string(line.substr(1))});
  }
  const auto recognised = weir::RecogniseChatTemplate(source);
  for (int family = 0; family <= static_cast<int>(weir::ChatFamily::kPhi3); ++family) {
    if (recognised.has_value() && static_cast<int>(*recognised) != family) continue;
    (void)weir::FormatChat(static_cast<weir::ChatFamily>(family), source, messages,
                           family % 2 == 0);
  }
  return 0;
}
