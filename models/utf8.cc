#include "models/utf8.h"

#include "io/base.h"

namespace weir {

size_t Utf8LengthFromLead(unsigned char lead) {
  if (lead < 0xC0) return 1;
  if (lead < 0xE0) return 2;
  return lead < 0xF0 ? 3 : 4;
}

Utf8Char DecodeUtf8(std::string_view text) {
  if (text.empty()) return {};
  const unsigned char lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xC2 || lead > 0xF4) return {};
  const uint32_t bytes = static_cast<uint32_t>(Utf8LengthFromLead(lead));
  if (text.size() < bytes) return {};
  uint32_t code_point = lead & (0xFFu >> (bytes + 1));
  for (uint32_t i = 1; i < bytes; ++i) {
    const unsigned char next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0) != 0x80) return {};
    code_point = code_point << 6 | (next & 0x3Fu);
  }
  if (bytes == 3 && (code_point < 0x800 || (code_point >= 0xD800 && code_point < 0xE000)))
    return {};
  if (bytes == 4 && (code_point < 0x10000 || code_point > 0x10FFFF)) return {};
  return {code_point, bytes};
}

void AppendUtf8(uint32_t code_point, std::string* text) {
  WEIR_CHECK(code_point <= 0x10FFFF);
  const auto tail = [&](int shift) {
    text->push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  };
  if (code_point < 0x80) {
    text->push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    text->push_back(static_cast<char>(0xC0 | code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    text->push_back(static_cast<char>(0xE0 | code_point >> 12));
    tail(6);
    tail(0);
  } else {
    text->push_back(static_cast<char>(0xF0 | code_point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace weir
